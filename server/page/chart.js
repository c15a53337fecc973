// The last hour of a tier: bars of what was accepted and failed in a minute, and below them lines of the waits.

import { h, setText, show } from "./dom.js";
import { count, timeOfDay } from "./format.js";
import { mark, wait } from "./live.js";

const SVG = "http://www.w3.org/2000/svg";
const TALL = 100; // the height of a strip; a minute is 1 wide
const LEGEND = { accepted: "accepted", failed: "failed", median: "median wait", most: "95 % within" };

export class HourChart {
  #minutes = [];

  constructor(tier) {
    this.tier = tier;
    const around = { "aria-hidden": "true" };
    this.counts = strip("accepted", "failed");
    this.waits = strip("band", "most", "median");
    this.cursor = h("div.cursor", { hidden: true });
    this.plot = h("div.plot", { role: "img", onpointermove: ({ clientX }) => this.#read(clientX), onpointerleave: () => this.#read(null) },
      this.counts.element, this.waits.element, this.cursor);
    [this.mostCount, this.mostWait, this.readout] = [h("span"), h("span"), h("p.figures")];
    this.legend = h("p.row.muted", {}, ...Object.entries(LEGEND).map(([name, text]) => h("span", {}, h(`i.${name}`), text)));
    this.none = h("p", {}, "…");
    this.drawn = h("div.drawn", { hidden: true }, h("div.above", around, this.legend, this.readout), this.plot,
      h("div.scales.figures", around, this.mostCount, this.mostWait),
      h("p.axis", around, ...["1 h ago", "30 min", "now"].map((text) => h("span", {}, text))));
    this.element = h("figure.hour.muted", {}, this.drawn, this.none);
  }

  // Says why there is no chart.
  say(text) {
    setText(this.none, text);
    show(this.none, text);
    show(this.drawn, !text);
  }

  /** Draws minutes as `GET /v1/tiers/{tier}/activity` tells them. */
  update(minutes) {
    this.#minutes = minutes;
    if (!minutes.some((one) => one.accepted || one.succeeded || one.failed)) return this.say("Nothing in the last hour");
    this.say("");
    const most = Math.max(...minutes.map((one) => Math.max(1, one.accepted, one.failed)));
    const longest = Math.max(...minutes.map((one) => one.wait_p95 ?? 0));
    const heights = (name) => minutes.map((one) => one[name] && Math.max(3, (TALL * one[name]) / most));
    const levels = (name) => minutes.map((one) => one[name] === null ? null : TALL - 3 - ((TALL - 8) * one[name]) / (longest || 1));
    this.counts.draw(minutes.length, bars(heights("accepted")), bars(heights("failed")));
    const [median, most95] = [levels("wait_p50"), levels("wait_p95")];
    this.waits.draw(minutes.length, between(median, most95), steps(most95), steps(median));
    setText(this.mostCount, `${count(most)}/min`);
    setText(this.mostWait, longest ? wait(longest) : "");
    const sum = (name) => count(minutes.reduce((total, one) => total + one[name], 0));
    mark(this.plot, "aria-label", `The last hour of ${this.tier}: ${sum("accepted")} accepted, ${sum("failed")} failed.`);
  }

  // Shows the minute that is pointed at, in the place of the legend.
  #read(x) {
    const { left, width } = this.plot.getBoundingClientRect();
    const minutes = this.#minutes.length;
    const at = Math.min(minutes - 1, Math.max(0, Math.floor(((x - left) / width) * minutes)));
    const one = x === null ? null : this.#minutes[at];
    show(this.legend, !one);
    show(this.cursor, one);
    show(this.readout, one);
    if (!one) return;
    this.cursor.style.left = `${(100 * (at + 0.5)) / minutes}%`;
    const waits = one.wait_p50 === null ? "" : ` · median wait ${wait(one.wait_p50)} · 95 % within ${wait(one.wait_p95)}`;
    setText(this.readout, `${minuteOf(one)} · ${count(one.accepted)} accepted · ${count(one.failed)} failed${waits}`);
  }
}

/** "14:05" */
export function minuteOf({ at }) {
  return timeOfDay(at).slice(0, 5);
}

function strip(...names) {
  const made = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) mark(element, key, value);
    return element;
  };
  const paths = names.map((name) => made("path", { class: name, d: "M0 0" }));
  const element = made("svg", { preserveAspectRatio: "none" });
  element.append(...paths);
  return {
    element,
    draw(width, ...drawn) {
      mark(element, "viewBox", `0 0 ${width} ${TALL}`);
      drawn.forEach((path, index) => mark(paths[index], "d", path || "M0 0"));
    },
  };
}

const bars = (heights) => heights.map((tall, index) => (tall ? `M${index + 0.12} ${TALL}v${-tall.toFixed(1)}h.76V${TALL}z` : "")).join("");

// Each minute is a level stretch, so that a minute alone is seen too.
function steps(levels) {
  const at = (y, index) => `${(levels[index - 1] ?? null) === null ? `M${index} ` : "V"}${y.toFixed(1)}H${index + 1}`;
  return levels.map((y, index) => (y === null ? "" : at(y, index))).join("");
}

function between(low, high) {
  return low.map((y, index) => (y === null ? "" : `M${index} ${y.toFixed(1)}h1V${high[index].toFixed(1)}h-1z`)).join("");
}
