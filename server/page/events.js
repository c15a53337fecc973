// Follows an event stream of the server by fetch, because EventSource cannot send a key.

import { open, Problem, rest } from "./api.js";
import { serverBack, serverGone } from "./shell.js";

const FIRST_PAUSE = 500; // ms; doubled at each failure in a row
const LONGEST_PAUSE = 5000;
const OPENING = 15_000; // until the head of the answer has come
const SILENCE = 45_000; // the server writes a comment every 15 s

/**
 * Reads events until `close()`, and says when the server is gone and when it is back.
 *
 * `onEvent(name, data)` gets the JSON of each event. `onState(state, problem)` hears "open", "drained" (this server
 * stops), "lost" (for now), and at last "ended" (no event will come) or "refused".
 */
export function follow(path, { onEvent, onState = () => {} }) {
  const closed = new AbortController();
  run(path, onEvent, onState, closed.signal);
  return { close: () => closed.abort() };
}

async function run(path, onEvent, onState, closed) {
  const stream = { id: "", pause: FIRST_PAUSE };
  for (let failures = 0; !closed.aborted; ) {
    let { pause } = stream;
    try {
      if (!(await connect(path, stream, onEvent, onState, closed))) return onState("ended");
      [failures, pause] = [0, stream.pause];
    } catch (error) {
      if (closed.aborted) return;
      const problem = error instanceof Problem ? error : new Problem("unreachable", "The connection broke off.");
      const { status, retryAfter } = problem;
      if (status >= 400 && status < 500 && retryAfter === null) return onState("refused", problem);
      if (problem.away) serverGone();
      onState("lost", problem);
      pause = Math.max(1000 * retryAfter, Math.min(FIRST_PAUSE * 2 ** failures, LONGEST_PAUSE));
      failures += 1;
    }
    await rest(pause);
  }
}

// One connection; false if the server says that nothing more comes.
async function connect(path, stream, onEvent, onState, closed) {
  const own = new AbortController();
  const headers = { Accept: "text/event-stream", ...(stream.id && { "Last-Event-ID": stream.id }) };
  let timer = setTimeout(() => own.abort(), OPENING);
  try {
    const response = await open(path, { headers, signal: AbortSignal.any([own.signal, closed]), seconds: null });
    if (response.status === 204) return false;
    serverBack();
    onState("open");
    const lines = reader(stream, onEvent, onState);
    for (const texts = response.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
      clearTimeout(timer);
      timer = setTimeout(() => own.abort(), SILENCE);
      const { value, done } = await texts.read();
      if (done) return true;
      lines(value);
    }
  } finally {
    clearTimeout(timer);
    own.abort();
  }
}

// Takes the text of a stream in pieces, and tells of each event as soon as it is whole: an empty line follows.
function reader(stream, onEvent, onState) {
  let rest = "";

  function tell(block) {
    const { event, data, id, retry } = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s)));
    stream.id = id ?? stream.id;
    if (retry) stream.pause = Math.min(Number(retry), LONGEST_PAUSE);
    if (event === "drain") onState("drained");
    else if (data) {
      try {
        onEvent(event, JSON.parse(data));
      } catch (error) {
        reportError(error); // a fault of this page is none of the connection
      }
    }
  }

  return (text) => {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    blocks.forEach(tell);
  };
}
