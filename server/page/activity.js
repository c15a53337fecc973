// What a click on a tier shows: its workers and models now, its latest predictions and Jobs, and its hour as a table.

import { minuteOf } from "./chart.js";
import { secondsFrom, since, wait } from "./clock.js";
import { copy, h, setText } from "./dom.js";
import { count, duration, milliseconds } from "./format.js";
import { Table } from "./table.js";
import { WorkersTable } from "./workers.js";

const number = (value) => ({ text: value === null || value === undefined ? "" : count(value), kind: "num" });
const took = (value) => ({ text: value === null || value === undefined ? "" : milliseconds(value), kind: "num" });
const ago = (time) => ({ text: secondsFrom(time) < 1 ? "now" : `${since(time)} ago`, kind: "num", title: time });

export class Activity {
  constructor() {
    this.workers = new WorkersTable();
    this.models = new ModelsTable();
    this.predictions = new PredictionsTable();
    this.jobs = new JobsTable();
    this.minutes = new MinutesTable();
    const hour = h("details", {}, h("summary", {}, "The last hour as a table"), this.minutes.element);
    this.told = h("div", { hidden: true }, this.predictions.element, this.jobs.element, hour);
    this.element = h("div.activity", {}, this.workers.element, this.models.element, this.told);
  }

  /** Shows what `GET /v1/tiers` tells of the tier. */
  now({ model, jobs }) {
    for (const table of [this.workers, this.predictions, this.jobs]) table.main = model.reference;
    this.workers.update(jobs);
    const canary = model.canary;
    const main = { ...model, lane: "main", percent: canary?.live ? 100 - canary.percent : 100 };
    this.models.update(canary ? [main, { ...canary, lane: "canary" }] : [main]);
  }

  /** Shows what `GET /v1/tiers/{tier}/activity` tells. */
  lately({ minutes, predictions, jobs }) {
    this.told.hidden = false;
    this.predictions.update(predictions);
    this.jobs.update(jobs);
    this.minutes.update(minutes.toReversed());
  }
}

class ModelsTable extends Table {
  constructor() {
    const columns = ["Lane", "Model", "Gets", "Since", "Predictions", "Failed", "Unsure", "Median", "95 % within"];
    super("Models now", columns, { key: "lane" });
  }

  cells({ lane, reference, name, live, percent, since: from, measured }) {
    return [
      { text: lane },
      { text: reference ?? name, kind: "code" },
      { text: live === false ? "nothing now" : `${percent} %`, kind: "num" },
      { text: since(from), kind: "num" },
      ...["predictions", "failed", "low_confidence"].map((figure) => number(measured?.[figure])),
      ...["p50_ms", "p95_ms"].map((figure) => took(measured?.[figure])),
    ];
  }
}

class PredictionsTable extends Table {
  constructor() {
    super("Latest predictions", ["Status", "Accepted", "Pictures", "Waited", "Predicted", "In all", "Attempts", "Error", "Model"]);
  }

  cells({ status, created_at, images, metrics, attempts, error, model }) {
    return [
      { text: status, state: status },
      ago(created_at),
      { ...number(images), usual: images === 1 },
      ...["queue_ms", "predict_ms", "total_ms"].map((figure) => took(metrics?.[figure])),
      { ...number(attempts || null), usual: attempts === 1 },
      { text: error?.detail, kind: "prose" },
      { text: model, kind: "code", usual: model === this.main },
    ];
  }
}

class JobsTable extends Table {
  constructor() {
    super("Latest Jobs", ["State", "Started", "Ran", "Job", "Log", "Why", "Model"], { key: "name" });
  }

  cells({ name, state, opened_at, ended_at, logs, reason, model }) {
    const ran = secondsFrom(opened_at) - (ended_at ? secondsFrom(ended_at) : 0);
    return [
      { text: state, state },
      ago(opened_at),
      { text: duration(Math.max(0, Math.round(ran))), kind: "num" },
      { text: name, kind: "code" },
      { text: logs, kind: "code log", title: logs, extra: logs && (() => copyButton(logs, name)) },
      { text: reason, kind: "prose" },
      { text: model, kind: "code", usual: model === this.main },
    ];
  }
}

function copyButton(command, job) {
  const text = h("span", { role: "status" }, "Copy");
  const label = h("span.offscreen", {}, ` the command that shows the log of ${job}`);
  return h("button.quiet", { type: "button", onclick: () => copied() }, text, label);

  async function copied() {
    setText(text, await copy(command).then(() => "Copied", () => "Select it"));
    setTimeout(() => setText(text, "Copy"), 2000);
  }
}

class MinutesTable extends Table {
  constructor() {
    super("Minutes, the latest first", ["Minute", "Accepted", "Succeeded", "Failed", "Median wait", "95 % within"], { key: "at" });
  }

  cells(one) {
    return [
      { text: minuteOf(one), kind: "num" },
      ...["accepted", "succeeded", "failed"].map((figure) => number(one[figure])),
      ...["wait_p50", "wait_p95"].map((figure) => ({ text: one[figure] === null ? "" : wait(one[figure]), kind: "num" })),
    ];
  }
}
