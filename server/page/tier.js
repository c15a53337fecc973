// One tier as it is now.

import { Activity } from "./activity.js";
import { HourChart } from "./chart.js";
import { h, setText, show } from "./dom.js";
import { bytes, count, figure } from "./format.js";
import { age, fill, mark, secondsSince, wait } from "./live.js";
import { shareMeter } from "./share.js";
import { askKey } from "./shell.js";
import { Workers } from "./workers.js";

const NEARLY = 0.9; // of the predictions that may wait
const OLD_COUNTDOWN = /; the next one starts in \d+ s;/; // as it stood when the reason was written: ours counts on

/** What a tier does, in a word, and the tone of that word. */
export function stateOf({ breaker, model, quota, queued, limits, predicting, workers, starting }) {
  if (breaker) return ["Jobs fail", "bad"];
  if (model.problem) return ["No model", "bad"];
  if (Object.values(quota).some(({ hard }) => hard === 0)) return ["Paused", queued ? "wait" : ""];
  if (queued >= NEARLY * limits.queued) return ["Nearly full", "wait"];
  if (workers > starting) return queued ? ["Busy", "work"] : predicting ? ["Working", "work"] : ["Ready", "good"];
  return starting ? ["Starting", "wait"] : queued ? ["Waiting", "wait"] : ["At rest", ""];
}

// What is wrong or in the way, the worst first.
function notesOf({ breaker, model, queued, reason, caution }) {
  const why = reason && !breaker && reason !== model.problem;
  return [
    breaker && { tone: "bad", label: "Breaker", text: reason.replace(OLD_COUNTDOWN, ";"), retryAt: breaker.retry_at },
    model.problem && { tone: "bad", label: "Model", text: model.problem },
    why && { tone: queued ? "wait" : "", label: queued ? "Why they wait" : "Note", text: reason },
    caution && { tone: "wait", label: "Caution", text: caution },
  ].filter(Boolean);
}

function note({ label }) {
  const [text, left] = [h("span"), h("b.figures")];
  return {
    element: h("li", {}, h("strong", {}, label), text, left),
    update(told) {
      mark(this.element, "data-tone", told.tone);
      setText(text, told.text);
      const seconds = Math.ceil(-secondsSince(told.retryAt));
      const when = seconds > 0 ? `in ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : "now";
      setText(left, told.retryAt ? `next try ${when}` : "");
    },
  };
}

function modelText({ reference, name, variant, runtime, instead_of, canary }) {
  const kept = instead_of && `in place of ${instead_of}, after a rollback`;
  const part = canary && `${canary.live ? canary.percent : 0} % to the canary ${canary.reference ?? canary.name}`;
  return [reference ?? name, variant, runtime, kept, part].filter(Boolean).join(" · ");
}

export class TierPanel {
  due = 0; // when to ask for its activity, by Date.now()
  allowed = null; // whether the caller may; null until that is known

  constructor(name, onOpen) {
    Object.assign(this, { name, figures: new Figures(), chart: new HourChart(name), workers: new Workers(), activity: new Activity(), share: shareMeter() });
    [this.state, this.model, this.notes, this.quota] = [h("span.tag"), h("p.model.muted.small"), h("ul"), h("ul.quota")];
    this.closed = h("p.row", { hidden: true }, "What it did lately is for those who may use it: it takes a key.",
      h("button", { onclick: askKey }, "Enter a key"));
    this.more = h("details", { ontoggle: () => this.isOpen && onOpen(this) },
      h("summary", {}, "Workers, latest predictions and Jobs"), this.closed, this.activity.element);
    this.element = h("article", { id: `tier-${name}`, "aria-labelledby": `${name}-name` },
      h("header.row", {}, h("h2", { id: `${name}-name` }, name), this.state, this.model), this.notes,
      h("div.halves", {}, this.figures.element, this.chart.element),
      h("div.halves", {}, h("div", {}, this.quota, this.share.element), this.workers.element), this.more);
  }

  get isOpen() {
    return this.more.open;
  }

  /** Shows the tier as the stream tells it. */
  update(tier) {
    const [word, tone] = stateOf(tier);
    setText(this.state, word);
    mark(this.state, "class", `tag ${tone}`);
    setText(this.model, modelText(tier.model));
    fill(this.notes, notesOf(tier), ({ label }) => label, note);
    this.figures.update(tier);
    fill(this.quota, Object.entries(tier.quota), ([resource]) => resource, meter);
    this.share.update(tier.lending);
    this.workers.update(tier);
    if (this.isOpen) this.activity.now(tier);
  }

  /** Shows its activity. */
  tell(activity) {
    show(this.closed, false);
    this.chart.update(activity.minutes);
    if (this.isOpen) this.activity.lately(activity);
  }

  /** Says that the activity is only for others. */
  close() {
    show(this.closed, true);
    show(this.activity.told, false);
    this.chart.say("The last hour is for those who may use this tier");
  }
}

class Figures {
  constructor() {
    [this.waiting, this.oldest, this.working] = [h("dd.figures"), h("p.figures"), h("p.figures")];
    this.flow = ledger("Now, a second", "accepted", "succeeded", "failed");
    this.waits = ledger("Waits, last hour", "median", "95 % within", "predictions");
    this.element = h("div.now", {}, h("div.waiting", {}, h("dl", {}, h("dt", {}, "Waiting"), this.waiting), this.oldest, this.working),
      this.flow.element, this.waits.element);
  }

  update({ queued, predicting, oldest_at, rates, wait_seconds: waits }) {
    setText(this.waiting, count(queued));
    setText(this.oldest, oldest_at ? `oldest ${age(oldest_at)}` : "");
    setText(this.working, `${count(predicting)} in work`);
    this.flow.update(...[rates.accepted, rates.succeeded, rates.failed].map(figure));
    mark(this.flow.element, "data-failing", rates.failed > 0 && "");
    this.waits.update(wait(waits.p50), wait(waits.p95), count(waits.sample));
  }
}

function ledger(title, ...lines) {
  const values = lines.map(() => h("dd.figures"));
  return {
    element: h("div.ledger", {}, h("h3", {}, title), h("dl", {}, ...lines.map((line, index) => h("div", {}, h("dt", {}, line), values[index])))),
    update: (...texts) => texts.forEach((text, index) => setText(values[index], text)),
  };
}

/** What is used of a resource: "1.8 of 2", "1 GiB of 2 GiB". */
export function usage(resource, { used, hard }) {
  const write = /memory|storage/.test(resource) ? bytes : (value) => Number(value.toFixed(2));
  return `${write(used)} of ${write(hard)}`;
}

function meter([resource]) {
  const [amount, level] = [h("span.figures"), h("i")];
  const track = h("div.track", {}, level);
  return {
    element: h("li", {}, h("span.muted.small", {}, resource), amount, track),
    update([, { used, hard }]) {
      setText(amount, usage(resource, { used, hard }));
      mark(track, "data-use", used > hard ? "over" : hard === 0 ? "closed" : used === hard && "full");
      level.style.width = `${Math.min(100, (100 * used) / (hard || used || 1))}%`;
    },
  };
}
