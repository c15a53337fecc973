// The workers of a tier: a few as marks with words, many as a field of marks, and a table with all that is known.

import { since } from "./clock.js";
import { h, setText, show } from "./dom.js";
import { count } from "./format.js";
import { fill, mark } from "./inplace.js";
import { Table } from "./table.js";

const FEW = 6;
const CROWD = 3; // workers on a node, on average, from which on a field is divided by node
const STATES = ["busy", "idle", "starting", "leaving"];
const STAGES = { pending: "waits for a node", scheduled: "has a node", pulling: "pulls its image", loading: "loads" };

function words({ state, stage }) {
  return STAGES[stage] ? `${state}: ${STAGES[stage]}` : state;
}

function inStates(jobs) {
  const counts = STATES.map((state) => ({ state, number: jobs.filter((job) => job.state === state).length }));
  return counts.filter(({ number }) => number);
}

// "3 busy, 1 starting"
function inWords(jobs) {
  return inStates(jobs).map(({ state, number }) => `${count(number)} ${state}`).join(", ");
}

function host(node) {
  return /^[\d.]+$/.test(node) ? node : node.split(".")[0];
}

function sign() {
  const element = h("i.sign", { "aria-hidden": "true" });
  return {
    element,
    update(job) {
      mark(element, "data-state", job.state);
      mark(element, "data-stage", job.stage);
      mark(element, "title", [words(job), job.name, job.node, job.reason].filter(Boolean).join("\n"));
    },
  };
}

export class Workers {
  constructor() {
    this.states = h("ul.few.muted");
    this.none = h("p.muted.small", {}, "No worker");
    this.few = h("ul.few");
    this.many = h("ul.many");
    this.element = h("div", {}, this.states, this.none, this.few, this.many);
  }

  /** Shows the workers of a tier as `GET /v1/tiers` tells it. */
  update({ jobs, workers }) {
    const few = jobs.length <= FEW;
    show(this.none, !workers);
    show(this.few, few);
    show(this.many, !few);
    const more = workers - jobs.length;
    const unlisted = more > 0 ? [{ state: "more", number: more }] : [];
    fill(this.states, few ? unlisted : [...inStates(jobs), ...unlisted], ({ state }) => state, counter);
    fill(this.few, few ? jobs : [], (job) => job.name, labelled);
    fill(this.many, few ? [] : groups(jobs), (group) => group.node, field);
  }
}

// How many are in a state, which also says what the marks mean.
function counter({ state }) {
  const number = h("span.figures");
  const shown = state !== "more" && h("i.sign", { "aria-hidden": "true", "data-state": state, "data-stage": "pulling" });
  return {
    element: h("li", {}, shown, h("span", {}, number, ` ${state}`)),
    update: (told) => setText(number, count(told.number)),
  };
}

function labelled() {
  const dot = sign();
  const [state, age, place] = [h("span"), h("span.figures"), h("span.muted")];
  return {
    element: h("li", {}, dot.element, h("span", {}, state, " ", age, " ", place)),
    update(job) {
      dot.update(job);
      setText(state, words(job));
      setText(age, since(job.since));
      setText(place, job.node ? `on ${host(job.node)}` : "");
    },
  };
}

function groups(jobs) {
  const inOrder = jobs.toSorted((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state));
  const byNode = Map.groupBy(inOrder, (job) => job.node || "no node yet");
  if (byNode.size * CROWD > jobs.length) return [{ node: "", jobs: inOrder }];
  const found = [...byNode].map(([node, held]) => ({ node, jobs: held }));
  return found.sort((a, b) => a.node.localeCompare(b.node, "en", { numeric: true }));
}

// The marks are keyed by their place: they stand in the order of the states, and none can have the focus.
function field() {
  const [name, told] = [h("span.muted"), h("span.offscreen")];
  const marks = h("span.marks", { "aria-hidden": "true" });
  return {
    element: h("li", {}, name, told, marks),
    update({ node, jobs }) {
      setText(name, host(node));
      setText(told, inWords(jobs));
      fill(marks, jobs, (job, index) => index, sign);
    },
  };
}

export class WorkersTable extends Table {
  constructor() {
    super("Workers now", ["State", "For", "Holds", "Node", "Job", "Why", "Model"], { key: "name", nothing: "None runs now." });
  }

  cells(job) {
    return [
      { text: words(job), state: job.state, stage: job.stage },
      { text: since(job.since), kind: "num" },
      { text: job.predictions ? count(job.predictions) : "", kind: "num" },
      { text: job.node },
      { text: job.name, kind: "code" },
      { text: job.reason, kind: "prose" },
      { text: job.model, kind: "code", usual: job.model === this.main },
    ];
  }
}
