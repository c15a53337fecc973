// Follows the predictions that the server has: all of them in one event stream.

import { ask } from "./api.js";
import { follow } from "./events.js";
import { serverBack, serverGone } from "./shell.js";

const MOST_IDS = 100; // of one stream
const QUIET = 100; // ms without another prediction, after which the stream is opened anew for those that came
const LONGEST_QUIET = 1000; // ms
const AFTER_REFUSAL = 2000; // ms
const LIVE = new Set(["queued", "starting", "leased"]);

/**
 * The pictures whose predictions have not ended. `told(picture, change)` hears of each step, `ended(picture,
 * prediction)` of the end, `lost(picture, problem)` of a prediction that the server does not know any more, and
 * `moved()` that there is place for another.
 */
export function following({ told, ended, lost, moved }) {
  const pictures = new Map(); // by the id of the prediction, in the order in which they were accepted
  let stream = null;
  let inStream = new Set();
  let timer = 0;
  let since = 0;

  function add(picture, prediction) {
    pictures.set(prediction.id, picture);
    const { status, queue, attempts } = prediction;
    told(picture, { prediction, state: status === "leased" ? "leased" : "queued", queue, attempts, first: queue?.position });
    reopenSoon();
  }

  function has(picture) {
    return pictures.get(picture.prediction?.id) === picture;
  }

  function settle(picture, prediction) {
    if (LIVE.has(prediction.status)) return;
    pictures.delete(prediction.id);
    ended(picture, prediction);
    reopenSoon();
    moved();
  }

  function drop(picture, problem) {
    pictures.delete(picture.prediction.id);
    lost(picture, problem);
    reopenSoon();
    moved();
  }

  // Those that have ended do no harm in a stream; only new ones need another.
  function reopenSoon() {
    const wanted = [...pictures.keys()].slice(0, MOST_IDS);
    if (wanted.every((id) => inStream.has(id))) return;
    const now = performance.now();
    if (!timer) since = now;
    clearTimeout(timer);
    timer = setTimeout(reopen, Math.max(0, Math.min(QUIET, since + LONGEST_QUIET - now)));
  }

  function reopen() {
    timer = 0;
    stream?.close();
    stream = null;
    inStream = new Set([...pictures.keys()].slice(0, MOST_IDS));
    if (!inStream.size) return;
    const query = new URLSearchParams([...inStream].map((id) => ["id", id]));
    stream = follow(`/v1/predictions/events?${query}`, { onEvent, onState });
  }

  function onEvent(name, data) {
    const picture = pictures.get(data.id);
    if (!picture) return;
    if (name === "gone") return drop(picture, data);
    if (!LIVE.has(name)) return settle(picture, data);
    if (name === "leased") return told(picture, { state: name, queue: null, attempts: data.attempts });
    const first = Math.max(picture.first ?? 0, data.position);
    told(picture, { state: name, queue: data, first, stage: data.stage ?? null });
  }

  function onState(state, problem) {
    if (state === "open") serverBack();
    else if (state === "lost" && problem.away) serverGone();
    else if (state === "ended" || state === "refused") lookAtEach();
  }

  // A stream that says nothing more of predictions that have not ended here: each of them is asked for.
  async function lookAtEach() {
    const ids = inStream;
    inStream = new Set();
    for (const id of ids) {
      const picture = pictures.get(id);
      if (!picture) continue;
      try {
        settle(picture, (await ask(`/v1/predictions/${id}`)).json);
      } catch (problem) {
        if (problem.status >= 400 && problem.status < 500) drop(picture, problem);
        else await serverGone();
      }
    }
    clearTimeout(timer);
    timer = setTimeout(reopen, AFTER_REFUSAL);
  }

  return { add, has, settle, drop, get size() { return pictures.size; } };
}
