// One picture on the page: what it is, where it stands, what was seen on it, and what can be done with it.

import { arrange, h, setText, show } from "./dom.js";
import { count, counted, duration, milliseconds, ordinal, percent } from "./format.js";
import { thumbnail } from "./pictures.js";
import { ENDED } from "./sending.js";
import { explain, isWrong, sentence, wantsKey } from "./words.js";

const TAGS = {
  here: ["Not sent yet"], sending: ["Sending", "work"], queued: ["Waiting", "wait"], starting: ["Waiting", "wait"],
  leased: ["Working", "work"], done: [""], failed: ["Failed", "bad"], canceled: ["Canceled"],
};
const LINES = {
  here: "Waiting in this page", sending: "On its way to the server", leased: "A worker looks at it",
  canceled: "You took it back",
};
const STAGES = { pending: ", and has no node yet", scheduled: " on its node", pulling: ": its image is fetched", loading: ": it loads the model" };
/** The card of a picture. `act(name, picture)` hears "cancel", "again", "copy", "remove" and "key". */
export class Card {
  constructor(picture, act) {
    const { name } = picture;
    const button = (what, text, label, kind = "button") =>
      h(kind, { type: "button", "aria-label": `${label} ${name}`, onclick: () => act(what, picture) }, text);
    this.picture = picture;
    this.acts = {
      cancel: button("cancel", "Cancel", "Cancel"),
      key: button("key", "Enter a key", "Enter a key for"),
      again: button("again", "Send again", "Send again:"),
      copy: button("copy", "Copy", "Copy the result of", "button.quiet"),
      remove: button("remove", "×", "Remove", "button.quiet.icon"),
    };
    this.tag = h("span.tag");
    this.shot = h("div.shot", {}, this.tag);
    this.body = h("div.state");
    this.cost = h("dl.cost.figures");
    this.tools = h("div.row.tools");
    this.buttons = h("div.row.acts");
    this.node = h("li.card", { tabindex: "-1" }, this.shot, h("div.about", {},
      h("div.head", {}, h("h3", { title: name }, name), this.tools), this.body, this.cost, this.buttons));
    this.update();
  }

  /** Shows what has changed. */
  update() {
    const { state, width } = this.picture;
    if (state !== this.state) this.#begin(state);
    this.write();
    this.#offer();
    if (width >= 0 && !this.pictured) this.#show(width);
  }

  /** Forgets what the browser keeps for it. */
  discard() {
    this.gone = true;
    if (this.url) URL.revokeObjectURL(this.url);
  }

  async #show(width) {
    this.pictured = true;
    this.url = await thumbnail(this.picture.file, width);
    if (this.gone) this.discard();
    else this.shot.prepend(this.url ? h("img", { src: this.url, alt: "" }) : h("span.small", {}, "No preview"));
  }

  // Another state: its lines are made anew, and `write` fills them for as long as it lasts.
  #begin(state) {
    const [name, kind = ""] = TAGS[state];
    const { metrics, results } = this.picture.prediction ?? {};
    this.state = this.node.dataset.state = state;
    this.tag.className = `tag ${kind}`;
    setText(this.tag, name);
    show(this.tag, name);
    const [line, why] = [h("p.line"), h("p.why")];
    this.write = () => this.#writeLine(line, why);
    this.body.replaceChildren(...(state === "done" ? [labels(results[0].labels)] : [line, why]));
    if (state === "queued" || state === "starting") this.#beginPlace(why);
    this.cost.replaceChildren(...(state === "done" || state === "failed" ? costs(metrics ?? {}) : []));
  }

  #writeLine(line, why) {
    const { state, problem, retryAt, queue } = this.picture;
    const here = state === "here";
    const seconds = Math.ceil((retryAt - Date.now()) / 1000);
    const next = problem ? `It is sent again ${seconds > 0 ? `in ${count(seconds)} s` : "now"}.` : "It is sent when there is room.";
    const again = state === "leased" && queue?.attempts > 1 ? `, the ${ordinal(queue.attempts)} one` : "";
    setText(line, problem ? explain(problem).title : LINES[state] + again);
    setText(why, [problem && explain(problem).text, here && next].filter(Boolean).join(" "));
    if (here) this.tag.classList.toggle("wait", Boolean(problem));
  }

  #beginPlace(why) {
    const [place, left] = [h("strong"), h("span.muted")];
    const way = h("progress", { "aria-label": "Way through the queue" });
    this.body.replaceChildren(h("p.place.figures", {}, place, left), way, why);
    this.write = () => {
      const { queue, state, first } = this.picture;
      const { position, eta_seconds: eta, reason, stage } = queue ?? {};
      setText(place, position ? `${ordinal(position)} in the queue` : "In the queue");
      const known = eta && !reason?.startsWith("no worker");
      setText(left, known ? `about ${duration(eta)} left` : position > 1 ? `${counted(position - 1, "other")} before it` : "");
      show(way, first > 1);
      if (first > 1) [way.max, way.value] = [first, first - position];
      setText(why, sentence(state === "starting" ? `A worker starts${STAGES[stage] ?? ""}` : reason));
    };
  }

  #offer() {
    const { state, problem, canceling } = this.picture;
    const ended = ENDED.includes(state);
    const put = (row, names) => {
      arrange(row, names.filter(Boolean).map((name) => this.acts[name]));
      show(row, row.firstChild);
    };
    const focused = this.node.contains(document.activeElement);
    this.acts.cancel.disabled = Boolean(canceling);
    put(this.tools, [ended && state !== "canceled" && "copy", ended && "remove"]);
    put(this.buttons, [!ended && "cancel", ended && wantsKey(problem) && "key", ended && state !== "done" && !isWrong(problem) && "again"]);
    // Or the keyboard would begin at the top of the page again.
    if (focused && !this.node.contains(document.activeElement)) this.node.focus({ preventScroll: true });
  }
}

function labels(some) {
  return h("ol.labels", {}, ...some.map(({ label, score }) => {
    const line = h("li", {}, label, h("span.score.figures", {}, percent(score)));
    line.style.setProperty("--part", score);
    return line;
  }));
}

function costs({ queue_ms, predict_ms, total_ms }) {
  return Object.entries({ queue: queue_ms, predict: predict_ms, total: total_ms }).filter(([, value]) => value >= 0)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, milliseconds(value))));
}
