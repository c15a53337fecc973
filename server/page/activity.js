// What a click on a tier shows.

import { minuteOf } from "./chart.js";
import { copy, h, setText } from "./dom.js";
import { count, duration, milliseconds } from "./format.js";
import { age, secondsSince, wait } from "./live.js";
import { Table } from "./table.js";
import { stateOf } from "./workers.js";

const num = (text) => ({ text, kind: "figures" });
const number = (value) => num(value == null ? "" : count(value));
const took = (value) => num(value == null ? "" : milliseconds(value));
const ago = (time) => num(secondsSince(time) < 1 ? "now" : `${age(time)} ago`);
const code = (text) => ({ text, kind: "mono" });
const prose = (text) => ({ text, kind: "prose" });

export class Activity {
  #main; // the tier's main model, which is not worth a line on a narrow screen

  constructor() {
    const model = (reference) => ({ ...code(reference), usual: reference === this.#main });
    this.workers = new Table("Workers now", ["State", "For", "Holds", "Node", "Job", "Why", "Model"], (job) => [
      { text: stateOf(job), ...job }, num(age(job.since)), number(job.predictions || null), { text: job.node },
      code(job.name), prose(job.reason), model(job.model),
    ], "name");
    this.predictions = new Table("Latest predictions",
      ["Status", "Accepted", "Pictures", "Waited", "Predicted", "In all", "Attempts", "Error", "Model"],
      ({ status, created_at, images, metrics, attempts, error, ...one }) => [
        { text: status, state: status }, ago(created_at), { ...number(images), usual: images === 1 },
        took(metrics?.queue_ms), took(metrics?.predict_ms), took(metrics?.total_ms),
        { ...number(attempts || null), usual: attempts === 1 }, prose(error?.detail), model(one.model),
      ]);
    this.jobs = new Table("Latest Jobs", ["State", "Started", "Ran", "Job", "Log", "Why", "Model"], ({ name, state, opened_at, ended_at, logs, ...job }) => [
      { text: state, state }, ago(opened_at),
      num(duration(Math.round(secondsSince(opened_at) - (ended_at ? secondsSince(ended_at) : 0)))),
      code(name), { text: logs, kind: "mono log", extra: logs && (() => copyButton(logs, name)) }, prose(job.reason), model(job.model),
    ], "name");
    this.minutes = new Table("Minutes", ["Minute", "Accepted", "Succeeded", "Failed", "Median wait", "95 % within"], (one) => [
      { text: minuteOf(one) }, number(one.accepted), number(one.succeeded), number(one.failed), num(wait(one.wait_p50)), num(wait(one.wait_p95)),
    ], "at");
    this.told = h("div", { hidden: true }, this.predictions.element, this.jobs.element,
      h("details", {}, h("summary", {}, "The last hour as a table"), this.minutes.element));
    this.element = h("div.activity.small", {}, this.workers.element, this.told);
  }

  /** Shows what the stream tells of the tier. */
  now({ model, jobs }) {
    this.#main = model.reference;
    this.workers.update(jobs);
  }

  lately({ minutes, predictions, jobs }) {
    this.told.hidden = false;
    this.predictions.update(predictions);
    this.jobs.update(jobs);
    this.minutes.update(minutes.toReversed());
  }
}

function copyButton(command, job) {
  const text = h("span", { role: "status" }, "Copy");
  const act = async () => {
    setText(text, await copy(command).then(() => "Copied", () => "Select it"));
    setTimeout(() => setText(text, "Copy"), 2000);
  };
  return h("button.quiet", { onclick: act }, text, h("span.offscreen", {}, ` the command that shows the log of ${job}`));
}
