// Follows an event stream (WHATWG HTML, server-sent events) by fetch, because EventSource cannot send a key.

import { open, Problem } from "./api.js";

const FIRST_PAUSE = 500; // ms; doubled at each failure in a row
const LONGEST_PAUSE = 5000;
const SILENCE = 45_000; // ms; the server writes a comment every 15 s

/**
 * Reads events until `close()`, until the server says that there are no more (204), or until it refuses.
 *
 * `onEvent(name, data, id)` gets the parsed JSON of each event. `onState(state, problem)` hears "open" when events can
 * come, "drained" when this server stops and another connection is made, "lost" when none can be made or one broke,
 * "ended" when nothing more comes, and "refused" with the Problem of a request that would be refused again.
 */
export function follow(path, { onEvent, onState = () => {} }) {
  const closed = new AbortController();
  run(path, onEvent, onState, closed.signal).catch((error) => {
    if (!closed.signal.aborted) throw error;
  });
  return { close: () => closed.abort() };
}

async function run(path, onEvent, onState, closed) {
  const stream = { lastId: "", pause: FIRST_PAUSE, drained: false };
  let failures = 0;
  while (!closed.aborted) {
    let wait = stream.pause;
    try {
      const headers = { Accept: "text/event-stream", ...(stream.lastId && { "Last-Event-ID": stream.lastId }) };
      const response = await connect(path, headers, closed);
      if (response.status === 204) return onState("ended");
      failures = 0;
      onState("open");
      await read(response.body, stream, onEvent, closed);
      if (stream.drained) onState("drained");
      wait = stream.pause;
    } catch (error) {
      if (closed.aborted) return;
      const problem = error instanceof Problem ? error : new Problem("unreachable", "The connection broke off.");
      if (problem.status >= 400 && problem.status < 500 && problem.retryAfter === null) return onState("refused", problem);
      failures += 1;
      onState("lost", problem);
      wait = Math.max(1000 * problem.retryAfter, Math.min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE));
    }
    stream.drained = false;
    await sleep(wait * (0.75 + Math.random() / 2), closed);
  }
}

// A stream lasts, so only its head has to come in time.
async function connect(path, headers, closed) {
  const opening = new AbortController();
  const stop = () => opening.abort();
  const timer = setTimeout(stop, 15_000);
  closed.addEventListener("abort", stop);
  try {
    return await open(path, { headers, signal: opening.signal, seconds: null });
  } finally {
    clearTimeout(timer);
  }
}

async function read(body, stream, onEvent, closed) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new Parser(stream, (name, data, id) => {
    if (name === "drain") stream.drained = true;
    else onEvent(name, data, id);
  });
  while (!closed.aborted) {
    let timer;
    const silence = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("Nothing was heard for too long.")), SILENCE);
    });
    try {
      const { value, done } = await Promise.race([reader.read(), silence]);
      if (done) return;
      parser.feed(value);
    } catch (error) {
      reader.cancel().catch(() => {});
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
  reader.cancel().catch(() => {});
}

/** Takes the text of a stream in pieces, and gives `emit` each event as soon as it is whole. */
class Parser {
  constructor(stream, emit) {
    Object.assign(this, { stream, emit, rest: "", name: "", data: [], id: stream.lastId });
  }

  feed(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") return this.dispatch();
    const [, field, value] = line.match(/^([^:]*)(?:: ?(.*))?$/s);
    if (field === "event") this.name = value ?? "";
    else if (field === "data") this.data.push(value ?? "");
    else if (field === "id") this.id = value ?? "";
    else if (field === "retry" && /^\d+$/.test(value ?? "")) this.stream.pause = Math.min(Number(value), LONGEST_PAUSE);
  }

  dispatch() {
    const { name, data, id } = this;
    [this.name, this.data, this.stream.lastId] = ["", [], id];
    if (!data.length) return;
    try {
      this.emit(name || "message", JSON.parse(data.join("\n")), id);
    } catch (error) {
      reportError(error); // a fault of this page is no fault of the connection
    }
  }
}

function sleep(milliseconds, closed) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    closed.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
