// The Watch page: every tier as the server tells it, as it changes.

import { ask, onKey } from "./api.js";
import { learnTime } from "./clock.js";
import { h, setText, show } from "./dom.js";
import { follow } from "./events.js";
import { count, figure } from "./format.js";
import { fill, mark } from "./inplace.js";
import { serverBack, serverGone } from "./shell.js";
import { stateOf, TierPanel } from "./tier.js";

const OPEN_EVERY = 5_000; // ms between two looks at the activity of an open tier
const SEEN_EVERY = 30_000; // ms, of one that is closed, but on the screen
const AT_ONCE = 2; // looks under way: a browser has six connections
const INDEXED = 4; // from so many tiers on, a list of them stands on top

const [main, totals, alerts, index, empty] = ["tiers", "totals", "alerts", "index", "empty"].map((id) => document.getElementById(id));
const panels = new Map(); // by tier
const onScreen = new Set(); // elements of panels
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) onScreen[isIntersecting ? "add" : "delete"](target);
  look();
});

let told = null; // the newest data of the stream
let stream = null;
let trouble = null; // a Problem, while the stream brings nothing although the server is there
let live = false;
let drawing = false;
let looking = 0;

function connect() {
  stream?.close();
  stream = follow("/v1/tiers/events", { onEvent: hear, onState: (state, problem) => (state === "drained" ? null : turn(state, problem)) });
}

function hear(name, data) {
  if (name !== "tiers") return;
  told = data;
  const waiting = data.tiers.reduce((sum, tier) => sum + tier.queued, 0);
  document.title = `${waiting ? `${count(waiting)} waiting · ` : ""}Watch · tierserve`;
  if (!drawing) requestAnimationFrame(draw);
  drawing = true;
}

function turn(state, problem) {
  live = state === "open";
  trouble = live || problem?.away ? null : problem;
  if (live) {
    serverBack();
    learnAccess();
  } else if (problem?.away) {
    const text = "The server cannot be reached. What you see is how it was; this page goes on by itself.";
    serverGone(text).then(() => live || connect());
  }
  mark(document.body, "data-stale", live ? null : "");
  draw();
}

// Who may see what a tier did lately: that depends on the key, so the stream, which is the same for all, does not say it.
async function learnAccess() {
  try {
    const { headers, json } = await ask("/v1/tiers");
    learnTime(headers.get("Date"));
    for (const { name, access } of json.tiers) if (panels.has(name)) panels.get(name).allowed = access.allowed;
  } catch (problem) {
    for (const panel of panels.values()) panel.close(problem.detail);
  }
  for (const panel of panels.values()) panel.due = 0;
  look();
}

function draw() {
  drawing = false;
  fill(alerts, problems(), ({ label }) => label, alert);
  if (!told) return;
  const { tiers } = told;
  const before = panels.size;
  const listed = tiers.length >= INDEXED;
  show(empty, !tiers.length);
  show(index, listed);
  fill(index.firstElementChild, listed ? tiers : [], ({ name }) => name, entry);
  fill(totals, totalsOf(tiers), ({ label }) => label, total);
  forget(new Set(tiers.map(({ name }) => name)));
  fill(main, tiers, ({ name }) => name, panelOf);
  if (panels.size > before) learnAccess();
}

function panelOf({ name }) {
  const panel = new TierPanel(name, dueNow);
  panels.set(name, panel);
  seen.observe(panel.element);
  return panel;
}

function forget(names) {
  for (const [name, { element }] of panels) {
    if (names.has(name)) continue;
    seen.unobserve(element);
    onScreen.delete(element);
    panels.delete(name);
  }
}

function dueNow(panel) {
  panel.due = 0;
  look();
}

// Asks for the activity of the tiers that are due and on the screen, the open ones first.
function look() {
  if (!live) return;
  const due = [...panels.values()].filter((panel) => panel.allowed !== null && panel.due <= Date.now() && onScreen.has(panel.element));
  due.sort((a, b) => b.isOpen - a.isOpen);
  for (const panel of due.slice(0, Math.max(0, AT_ONCE - looking))) lookAt(panel);
}

async function lookAt(panel) {
  panel.due = Infinity;
  if (!panel.allowed) return panel.close("What this tier did lately is shown to those who may use it, so it takes a key that opens this tier.");
  looking += 1;
  let pause = panel.isOpen ? OPEN_EVERY : SEEN_EVERY;
  try {
    const { json } = await ask(`/v1/tiers/${encodeURIComponent(panel.name)}/activity`, { seconds: 10 });
    panel.tell(json);
  } catch (problem) {
    panel.chart.say(problem.detail);
    pause = Math.max(OPEN_EVERY, 1000 * problem.retryAfter);
  }
  looking -= 1;
  if (panel.due === Infinity) panel.due = Date.now() + pause; // unless a click came meanwhile
  look();
}

function problems() {
  const { settings, keys } = told ?? {};
  return [
    trouble && { label: "These figures are not of now.", text: trouble.detail },
    settings && !settings.current && { label: "The settings in the files are not in force.", text: settings.reason },
    keys && !keys.current && { label: "The keys in force may not be the latest.", text: keys.reason },
  ].filter(Boolean);
}

function alert() {
  const [label, text] = [h("strong"), h("span")];
  return {
    element: h("p.note.bad", {}, label, " ", text),
    update(one) {
      setText(label, one.label);
      setText(text, one.text);
    },
  };
}

function totalsOf(tiers) {
  const sum = (valueOf) => tiers.reduce((total, tier) => total + valueOf(tier), 0);
  return [
    { label: "waiting", value: count(sum(({ queued }) => queued)) },
    { label: "in work", value: count(sum(({ predicting }) => predicting)) },
    { label: "workers", value: count(sum(({ workers }) => workers)) },
    { label: "accepted a second", value: figure(sum(({ rates }) => rates.accepted)) },
    { label: "failed a second", value: figure(sum(({ rates }) => rates.failed)) },
  ];
}

function total({ label }) {
  const value = h("dd.figures");
  return { element: h("div", {}, h("dt", {}, label), value), update: (one) => setText(value, one.value) };
}

function entry({ name }) {
  const [waiting, word] = [h("span.figures"), h("span")];
  const link = h("a", { href: `#tier-${name}` }, h("span.name", {}, name), waiting, word);
  return {
    element: h("li", {}, link),
    update(tier) {
      const [state, tone] = stateOf(tier);
      setText(waiting, tier.queued ? count(tier.queued) : "");
      setText(word, tier.queued ? "waiting" : state.toLowerCase());
      mark(word, "class", tier.queued ? "offscreen" : "word");
      mark(link, "data-tone", tone);
    },
  };
}

// Ages and countdowns go on by themselves, but not while nobody knows whether they are true.
setInterval(() => {
  if (!live || document.hidden) return;
  draw();
  look();
}, 1000);

onKey(connect);
connect();
