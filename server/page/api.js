// Asks the server. The key stays in this variable: not in storage, not in a URL, and it is gone with the tab.

let key = "";
const listeners = [];

/** Sends this key with every request from now on; an empty text for none. */
export function setKey(text) {
  key = text.trim();
  for (const heard of listeners) heard(keyId());
}

/** The public part of the key, as in tsk_ID_SECRET; empty without a key. */
export function keyId() {
  return key && (key.split("_")[2] ? key.split("_")[1] : "set");
}

/** The header that shows who asks. */
export function authorization() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Calls `heard` with the public part of the key whenever another one is set. */
export function onKey(heard) {
  listeners.push(heard);
}

/** Waits about so many milliseconds, so that not all pages ask at once. */
export function rest(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds * (0.75 + Math.random() / 2)));
}

/** Why a request got no result. `status` is 0 if no answer came; `body` is the problem document. */
export class Problem extends Error {
  constructor(code, detail, { status = 0, retryAfter = null, body = {} } = {}) {
    super(detail);
    Object.assign(this, { code, detail, status, retryAfter, body });
  }

  /** Whether this says only that the server, or the way to it, is away. */
  get away() {
    return this.code === "unreachable" || (this.status >= 502 && !this.body.code);
  }
}

async function problemOf(response) {
  const { status, headers } = response;
  const body = await response.json().catch(() => ({}));
  const retryAfter = headers.has("Retry-After") ? Number.parseInt(headers.get("Retry-After"), 10) : null;
  return new Problem(body.code ?? `http_${status}`, body.detail ?? `The answer was ${status}.`, { status, retryAfter, body });
}

/**
 * Fetches with the key. `seconds` bounds the whole answer; null leaves it unbounded, for streams.
 *
 * Throws Problem: `unreachable`, `no_answer` in time, or what the server says; AbortError when `signal` ends it.
 */
export async function open(path, { method, headers, body, signal, seconds = 30 } = {}) {
  const late = seconds && AbortSignal.timeout(seconds * 1000);
  let response;
  try {
    response = await fetch(path, {
      method, body, signal: AbortSignal.any([signal, late].filter(Boolean)), headers: { ...authorization(), ...headers },
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    if (late?.aborted) throw new Problem("no_answer", `The server did not answer within ${seconds} s.`);
    throw new Problem("unreachable", "The server cannot be reached.");
  }
  if (response.status >= 400) throw await problemOf(response);
  return response;
}

/** Asks for JSON: `{status, headers, json}`. Throws as `open`. */
export async function ask(path, options) {
  const response = await open(path, options);
  try {
    return { status: response.status, headers: response.headers, json: await response.json() };
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new Problem("unreachable", "The answer broke off.");
  }
}
