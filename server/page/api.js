// Asks the server. The key stays in this variable: not in storage, not in a URL, and it is gone with the tab.

let key = "";
const listeners = new Set();

/** Sends this key with every request from now on; an empty text for none. */
export function setKey(text) {
  key = text.trim();
  for (const heard of listeners) heard(keyId());
}

/** The public part of the key, as in tsk_ID_SECRET; empty without a key. */
export function keyId() {
  return key && (key.match(/^tsk_([^_]+)_/)?.[1] ?? "set");
}

/** Calls `heard` with the public part of the key whenever another key is set. */
export function onKey(heard) {
  listeners.add(heard);
}

/** What a request sends to show who asks. */
export function authorization() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Why a request got no result. `status` is 0 if no answer came; `body` is the whole problem document. */
export class Problem extends Error {
  constructor(code, detail, { status = 0, retryAfter = null, body = {} } = {}) {
    super(detail);
    Object.assign(this, { code, detail, status, retryAfter, body });
  }

  /** Whether this says nothing of the request, but that the server, or the way to it, is away. */
  get away() {
    return this.status === 0 || this.status === 502 || (this.status === 504 && !this.body.code);
  }

  /** The problem that an answer describes. */
  static async of(response) {
    const body = await response.json().catch(() => ({}));
    const code = body.code ?? `http_${response.status}`;
    const seconds = Number.parseFloat(response.headers.get("Retry-After"));
    const detail = body.detail ?? `The answer was ${response.status} ${response.statusText}`.trim();
    return new Problem(code, detail, { status: response.status, retryAfter: seconds >= 0 ? seconds : null, body });
  }
}

/**
 * Fetches with the key. Throws Problem: `unreachable`, `no_answer` after `seconds`, or what the server says.
 *
 * `seconds` bounds the whole answer; null leaves it unbounded, for streams.
 */
export async function open(path, { method = "GET", headers = {}, body, signal, seconds = 30 } = {}) {
  const late = seconds === null ? null : AbortSignal.timeout(seconds * 1000);
  let response;
  try {
    response = await fetch(path, {
      method, body, signal: AbortSignal.any([signal, late].filter(Boolean)), cache: "no-store", headers: { ...authorization(), ...headers },
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    if (late?.aborted) throw new Problem("no_answer", `The server did not answer within ${seconds} s.`);
    throw new Problem("unreachable", "The server cannot be reached.");
  }
  if (response.status >= 400) throw await Problem.of(response);
  return response;
}

/** Asks for JSON. Returns `{status, headers, json}`; throws Problem, and AbortError when `signal` ends it. */
export async function ask(path, options = {}) {
  const response = await open(path, options);
  if (response.status === 204) return { status: 204, headers: response.headers, json: null };
  try {
    return { status: response.status, headers: response.headers, json: await response.json() };
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem("unreachable", "The answer broke off.");
  }
}
