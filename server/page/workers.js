// The workers of a tier: few as signs with words, many as fields of signs.

import { h, setText, show } from "./dom.js";
import { count } from "./format.js";
import { age, fill, mark } from "./live.js";
import { STAGES } from "./words.js";

const FEW = 6;
const STATES = ["busy", "idle", "starting", "leaving"];
const TONES = {
  idle: "work", busy: "work", leased: "work", running: "work", starting: "wait", succeeded: "good", failed: "bad", expired: "bad", aborted: "bad",
};

/** Has a sign show the state of a worker, a Job or a prediction. */
export function markState(sign, state, stage) {
  mark(sign, "data-state", state);
  mark(sign, "data-stage", state === "starting" && (stage ?? "pending"));
  mark(sign, "data-tone", TONES[state] ?? "");
}

export function stateOf({ state, stage }) {
  return STAGES[stage] ? `${state}: ${STAGES[stage]}` : state;
}

const host = (node) => (/^[\d.]+$/.test(node) ? node : node.split(".")[0]);

function signOf() {
  const element = h("i.sign", { "aria-hidden": "true" });
  return {
    element,
    update(job) {
      markState(element, job.state, job.stage);
      mark(element, "title", [stateOf(job), job.name, job.node, job.reason].filter(Boolean).join("\n"));
    },
  };
}

export class Workers {
  constructor() {
    [this.none, this.states, this.few, this.many] = [h("p.muted", {}, "No worker"), h("ul.row.muted"), h("ul.row"), h("ul.row")];
    this.element = h("div.workers.small", {}, this.none, this.states, this.few, this.many);
  }

  /** Shows the workers of a tier. */
  update({ jobs, workers }) {
    const few = jobs.length <= FEW;
    const numbers = few ? [] : STATES.map((state) => ({ state, number: jobs.filter((job) => job.state === state).length }));
    numbers.push({ state: "more", number: workers - jobs.length });
    show(this.none, !workers);
    fill(this.states, numbers.filter(({ number }) => number > 0), ({ state }) => state, counter);
    fill(this.few, few ? jobs : [], ({ name }) => name, labelled);
    fill(this.many, few ? [] : groups(jobs), ({ node }) => node, field);
  }
}

// How many are in a state; it also says what the signs mean.
function counter({ state }) {
  const [sign, number] = [h("i.sign"), h("span.figures")];
  markState(sign, state, "pulling");
  return { element: h("li", {}, STATES.includes(state) && sign, number, ` ${state}`), update: (told) => setText(number, count(told.number)) };
}

function labelled() {
  const sign = signOf();
  const [state, since, place] = [h("span"), h("span.figures"), h("span.muted")];
  return {
    element: h("li", {}, sign.element, state, " ", since, " ", place),
    update(job) {
      sign.update(job);
      setText(state, stateOf(job));
      setText(since, age(job.since));
      setText(place, job.node ? `on ${host(job.node)}` : "");
    },
  };
}

function groups(jobs) {
  const ordered = jobs.toSorted((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state));
  const nodes = Map.groupBy(ordered, ({ node }) => node || "no node");
  return [...nodes].map(([node, held]) => ({ node, held })).sort((a, b) => a.node.localeCompare(b.node, "en", { numeric: true }));
}

// Its signs are in the order of the states, so their key is their place.
function field({ node }) {
  const [told, signs] = [h("span.offscreen"), h("span.signs", { "aria-hidden": "true" })];
  return {
    element: h("li", {}, h("span.muted", {}, host(node)), told, signs),
    update({ held }) {
      setText(told, `: ${held.map(stateOf).join(", ")}`);
      fill(signs, held, (job, index) => index, signOf);
    },
  };
}
