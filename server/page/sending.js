// Sends pictures, a few at once, and follows what became of them until each has its end.

import { ask, Problem } from "./api.js";
import { following } from "./outstanding.js";
import { serverGone } from "./shell.js";

const UPLOADS = 3; // at once; a browser has six connections to a server, and the streams take two
const MOST_OUTSTANDING = 200; // predictions that the server has and that have not ended; the others wait here
const LONGEST_RETRY = 600; // seconds; who is told to come back later than that is told so
const PAUSE = 2; // seconds, after a 503 that does not say when
const SLOWEST = 16 * 1024; // bytes a second, below which the server gives an upload up
const MARGIN = 60; // seconds

/** The states in which a picture stays. */
export const ENDED = new Set(["done", "failed", "canceled"]);

/**
 * The pictures of this page in the order of their adding, each a plain object that `changed(picture)` is told of:
 *
 * `state` is "here" (waits in this page; with `retryAt` and `problem` if it was refused for now), "sending", "queued",
 * "starting", "leased", "removed" (taken back before it was sent), or one of ENDED. `queue` is where it stands, `prediction` what the server last said, `problem`
 * why it failed.
 */
export class Sending {
  constructor(changed) {
    this.changed = changed;
    this.pending = []; // those that wait in this page, the next one first
    this.uploading = 0;
    this.pausedUntil = new Map(); // by tier, in milliseconds since 1970
    this.away = false;
    this.followed = following({
      told: (picture, change) => this.#set(picture, change),
      ended: (picture, prediction) => this.#end(picture, prediction),
      lost: (picture, problem) => this.#fail(picture, problem),
      moved: () => this.#pump(),
    });
  }

  /** Sends a picture when its turn comes. */
  add(picture) {
    Object.assign(picture, { problem: null, prediction: null, queue: null, retryAt: 0, attempts: 0 });
    this.pending.push(picture);
    this.#set(picture, { state: "here" });
    this.#pump();
  }

  /** Says that a picture failed before it was sent. */
  refuse(picture, problem) {
    this.#fail(picture, problem);
  }

  /** Takes a picture back, wherever it is. */
  async cancel(picture) {
    const place = this.pending.indexOf(picture);
    if (place >= 0) {
      this.pending.splice(place, 1);
      return this.#set(picture, { state: "removed" });
    }
    if (picture.state === "sending") return picture.upload?.abort();
    if (!this.followed.has(picture)) return;
    this.#set(picture, { canceling: true });
    try {
      const { json } = await ask(picture.prediction.urls.cancel, { method: "DELETE" });
      if (this.followed.has(picture)) this.followed.settle(picture, json);
    } catch (problem) {
      if (problem.away) serverGone();
      else if (problem.status === 404 || problem.status === 410) this.followed.drop(picture, problem);
    } finally {
      this.#set(picture, { canceling: false });
    }
  }

  /** Tries again what the server refused for now, because something has changed. */
  hurry() {
    this.pausedUntil.clear();
    for (const picture of this.pending) picture.retryAt = 0;
    this.#pump();
  }

  /** How many the server has, or is being sent. */
  get outstanding() {
    return this.followed.size + this.uploading;
  }

  #pump() {
    while (!this.away && this.uploading < UPLOADS && this.outstanding < MOST_OUTSTANDING) {
      const now = Date.now();
      const place = this.pending.findIndex((picture) => (this.pausedUntil.get(picture.tier) ?? 0) <= now);
      if (place < 0) return;
      this.#send(...this.pending.splice(place, 1));
    }
  }

  async #send(picture) {
    this.uploading += 1;
    picture.upload = new AbortController();
    this.#set(picture, { state: "sending", problem: null, retryAt: 0 });
    try {
      const { status, json } = await this.#upload(picture);
      if (status === 202) this.followed.add(picture, json);
      else this.#end(picture, json);
    } catch (problem) {
      this.#refused(picture, problem);
    } finally {
      this.uploading -= 1;
      picture.upload = null;
      this.#pump();
    }
  }

  #upload({ tier, topK, file, upload }) {
    return ask(`/img-classification/${encodeURIComponent(tier)}?top_k=${topK}`, {
      method: "POST",
      body: file,
      headers: {
        "Content-Type": "application/octet-stream",
        // While others of this page wait, waiting for this one would only hold up the next upload.
        Prefer: this.followed.size ? "respond-async" : "wait=1",
      },
      signal: upload.signal,
      seconds: MARGIN + Math.ceil(file.size / SLOWEST),
    });
  }

  #refused(picture, problem) {
    if (picture.upload.signal.aborted) this.#set(picture, { state: "canceled" });
    else if (!(problem instanceof Problem)) {
      this.#fail(picture, new Problem("page_fault", "This page has a fault. Reload it."));
      reportError(problem);
    } else if (problem.body.prediction) this.#end(picture, problem.body.prediction);
    else if (problem.away) this.#waitForServer(picture);
    else if (problem.status === 503 || (problem.status === 429 && problem.retryAfter !== null)) this.#retry(picture, problem);
    else this.#fail(picture, problem);
  }

  async #waitForServer(picture) {
    this.#back(picture, {});
    this.away = true;
    await serverGone();
    this.away = false;
    this.#pump();
  }

  // Others for the same tier would be refused too, so they wait as long.
  #retry(picture, problem) {
    const seconds = problem.retryAfter ?? PAUSE;
    if (seconds > LONGEST_RETRY) return this.#fail(picture, problem);
    const retryAt = Date.now() + 1000 * seconds;
    this.pausedUntil.set(picture.tier, retryAt);
    this.#back(picture, { problem, retryAt });
    setTimeout(() => this.#pump(), 1000 * seconds + 20);
  }

  #back(picture, change) {
    this.pending.unshift(picture);
    this.#set(picture, { state: "here", ...change });
  }

  #end(picture, prediction) {
    const result = prediction.results[0];
    const error = prediction.error ?? result?.error;
    if (prediction.status === "canceled") this.#set(picture, { state: "canceled", prediction });
    else if (prediction.status === "succeeded" && !error) this.#set(picture, { state: "done", prediction });
    else this.#fail(picture, new Problem(error?.code ?? prediction.status, error?.detail ?? ""), prediction);
  }

  #fail(picture, problem, prediction = picture.prediction) {
    this.#set(picture, { state: "failed", problem, prediction });
  }

  #set(picture, change) {
    Object.assign(picture, change);
    this.changed(picture);
  }
}
