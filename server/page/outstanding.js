// Follows the predictions that the server has: all of them in one event stream.

import { ask } from "./api.js";
import { follow } from "./events.js";
import { serverBack, serverGone } from "./shell.js";

const MOST_IDS = 100; // of one stream
const QUIET = 100; // ms without another prediction, after which the stream is opened anew for those that came
const LONGEST_QUIET = 1000;
const AFTER_REFUSAL = 2000;
const LIVE = ["queued", "starting", "leased"];

/**
 * The pictures whose predictions have not ended. `told(picture, change)` hears of each step, `ended(picture,
 * prediction)` of the end, and `lost(picture, problem)` of a prediction that the server does not know any more.
 */
export function outstanding({ told, ended, lost }) {
  const pictures = new Map(); // by the id of the prediction, in the order in which they were accepted
  let inStream = [];
  let stream;
  let timer = 0;
  let since = 0;

  const first = () => [...pictures.keys()].slice(0, MOST_IDS);

  // Those that have ended do no harm in a stream; only new ones need another.
  function reopenSoon() {
    if (first().every((id) => inStream.includes(id))) return;
    const now = performance.now();
    if (!timer) since = now;
    reopenIn(Math.max(0, Math.min(QUIET, since + LONGEST_QUIET - now)));
  }

  function reopenIn(milliseconds) {
    clearTimeout(timer);
    timer = setTimeout(reopen, milliseconds);
  }

  function reopen() {
    timer = 0;
    stream?.close();
    inStream = first();
    if (inStream.length) stream = follow(`/v1/predictions/events?id=${inStream.join("&id=")}`, { onEvent, onState });
  }

  function onEvent(name, data) {
    const picture = pictures.get(data.id);
    if (!picture) return;
    if (name === "gone") drop(picture, data);
    else if (!LIVE.includes(name)) settle(picture, data);
    else told(picture, { state: name, queue: data, first: Math.max(picture.first ?? 0, data.position ?? 0) });
  }

  function onState(state, problem) {
    if (state === "open") serverBack();
    else if (problem?.away) serverGone();
    else if (state === "ended" || state === "refused") lookAtEach();
  }

  // A stream says nothing more, although some have not ended here: each of them is asked for.
  async function lookAtEach() {
    for (const picture of inStream.map((id) => pictures.get(id)).filter(Boolean)) {
      try {
        settle(picture, (await ask(picture.prediction.urls.get)).json);
      } catch (problem) {
        if (problem.away) await serverGone();
        else drop(picture, problem);
      }
    }
    if (pictures.size) reopenIn(AFTER_REFUSAL);
  }

  function settle(picture, prediction) {
    if (!LIVE.includes(prediction.status) && pictures.delete(prediction.id)) ended(picture, prediction);
    reopenSoon();
  }

  function drop(picture, problem) {
    if (pictures.delete(picture.prediction.id)) lost(picture, problem);
    reopenSoon();
  }

  /** Follows a prediction that was accepted. */
  function add(picture, prediction) {
    const { id, status, queue } = prediction;
    pictures.set(id, picture);
    told(picture, { prediction, state: status, queue, first: queue?.position });
    reopenSoon();
  }

  return { add, settle, drop, has: (picture) => pictures.has(picture.prediction?.id), size: () => pictures.size };
}
