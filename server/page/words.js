// Says in words for people why a picture has no labels. What is not listed here, the server says well enough itself.

const TITLES = {
  attempts_exhausted: "Its workers died",
  blob_missing: "The picture was lost",
  busy: "The server is busy",
  bucket_full: "The server takes no new pictures",
  bytes_queued_limit: "You have as much waiting as you may",
  day_limit: "Your pictures for today are used up",
  deadline_passed: "It waited too long",
  disk_full: "The server takes no new pictures",
  image_broken: "The picture is damaged",
  image_empty: "The file is empty",
  image_too_large: "The picture is too large",
  image_too_slow: "The picture takes too long to read",
  image_truncated: "The picture is cut off",
  image_unsupported: "This is no picture that can be read",
  key_expired: "The key has expired",
  key_missing: "This tier wants a key",
  key_revoked: "The key was revoked",
  key_unknown: "The key is not known here",
  model_failed: "The model could not make sense of it",
  no_answer: "The server did not answer",
  no_such_prediction: "The server does not know it any more",
  no_such_tier: "This tier is gone",
  outcome_unknown: "The server is not sure whether it has it",
  queue_bytes_full: "The queue is full",
  queue_full: "The queue is full",
  queued_limit: "You have as many waiting as you may",
  rate_limit: "Too many at once",
  read_only: "The server takes no new pictures",
  result_gone: "The result is not kept any more",
  storage_unavailable: "The server cannot store it now",
  tier_not_allowed: "The key does not open this tier",
  tier_removed: "The tier was removed",
  too_many_bytes: "The file is too large",
  too_many_wrong_keys: "Too many wrong keys",
  unreachable: "The server cannot be reached",
  unreadable: "The file cannot be read",
};
const TEXTS = {
  key_missing: "Enter a key that opens it, or choose another tier.",
  unreachable: "",
  no_answer: "It may be overloaded. Send the picture again.",
};
const KEYS = new Set(["key_missing", "key_unknown", "key_expired", "key_revoked", "tier_not_allowed"]);

/** `{title, text}` of a problem: what happened, and what can be done. */
export function explain({ code, detail }) {
  const title = TITLES[code] ?? "It did not work";
  const text = sentence(TEXTS[code] ?? detail ?? "");
  return { title, text: text === `${title}.` ? "" : text };
}

/** Whether another key would help. */
export function wantsKey(problem) {
  return KEYS.has(problem?.code);
}

/** A text of the server as a sentence: with a capital letter and a full stop. */
export function sentence(text) {
  const trimmed = text.trim();
  if (!trimmed) return "";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}
