// One tier as it is now: what waits, what flows, its quota, its workers and its last hour.

import { Activity } from "./activity.js";
import { HourChart } from "./chart.js";
import { since, until, wait } from "./clock.js";
import { h, setText, show } from "./dom.js";
import { count, figure } from "./format.js";
import { fill, mark } from "./inplace.js";
import { askKey } from "./shell.js";
import { Workers } from "./workers.js";

const NEARLY = 0.9; // of the predictions that may wait
const OLD_COUNTDOWN = /; the next one starts in \d+ s;/; // as it stood when the reason was written: ours counts on
const RESOURCES = { cpu: "CPU", memory: "Memory", pods: "Pods" };
const UNITS = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];

/** What a tier does, in a word, and the tone of that word. */
export function stateOf({ breaker, model, quota, queued, limits, predicting, workers, starting }) {
  if (breaker) return ["Jobs fail", "bad"];
  if (model.problem) return ["No model", "bad"];
  if (Object.values(quota).some(({ hard }) => hard === 0)) return ["Paused", queued ? "wait" : ""];
  if (queued >= NEARLY * limits.queued) return ["Nearly full", "wait"];
  if (workers > starting) return queued ? ["Busy", "work"] : predicting ? ["Working", "work"] : ["Ready", "good"];
  if (starting) return ["Starting", "wait"];
  return queued ? ["Waiting", "wait"] : ["At rest", ""];
}

// What is wrong or in the way, the worst first.
function notesOf({ breaker, model, queued, limits, reason, caution }) {
  return [
    breaker && { tone: "bad", label: "Breaker", text: reason.replace(OLD_COUNTDOWN, ";"), retryAt: breaker.retry_at },
    model.problem && { tone: "bad", label: "Model", text: model.problem },
    reason && !breaker && reason !== model.problem && { tone: queued ? "wait" : "", label: queued ? "Why they wait" : "Note", text: reason },
    queued >= NEARLY * limits.queued && {
      tone: "wait", label: "Nearly full", text: `${count(queued)} wait, and at most ${count(limits.queued)} may; more are refused`,
    },
    caution && { tone: "wait", label: "Caution", text: caution },
  ].filter(Boolean);
}

function note() {
  const [label, text, left] = [h("strong"), h("span"), h("span.figures.left")];
  const element = h("li", {}, label, text, left);
  return {
    element,
    update(told) {
      mark(element, "data-tone", told.tone);
      setText(label, told.label);
      setText(text, told.text);
      setText(left, told.retryAt ? `next try ${until(told.retryAt)}` : "");
    },
  };
}

function modelText({ reference, name, variant, runtime, instead_of, canary }) {
  const kept = instead_of && `in place of ${instead_of}, after a rollback`;
  const part = canary && `${canary.live ? canary.percent : 0} % to the canary ${canary.reference ?? canary.name}`;
  return [reference ?? name, variant, runtime, kept, part].filter(Boolean).join(" · ");
}

export class TierPanel {
  due = 0; // when its activity is to be asked for, in milliseconds of Date.now()
  allowed = null; // whether the caller may ask for it, once that is known

  /** `onOpen` is called when the panel was opened. */
  constructor(name, onOpen) {
    this.name = name;
    this.state = h("span.tag");
    this.model = h("p.model.muted.small");
    this.notes = h("ul.notes");
    this.figures = new Figures();
    this.chart = new HourChart(name);
    this.quota = h("ul.quota");
    this.workers = new Workers();
    this.activity = new Activity();
    this.why = h("span");
    this.closed = h("p.closed", { hidden: true }, this.why, h("button", { type: "button", onclick: askKey }, "Enter a key"));
    this.more = h("details.more", {}, h("summary", {}, "Workers, latest predictions and Jobs"), this.closed, this.activity.element);
    this.more.addEventListener("toggle", () => {
      this.update(this.last);
      if (this.isOpen) onOpen(this);
    });
    this.element = h("article.tier", { id: `tier-${name}`, "aria-labelledby": `${name}-name` },
      h("header", {}, h("h2", { id: `${name}-name` }, name), this.state, this.model),
      this.notes,
      h("div.halves", {}, this.figures.element, this.chart.element),
      h("div.halves.means", {}, this.quota, this.workers.element),
      this.more);
  }

