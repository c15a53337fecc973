// Sends pictures, a few at once, and follows what becomes of them until each has its end.

import { ask, Problem } from "./api.js";
import { follow } from "./events.js";
import { serverBack, serverGone } from "./shell.js";

const UPLOADS = 3; // at once; a browser has six connections to a server, and the streams take two
const MOST_OUTSTANDING = 200; // predictions that the server has and that have not ended; the others wait here
const LONGEST_RETRY = 600; // seconds; whoever may come back later than that is told so
const RETRY = 2; // seconds, where the server does not say when
const ANSWER = 60; // seconds, and those of an upload at SLOWEST bytes a second
const SLOWEST = 16_384;
const MOST_IDS = 100; // of one stream
const QUIET = 100; // ms without another prediction, after which the stream is opened anew for those that came
const LONGEST_QUIET = 1000;
const LIVE = ["queued", "starting", "leased"];

/** The states in which a picture stays. */
export const ENDED = ["done", "failed", "canceled"];

/**
 * What is done with pictures, which are plain objects. `changed(picture)` hears whenever one has changed.
 *
 * `state` is "here" (waits in this page; with `problem` and `retryAt` if it was refused for now), "sending", one of
 * LIVE (`queue` is what the server says of it), "removed" (taken back before it was sent), or one of ENDED:
 * `prediction` is the answer, and `problem` why it failed.
 */
export class Sending {
  #pending = []; // those that wait in this page, the next one first
  #uploading = 0;
  #pausedUntil = {}; // by tier; in milliseconds since 1970
  #away = false;
  #outstanding = new Map(); // by the id of the prediction, in the order in which they were accepted
  #followed = []; // ids, by the present stream
  #stream;
  #timer = 0;
  #since = 0;

  constructor(changed) {
    this.set = (picture, change) => changed(Object.assign(picture, change));
  }

  /** Sends a picture when its turn comes. */
  add(picture) {
    this.#pending.push(picture);
    this.set(picture, { state: "here", problem: null, prediction: null, retryAt: 0, first: 0 });
    this.#pump();
  }

  /** Has a picture fail, as it also does before it is sent. */
  fail(picture, problem, prediction = picture.prediction) {
    this.set(picture, { state: "failed", problem, prediction });
    this.#pump();
  }

  /** Takes a picture back, wherever it is. */
  async cancel(picture) {
    const place = this.#pending.indexOf(picture);
    if (place >= 0) {
      this.#pending.splice(place, 1);
      return this.set(picture, { state: "removed" });
    }
    picture.upload?.abort();
    if (!this.#outstanding.has(picture.prediction?.id)) return;
    this.set(picture, { canceling: true });
    await this.#look(picture, "DELETE");
    this.set(picture, { canceling: false });
  }

  /** Tries at once what was refused for now, as something has changed. */
  hurry() {
    this.#pausedUntil = {};
    this.#pump();
  }

  #pump() {
    while (!this.#away && this.#uploading < UPLOADS && this.#outstanding.size + this.#uploading < MOST_OUTSTANDING) {
      const place = this.#pending.findIndex(({ tier }) => !(this.#pausedUntil[tier] > Date.now()));
      if (place < 0) return;
      this.#send(this.#pending.splice(place, 1)[0]);
    }
  }

