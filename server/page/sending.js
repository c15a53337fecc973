// Sends pictures, a few at once, and follows what becomes of them until each has its end.
//
// A picture is a plain object. Its `state` is "here" (in this page; with `problem` and `retryAt` if it was refused for
// now), "sending", one of LIVE (`queue` says where it stands), "removed" (before it was sent), or one of ENDED (with
// `prediction`, the answer, and `problem`).

import { ask, Problem } from "./api.js";
import { follow } from "./events.js";
import { serverGone } from "./shell.js";

const UPLOADS = 3; // at once; a browser has six connections to a server, and the streams take two
const MOST_OUTSTANDING = 200; // at the server; the others wait in this page
const LONGEST_RETRY = 600; // seconds; what may come back later has failed
const RETRY = 2; // seconds, where the server does not say when
const ANSWER = 60; // seconds, and one more for each 16 KiB of an upload
const MOST_IDS = 100; // of one stream
const GATHERING = 150; // ms, until the stream is opened anew for new ones
const LIVE = ["queued", "starting", "leased"];

/** The states in which a picture stays. */
export const ENDED = ["done", "failed", "canceled"];

const pending = []; // those that wait in this page, the next one first
const outstanding = new Map(); // by the id of the prediction, in the order in which they were accepted
const pausedUntil = {}; // by tier; in milliseconds since 1970
let changed;
let uploading = 0;
let away = false;
let followed = []; // ids, by the present stream
let stream;
let timer = 0;

/** Has `told(picture)` called whenever a picture has changed. */
export function onChange(told) {
  changed = told;
}

/** Sends a picture when its turn comes. */
export function send(picture) {
  pending.push(picture);
  set(picture, { state: "here", problem: null, prediction: null, retryAt: 0, first: 0 });
  pump();
}

/** Has a picture fail. */
export function fail(picture, problem, prediction = picture.prediction) {
  set(picture, { state: "failed", problem, prediction });
  pump();
}

/** Takes a picture back, wherever it is. */
export async function cancel(picture) {
  const place = pending.indexOf(picture);
  if (place >= 0) {
    pending.splice(place, 1);
    return set(picture, { state: "removed" });
  }
  picture.upload?.abort();
  if (!outstanding.has(picture.prediction?.id)) return;
  set(picture, { canceling: true });
  await look(picture, "DELETE");
  set(picture, { canceling: false });
}

function set(picture, change) {
  changed(Object.assign(picture, change));
}

function pump() {
  while (!away && uploading < UPLOADS && outstanding.size + uploading < MOST_OUTSTANDING) {
    const place = pending.findIndex(({ tier }) => !(pausedUntil[tier] > Date.now()));
    if (place < 0) return;
    upload(pending.splice(place, 1)[0]);
  }
}

async function upload(picture) {
  const { tier, topK, file } = picture;
  const own = new AbortController();
  uploading += 1;
  set(picture, { state: "sending", problem: null, retryAt: 0, upload: own });
  try {
    const { status, json } = await ask(`/img-classification/${tier}?top_k=${topK}`, {
      method: "POST",
      body: file,
      headers: {
        "Content-Type": "application/octet-stream",
        // While others wait, to wait for this one too would hold up the next upload.
        Prefer: outstanding.size ? "respond-async" : "wait=1",
      },
      signal: own.signal,
      seconds: Math.ceil(ANSWER + file.size / 16_384),
    });
    if (status === 202) accepted(picture, json);
    else end(picture, json);
  } catch (problem) {
    if (own.signal.aborted) set(picture, { state: "canceled" });
    else if (problem instanceof Problem) refused(picture, problem);
    else throw problem;
  } finally {
    uploading -= 1;
    pump();
  }
}

function refused(picture, problem) {
  const { status, retryAfter, body } = problem;
  const seconds = retryAfter ?? RETRY;
  if (body.prediction) end(picture, body.prediction);
  else if (problem.away) waitForServer(picture);
  else if ((status === 503 || (status === 429 && retryAfter !== null)) && seconds <= LONGEST_RETRY) {
    pausedUntil[picture.tier] = Date.now() + 1000 * seconds; // others for this tier would be refused too
    putBack(picture, { problem, retryAt: pausedUntil[picture.tier] });
    setTimeout(pump, 1000 * seconds + 20);
  } else fail(picture, problem);
}

async function waitForServer(picture) {
  away = true;
  putBack(picture);
  await serverGone();
  away = false;
  pump();
}

function putBack(picture, change) {
  pending.unshift(picture);
  set(picture, { state: "here", ...change });
}

function accepted(picture, prediction) {
  const { id, status, queue } = prediction;
  outstanding.set(id, picture);
  set(picture, { prediction, state: status, queue, first: queue?.position });
  followSoon();
}

function end(picture, prediction) {
  const { id, status, results } = prediction;
  const error = prediction.error ?? results[0]?.error;
  const state = { succeeded: "done", canceled: "canceled" }[status];
  outstanding.delete(id);
  if (state && !error) set(picture, { state, prediction });
  else fail(picture, new Problem(error?.code ?? status, error?.detail), prediction);
  followSoon();
  pump();
}

function lose(picture, problem) {
  outstanding.delete(picture.prediction.id);
  fail(picture, problem);
  followSoon();
}

const oldest = () => [...outstanding.keys()].slice(0, MOST_IDS);

// Those that have ended do no harm in a stream; only new ones need another.
function followSoon() {
  if (!oldest().every((id) => followed.includes(id))) timer ||= setTimeout(followAll, GATHERING);
}

function followAll() {
  timer = 0;
  stream?.close();
  followed = oldest();
  if (!followed.length) return;
  stream = follow(`/v1/predictions/events?id=${followed.join("&id=")}`, {
    onEvent(name, data) {
      const picture = outstanding.get(data.id);
      if (!picture) return;
      if (name === "gone") lose(picture, data);
      else if (!LIVE.includes(name)) end(picture, data);
      else set(picture, { state: name, queue: data, first: Math.max(picture.first ?? 0, data.position ?? 0) });
    },
    onState: (state) => (state === "ended" || state === "refused") && lookAtEach(),
  });
}

// The stream says nothing more, although some have not ended here.
async function lookAtEach() {
  for (const picture of followed.map((id) => outstanding.get(id)).filter(Boolean)) await look(picture);
  setTimeout(followAll, 1000 * RETRY);
}

async function look(picture, method) {
  try {
    const { json } = await ask(picture.prediction.urls.get, { method });
    if (!LIVE.includes(json.status) && outstanding.has(json.id)) end(picture, json);
  } catch (problem) {
    if (problem.away) await serverGone();
    else if (problem.status < 500) lose(picture, problem);
  }
}
