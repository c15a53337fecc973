// Says in words for people what happened to a picture. The server's own text says the rest.

const TITLES = {
  day_limit: "No more pictures today",
  deadline_passed: "It waited too long",
  disk_full: "The server takes no new pictures",
  image_broken: "The picture is damaged",
  image_empty: "The file is empty",
  image_too_large: "The picture is too large",
  image_truncated: "The picture is cut off",
  image_unsupported: "This picture cannot be read",
  key_missing: "This tier wants a key",
  key_unknown: "The key is not known here",
  queue_full: "The queue is full",
  queued_limit: "You have as many waiting as you may",
  rate_limit: "Too many at once",
  tier_not_allowed: "The key does not open this tier",
  too_many_bytes: "The file is too large",
};

/** How far a worker is that starts. */
export const STAGES = { pending: "waits for a node", scheduled: "has a node", pulling: "pulls its image", loading: "loads the model" };

/** `{title, text}` of a problem: what happened, and the numbers or what can be done. */
export function explain({ code, detail }) {
  const text = code === "key_missing" ? "Enter a key that opens it, or choose another tier." : sentence(detail);
  return { title: TITLES[code] ?? "It did not work", text };
}

/** Whether another key would help. */
export function wantsKey(problem) {
  return /^(key_|tier_not_allowed)/.test(problem?.code);
}

/** Whether the picture itself is wrong. */
export function isWrong(problem) {
  return /^(image_|too_many_bytes)/.test(problem?.code);
}

/** A text of the server as a sentence: with a capital letter and a full stop. */
export function sentence(text) {
  return text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "";
}
