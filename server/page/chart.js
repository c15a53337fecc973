// The last hour of a tier by minutes: what was accepted and what failed as bars, and how long predictions waited as
// lines. Both share the axis of time, so that a crowd and the waits that it caused stand above each other.

import { wait } from "./clock.js";
import { h, setText, show } from "./dom.js";
import { count, timeOfDay } from "./format.js";
import { mark } from "./inplace.js";

const SVG = "http://www.w3.org/2000/svg";
const TALL = 100; // the height of a strip in its own units; the width of a minute is 1
const LEGEND = { accepted: "accepted", failed: "failed", median: "median wait", most: "95 % within" };

export class HourChart {
  #minutes = [];
  #at = null; // which minute is pointed at

  constructor(tier) {
    this.tier = tier;
    this.counts = strip("accepted", "failed");
    this.waits = strip("band", "most", "median");
    this.cursor = h("div.cursor", { hidden: true });
    this.plot = h("div.plot", { role: "img", onpointermove: (event) => this.#point(event), onpointerleave: () => this.#leave() },
      this.counts.element, this.waits.element, this.cursor);
    this.mostCount = h("span");
    this.mostWait = h("span");
    this.legend = h("p.legend", {}, ...Object.entries(LEGEND).map(([name, text]) => h("span", {}, h(`i.${name}`), text)));
    this.readout = h("p.figures");
    this.nothing = h("p.muted.small", {}, "…");
    const around = { "aria-hidden": "true" };
    this.drawn = h("div.drawn", { hidden: true },
      h("div.above", around, this.legend, this.readout),
      this.plot,
      h("div.scales.figures", around, this.mostCount, this.mostWait),
      h("p.axis", around, ...["1 h ago", "30 min", "now"].map((text) => h("span", {}, text))));
    this.element = h("figure.hour", {}, this.drawn, this.nothing);
  }

  /** Says why there is no chart. */
  say(text) {
    setText(this.nothing, text);
    show(this.nothing, true);
    show(this.drawn, false);
  }

  /** Draws minutes as `GET /v1/tiers/{tier}/activity` tells them. */
  update(minutes) {
    this.#minutes = minutes;
    if (!minutes.some((one) => one.accepted || one.succeeded || one.failed)) return this.say("Nothing in the last hour");
    show(this.nothing, false);
    show(this.drawn, true);
    const most = Math.max(1, ...minutes.map((one) => Math.max(one.accepted, one.failed)));
    const longest = Math.max(0, ...minutes.map((one) => one.wait_p95 ?? 0));
    const bar = (value) => value && Math.max(3, (TALL * value) / most);
    const high = (seconds) => TALL - 3 - ((TALL - 8) * seconds) / (longest || 1);
    this.counts.draw(minutes.length, {
      accepted: bars(minutes.map((one) => bar(one.accepted))),
      failed: bars(minutes.map((one) => bar(one.failed))),
    });
    const [median, most95] = ["wait_p50", "wait_p95"].map((name) => minutes.map((one) => one[name] && high(one[name])));
    this.waits.draw(minutes.length, { median: steps(median), most: steps(most95), band: between(median, most95) });
    setText(this.mostCount, `${count(most)}/min`);
    setText(this.mostWait, longest ? wait(longest) : "");
    mark(this.plot, "aria-label", this.#inWords(most, longest));
    this.#read();
  }

  #inWords(most, longest) {
    const sum = (name) => count(this.#minutes.reduce((total, one) => total + one[name], 0));
    const waits = longest ? ` In the slowest minute, 95 % waited less than ${wait(longest)}.` : "";
    return `The last hour of ${this.tier}: ${sum("accepted")} accepted, at most ${count(most)} in a minute; ${sum("failed")} failed.${waits}`;
  }

  #point({ clientX }) {
    const { left, width } = this.plot.getBoundingClientRect();
    const minutes = this.#minutes.length;
    this.#at = Math.min(minutes - 1, Math.max(0, Math.floor(((clientX - left) / width) * minutes)));
    this.#read();
  }

  #leave() {
    this.#at = null;
    this.#read();
  }

  #read() {
    const one = this.#at === null ? null : this.#minutes[this.#at];
    show(this.legend, !one);
    show(this.cursor, one);
    if (!one) return setText(this.readout, "");
    this.cursor.style.left = `${(100 * (this.#at + 0.5)) / this.#minutes.length}%`;
    const waits = one.wait_p50 === null ? "" : ` · median wait ${wait(one.wait_p50)} · 95 % within ${wait(one.wait_p95)}`;
    setText(this.readout, `${minuteOf(one)} · ${count(one.accepted)} accepted · ${count(one.failed)} failed${waits}`);
  }
}

/** "14:05" */
export function minuteOf({ at }) {
  return timeOfDay(at).slice(0, 5);
}

function strip(...names) {
  const element = document.createElementNS(SVG, "svg");
  const paths = names.map((name) => {
    const path = document.createElementNS(SVG, "path");
    mark(path, "class", name);
    mark(path, "d", "M0 0");
    return path;
  });
  mark(element, "preserveAspectRatio", "none");
  mark(element, "aria-hidden", "true");
  element.append(...paths);
  return {
    element,
    draw(width, drawn) {
      mark(element, "viewBox", `0 0 ${width} ${TALL}`);
      names.forEach((name, index) => mark(paths[index], "d", drawn[name]));
    },
  };
}

function bars(heights) {
  return heights.map((tall, index) => (tall ? `M${index + 0.12} ${TALL}v${-tall.toFixed(1)}h.76V${TALL}z` : "")).join("");
}

// Each minute is a level stretch, so that a minute alone is seen too.
function steps(heights) {
  const at = (y, index) => `${(heights[index - 1] ?? null) === null ? `M${index} ` : "V"}${y.toFixed(1)}H${index + 1}`;
  return heights.map((y, index) => (y === null ? "" : at(y, index))).join("");
}

function between(low, high) {
  return low.map((y, index) => (y === null ? "" : `M${index} ${y.toFixed(1)}h1V${high[index].toFixed(1)}h-1z`)).join("");
}