  async #send(picture) {
    const upload = new AbortController();
    this.#uploading += 1;
    this.set(picture, { state: "sending", problem: null, retryAt: 0, upload });
    try {
      const { status, json } = await this.#post(picture);
      if (status === 202) this.#accepted(picture, json);
      else this.#end(picture, json);
    } catch (problem) {
      if (upload.signal.aborted) this.set(picture, { state: "canceled" });
      else if (problem instanceof Problem) this.#refused(picture, problem);
      else throw problem;
    } finally {
      this.#uploading -= 1;
      this.#pump();
    }
  }

  #post({ tier, topK, file, upload }) {
    // While others of this page wait, to wait for this one too would hold up the next upload.
    const prefer = this.#outstanding.size ? "respond-async" : "wait=1";
    return ask(`/img-classification/${tier}?top_k=${topK}`, {
      method: "POST",
      body: file,
      headers: { "Content-Type": "application/octet-stream", Prefer: prefer },
      signal: upload.signal,
      seconds: Math.ceil(ANSWER + file.size / SLOWEST),
    });
  }

  #refused(picture, problem) {
    const { status, retryAfter, away, body } = problem;
    const seconds = retryAfter ?? RETRY;
    if (body.prediction) this.#end(picture, body.prediction);
    else if (away) this.#waitForServer(picture);
    else if ((status === 503 || (status === 429 && retryAfter !== null)) && seconds <= LONGEST_RETRY) {
      const retryAt = Date.now() + 1000 * seconds;
      this.#pausedUntil[picture.tier] = retryAt; // others for this tier would be refused too
      this.#putBack(picture, { problem, retryAt });
      setTimeout(() => this.#pump(), 1000 * seconds + 20);
    } else this.fail(picture, problem);
  }

  async #waitForServer(picture) {
    this.#away = true;
    this.#putBack(picture, {});
    await serverGone();
    this.#away = false;
    this.#pump();
  }

  #putBack(picture, change) {
    this.#pending.unshift(picture);
    this.set(picture, { state: "here", ...change });
  }

  #accepted(picture, prediction) {
    const { id, status, queue } = prediction;
    this.#outstanding.set(id, picture);
    this.set(picture, { prediction, state: status, queue, first: queue?.position });
    this.#followSoon();
  }

  #end(picture, prediction) {
    const { id, status, results } = prediction;
    const error = prediction.error ?? results[0]?.error;
    const state = { succeeded: "done", canceled: "canceled" }[status];
    this.#outstanding.delete(id);
    if (state && !error) this.set(picture, { state, prediction });
    else this.fail(picture, new Problem(error?.code ?? status, error?.detail), prediction);
    this.#followSoon();
    this.#pump();
  }

  #lose(picture, problem) {
    this.#outstanding.delete(picture.prediction.id);
    this.fail(picture, problem);
    this.#followSoon();
  }

  // Those that have ended do no harm in a stream; only new ones need another.
  #followSoon() {
    if (this.#first().every((id) => this.#followed.includes(id))) return;
    const now = performance.now();
    if (!this.#timer) this.#since = now;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#follow(), Math.min(QUIET, this.#since + LONGEST_QUIET - now));
  }

  #first() {
    return [...this.#outstanding.keys()].slice(0, MOST_IDS);
  }

  #follow() {
    this.#timer = 0;
    this.#stream?.close();
    this.#followed = this.#first();
    if (!this.#followed.length) return;
    this.#stream = follow(`/v1/predictions/events?id=${this.#followed.join("&id=")}`, {
      onEvent: (name, data) => this.#hear(name, data, this.#outstanding.get(data.id)),
      onState: (state, problem) => {
        if (state === "open") serverBack();
        else if (problem?.away) serverGone();
        else if (state === "ended" || state === "refused") this.#lookAtEach();
      },
    });
  }

  #hear(name, data, picture) {
    if (!picture) return;
    if (name === "gone") this.#lose(picture, data);
    else if (!LIVE.includes(name)) this.#end(picture, data);
    else this.set(picture, { state: name, queue: data, first: Math.max(picture.first ?? 0, data.position ?? 0) });
  }

  // The stream says nothing more, although some have not ended here.
  async #lookAtEach() {
    for (const picture of this.#followed.map((id) => this.#outstanding.get(id)).filter(Boolean)) await this.#look(picture);
    setTimeout(() => this.#follow(), 1000 * RETRY);
  }

  async #look(picture, method) {
    try {
      const { json } = await ask(picture.prediction.urls.get, { method });
      if (!LIVE.includes(json.status) && this.#outstanding.has(json.id)) this.#end(picture, json);
    } catch (problem) {
      if (problem.away) await serverGone();
      else if (problem.status < 500) this.#lose(picture, problem);
    }
  }
}