  get isOpen() {
    return this.more.open;
  }

  /** Shows the tier as `GET /v1/tiers` tells it. */
  update(tier) {
    this.last = tier;
    const [word, tone] = stateOf(tier);
    setText(this.state, word);
    mark(this.state, "class", `tag ${tone}`);
    setText(this.model, modelText(tier.model));
    fill(this.notes, notesOf(tier), ({ label }) => label, note);
    this.figures.update(tier);
    fill(this.quota, Object.entries(tier.quota), ([resource]) => resource, meter);
    this.workers.update(tier);
    if (this.isOpen) this.activity.now(tier);
  }

  /** Shows what `GET /v1/tiers/{tier}/activity` tells. */
  tell(activity) {
    show(this.closed, false);
    this.chart.update(activity.minutes);
    if (this.isOpen) this.activity.lately(activity);
  }

  /** Says that the activity is only for others. */
  close(why) {
    setText(this.why, why);
    show(this.closed, true);
    this.activity.told.hidden = true;
    this.chart.say("The last hour is shown to those who may use this tier");
  }
}

// What waits, what flows and how long it waited, as three short columns.
class Figures {
  constructor() {
    [this.waiting, this.oldest, this.working] = [h("dd.figures"), h("p.figures"), h("p.figures")];
    this.flow = new Ledger("Now, a second", ["accepted", "succeeded", "failed"]);
    this.waits = new Ledger("Waits of the last hour", ["median", "95 % within", "predictions"]);
    this.element = h("div.now", {},
      h("div.waiting", {}, h("dl", {}, h("dt", {}, "Waiting"), this.waiting), this.oldest, this.working),
      this.flow.element, this.waits.element);
  }

  update({ queued, predicting, oldest_at, rates, wait_seconds: waits }) {
    setText(this.waiting, count(queued));
    mark(this.waiting, "data-size", queued >= 10_000 ? "long" : queued ? null : "none");
    setText(this.oldest, oldest_at ? `oldest ${since(oldest_at)}` : "");
    setText(this.working, `${count(predicting)} in work`);
    this.flow.update([rates.accepted, rates.succeeded, rates.failed].map(figure));
    mark(this.flow.element, "data-failing", rates.failed > 0 ? "" : null);
    this.waits.update([wait(waits.p50), wait(waits.p95), count(waits.sample)]);
  }
}

class Ledger {
  constructor(title, lines) {
    this.values = lines.map(() => h("dd.figures"));
    const pairs = lines.map((line, index) => h("div", {}, h("dt", {}, line), this.values[index]));
    this.element = h("div.ledger", {}, h("h3", {}, title), h("dl", {}, ...pairs));
  }

  update(values) {
    values.forEach((value, index) => setText(this.values[index], value));
  }
}

// "1.8 of 2", "0 of 2 GiB": both in the unit that fits the larger one.
function amounts(resource, used, hard) {
  const isBytes = /memory|storage/.test(resource);
  const [unit, size] = (isBytes && UNITS.find(([, bytes]) => Math.max(used, hard) >= bytes)) || ["", 1];
  const [of, all] = [used, hard].map((value) => Number((value / size).toFixed(2)).toLocaleString("en"));
  return `${of} of ${all} ${unit}`.trim();
}

function meter([resource]) {
  const [amount, level] = [h("span.figures"), h("i")];
  const track = h("div.track", { "aria-hidden": "true" }, level);
  return {
    element: h("li", {}, h("span.muted.small", {}, RESOURCES[resource] ?? resource.replace(/^requests\./, "")), " ", amount, track),
    update([, { used, hard }]) {
      setText(amount, amounts(resource, used, hard));
      mark(track, "data-use", used > hard ? "over" : hard === 0 ? "closed" : used === hard ? "full" : null);
      level.style.width = `${Math.min(100, (100 * used) / (hard || used || 1))}%`;
    },
  };
}
