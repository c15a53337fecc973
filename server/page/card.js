// One picture on the page: what it is, where it stands, what was seen on it, and what can be done with it.

import { arrange, h, setText, show } from "./dom.js";
import { counted, duration, milliseconds, ordinal, percent } from "./format.js";
import { thumbnail } from "./pictures.js";
import { ENDED } from "./sending.js";
import { explain, isWrong, sentence, STAGES, wantsKey } from "./words.js";

const STATES = { // with their tags, colours and lines
  here: ["Not sent yet", "", "Waiting in this page"],
  sending: ["Sending", "work", "On its way to the server"],
  queued: ["Waiting", "wait"], starting: ["Waiting", "wait"],
  leased: ["Working", "work", "A worker looks at it"],
  done: [""],
  failed: ["Failed", "bad"],
  canceled: ["Canceled", "", "You took it back"],
};
const BUTTONS = { // with what those hear who do not see the card
  cancel: ["Cancel", "Cancel"],
  key: ["Enter a key", "Enter a key for"],
  again: ["Send again", "Send again:"],
  copy: ["Copy", "Copy the result of", "button.quiet"],
  remove: ["×", "Remove", "button.quiet.icon"],
};

/** The card of a picture: `node`; `update()` shows what has changed. `act(name, picture)` hears a name of BUTTONS. */
export function card(picture, act) {
  const { name } = picture;
  const buttons = Object.fromEntries(Object.entries(BUTTONS).map(([what, [text, label, kind = "button"]]) => [
    what, h(kind, { "aria-label": `${label} ${name}`, onclick: () => act(what, picture) }, text),
  ]));
  const tag = h("span.tag");
  const shot = h("div.shot", {}, tag);
  const [body, cost, tools, acts] = [h("div.state"), h("dl.cost.figures"), h("div.row.tools"), h("div.row.acts")];
  const node = h("li.card", { tabindex: "-1" }, shot,
    h("div.about", {}, h("div.head", {}, h("h3", { title: name }, name), tools), body, cost, acts));
  let before;
  let write; // fills the lines of the present state
  let url;
  let gone = false;

  function update() {
    if (picture.state !== before) begin(picture.state);
    write();
    offer();
    if (picture.width >= 0 && url === undefined) picturize();
  }

  async function picturize() {
    url = "";
    url = await thumbnail(picture.file, picture.width);
    if (gone) discard();
    else shot.prepend(url ? h("img", { src: url, alt: "" }) : h("span.small", {}, "No preview"));
  }

  /** Forgets what the browser keeps for it. */
  function discard() {
    gone = true;
    if (url) URL.revokeObjectURL(url);
  }

  function begin(state) {
    const [text, kind] = STATES[state];
    const { metrics, results } = picture.prediction ?? {};
    before = node.dataset.state = state;
    tag.className = `tag ${kind}`;
    setText(tag, text);
    const [line, why] = [h("p.line"), h("p.why.muted.small")];
    write = () => writeLine(line, why);
    body.replaceChildren(...(state === "done" ? [labels(results[0].labels)] : [line, why]));
    if (state === "queued" || state === "starting") beginPlace(why);
    cost.replaceChildren(...(state === "done" || (metrics && state === "failed") ? costs(metrics) : []));
  }

  function writeLine(line, why) {
    const { state, problem, retryAt, queue } = picture;
    const here = state === "here";
    const seconds = Math.ceil((retryAt - Date.now()) / 1000);
    const next = problem ? `It is sent again ${seconds > 0 ? `in ${seconds} s` : "now"}.` : "It is sent when there is room.";
    const again = queue?.attempts > 1 ? `, the ${ordinal(queue.attempts)} one` : "";
    setText(line, problem ? explain(problem).title : STATES[state][2] + again);
    setText(why, [problem && explain(problem).text, here && next].filter(Boolean).join(" "));
    if (here) tag.classList.toggle("wait", Boolean(problem));
  }

  function beginPlace(why) {
    const [place, left] = [h("strong"), h("span.muted")];
    const way = h("progress", { "aria-label": "Way through the queue" });
    body.replaceChildren(h("p.place.figures", {}, place, left), way, why);
    write = () => {
      const { queue, state, first } = picture;
      const { position, eta_seconds: eta, reason, stage } = queue ?? {};
      const known = eta && !reason?.startsWith("no worker");
      setText(place, position ? `${ordinal(position)} in the queue` : "In the queue");
      setText(left, known ? `about ${duration(eta)} left` : position > 1 ? `${counted(position - 1, "other")} before it` : "");
      show(way, first > 1);
      if (first > 1) [way.max, way.value] = [first, first - position];
      setText(why, sentence(state === "starting" ? `A worker starts${stage ? `: it ${STAGES[stage]}` : ""}` : reason));
    };
  }

  function offer() {
    const { state, problem, canceling } = picture;
    const ended = ENDED.includes(state);
    const put = (row, names) => arrange(row, names.filter(Boolean).map((what) => buttons[what]));
    const focused = node.contains(document.activeElement);
    buttons.cancel.disabled = Boolean(canceling);
    put(tools, [ended && state !== "canceled" && "copy", ended && "remove"]);
    put(acts, [!ended && "cancel", ended && wantsKey(problem) && "key", ended && state !== "done" && !isWrong(problem) && "again"]);
    // Or the keyboard would begin at the top of the page again.
    if (focused && !node.contains(document.activeElement)) node.focus({ preventScroll: true });
  }

  update();
  return { node, update, discard };
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
    .map(([name, value]) => h("div", {}, h("dt.muted", {}, name), h("dd", {}, milliseconds(value))));
}
