// One picture on the page: what it is, where it stands, what was seen on it, and what can be done now.

import { arrange, h, setText, show } from "./dom.js";
import { count, counted, duration, milliseconds, ordinal, percent } from "./format.js";
import { ENDED } from "./sending.js";
import { thumbnail } from "./thumbnails.js";
import { explain, sentence, wantsKey } from "./words.js";

const TAGS = {
  here: ["In this page", ""], sending: ["Sending", "work"], queued: ["Waiting", "wait"], starting: ["Waiting", "wait"],
  leased: ["Working", "work"], done: ["", ""], failed: ["Failed", "bad"], canceled: ["Canceled", ""],
};
const STAGES = {
  pending: "A worker starts: it has no node yet",
  scheduled: "A worker starts: it has a node",
  pulling: "A worker starts: its image is fetched",
  loading: "A worker starts: it loads the model",
};
const ICONS = {
  broken: "M3 4h18v16H3zM3 16l5-5 4 4M14 4l-2 6 4 2-2 8",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  remove: "M6 6l12 12M18 6L6 18",
};

/** The card of a picture. `act(name, picture)` hears "cancel", "again", "copy", "remove" and "key". */
export class Card {
  constructor(picture, act) {
    this.picture = picture;
    this.shot = h("div.shot");
    this.tag = h("span.tag");
    this.body = h("div.state");
    this.cost = h("dl.cost.figures");
    this.tools = h("div.row.tools");
    this.buttons = h("div.row.acts");
    const does = (name) => () => act(name, picture);
    const tool = (name, label) => h("button.quiet.icon", { type: "button", title: label, "aria-label": `${label} ${picture.name}`, onclick: does(name) }, icon(name));
    const button = (name, text) => h("button", { type: "button", "aria-label": `${text}: ${picture.name}`, onclick: does(name) }, text);
    this.acts = {
      cancel: button("cancel", "Cancel"), key: button("key", "Enter a key"), again: button("again", "Send again"),
      copy: tool("copy", "Copy"), remove: tool("remove", "Remove"),
    };
    this.node = h("li.card", { tabindex: "-1" }, this.shot,
      h("div.about", {},
        h("div.head", {}, h("h3.name", { title: picture.name }, picture.name), this.tag, this.tools),
        this.body, this.cost, this.buttons));
    this.update();
  }

  /** Shows what has changed. */
  update() {
    const { picture } = this;
    const { state } = picture;
    if (state !== this.state || picture.prediction?.status !== this.status) this.#begin();
    [this.state, this.status] = [state, picture.prediction?.status];
    this.#offer();
    this.write();
    if (picture.size && !this.pictured) this.#picture();
  }

  /** Forgets what the browser keeps for it. */
  discard() {
    this.gone = true;
    if (this.url) URL.revokeObjectURL(this.url);
  }

  async #picture() {
    this.pictured = true;
    const url = await thumbnail(this.picture.file, this.picture.size);
    if (this.gone) return URL.revokeObjectURL(url);
    this.url = url;
    this.shot.replaceChildren(url ? h("img", { src: url, alt: "", decoding: "async" }) : icon("broken"));
  }

  // Another state: its lines are made anew, and `write` fills them for as long as it lasts.
  #begin() {
    const { picture } = this;
    const { state } = picture;
    const [name, kind] = TAGS[state];
    setText(this.tag, name);
    show(this.tag, name);
    this.tag.className = `tag ${kind}`;
    this.node.dataset.state = state;
    const build = { done: () => this.#labels(), failed: () => this.#words(), queued: () => this.#place(), starting: () => this.#place() }[state];
    const [nodes, write] = build ? build() : this.#line();
    this.body.replaceChildren(...nodes);
    this.write = write;
    this.cost.replaceChildren(...(ENDED.has(state) ? cost(picture.prediction) : []));
  }

  #line() {
    const [line, why] = [h("p.line"), h("p.why")];
    return [[line, why], () => {
      const { state, problem, retryAt, attempts } = this.picture;
      const refused = state === "here" && problem;
      this.tag.classList.toggle("wait", Boolean(refused));
      if (refused) {
        setText(line, explain(problem).title);
        setText(why, `${explain(problem).text} ${again(retryAt)}`.trim());
        return;
      }
      setText(line, {
        here: "Waiting in this page", sending: "On its way to the server", canceled: "Nobody looks at it any more",
        leased: attempts > 1 ? `A worker looks at it, the ${ordinal(attempts)} one` : "A worker looks at it",
      }[state]);
      setText(why, state === "here" ? "It is sent when others have their labels." : "");
    }];
  }

  #place() {
    const [place, left, why] = [h("strong"), h("span.muted"), h("p.why")];
    const bar = h("progress", { "aria-label": "Way through the queue", max: 1, value: 0 });
    const line = h("p.place.figures", {}, place, left);
    return [[line, bar, why], () => {
      const { queue, state, stage, first } = this.picture;
      const { position, eta_seconds: eta, reason } = queue ?? {};
      setText(place, position ? `${ordinal(position)} in the queue` : "In the queue");
      setText(left, eta ? `about ${duration(eta)} left` : position > 1 ? `${counted(position - 1, "other")} before it` : "");
      show(bar, first > 1 && position);
      bar.max = first ?? 1;
      bar.value = (first ?? 1) - (position ?? 1);
      const starts = state === "starting" ? (STAGES[stage] ?? "A worker starts") : "";
      setText(why, [starts, reason].filter(Boolean).map(sentence).join(" "));
    }];
  }

  #labels() {
    const labels = this.picture.prediction.results[0].labels;
    const list = h("ol.labels", {}, ...labels.map(({ label, score }) => {
      const bar = h("li", {}, h("span.label", {}, label), h("span.score.figures", {}, percent(score)));
      bar.style.setProperty("--part", score);
      return bar;
    }));
    return [[list], () => {}];
  }

  #words() {
    const [line, why] = [h("p.line"), h("p.why")];
    return [[line, why], () => {
      const { title, text } = explain(this.picture.problem);
      setText(line, title);
      setText(why, text);
    }];
  }

  #offer() {
    const { state, problem, canceling } = this.picture;
    const ended = ENDED.has(state);
    this.acts.cancel.disabled = Boolean(canceling);
    this.#put(this.tools, [ended && state !== "canceled" && "copy", ended && "remove"]);
    this.#put(this.buttons, [!ended && "cancel", state === "failed" && wantsKey(problem) && "key", ended && state !== "done" && "again"]);
  }

  #put(row, names) {
    const wanted = names.filter(Boolean).map((name) => this.acts[name]);
    const focused = row.contains(document.activeElement);
    arrange(row, wanted);
    show(row, wanted.length);
    // Or the keyboard would begin at the top of the page again.
    if (focused && !row.contains(document.activeElement)) this.node.focus({ preventScroll: true });
  }
}

/** What a prediction took: its time in the queue, at the worker and in all. */
function cost(prediction) {
  const { queue_ms, predict_ms, total_ms } = prediction?.metrics ?? {};
  return [["queue", queue_ms], ["predict", predict_ms], ["total", total_ms]].filter(([, value]) => value !== undefined)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, milliseconds(value))));
}

function again(retryAt) {
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  return seconds > 0 ? `It is sent again in ${count(seconds)} s.` : "It is sent again now.";
}

function icon(name) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  made.append(path);
  return made;
}
