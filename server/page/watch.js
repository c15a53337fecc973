// The Watch page: every tier, as it changes.

import { ask, onKey } from "./api.js";
import { at, h, setText, show } from "./dom.js";
import { follow } from "./events.js";
import { count, counted, figure, timeOfDay } from "./format.js";
import { fill, learnTime, mark } from "./live.js";
import { serverBack, serverGone } from "./shell.js";
import { stateOf, TierPanel, usage } from "./tier.js";

const OPEN_EVERY = 5_000; // ms between looks at the activity of an open tier
const SEEN_EVERY = 30_000; // ms, of a closed one on the screen
const AT_ONCE = 2; // looks under way: a browser has six connections
const INDEXED = 4; // so many tiers get a list of them on top

const [main, totals, alerts, index, empty] = ["tiers", "totals", "alerts", "index", "empty"].map(at);
const panels = new Map(); // by tier

let told, stream; // told: the newest data of the stream
let trouble; // a Problem, while the server is there and the stream is not
let live = false;
let drawing = false;
let looking = 0;

function connect() {
  stream?.close();
  stream = follow("/v1/tiers/events", { onEvent: hear, onState: turn });
}

function hear(name, data) {
  if (name !== "tiers") return;
  told = data;
  const waiting = sum(({ queued }) => queued);
  document.title = `${waiting ? `${count(waiting)} waiting · ` : ""}Watch · tierserve`;
  if (!drawing) requestAnimationFrame(draw);
  drawing = true;
}

function turn(state, problem) {
  if (state === "drained") return; // the next server is asked at once
  live = state === "open";
  trouble = live || problem?.away ? null : problem;
  mark(document.body, "data-stale", !live && "");
  if (live) {
    serverBack();
    learnAccess();
  } else if (problem?.away) {
    serverGone(`The server cannot be reached. What you see is how it was at ${timeOfDay(Date.now())}; the page goes on by itself.`)
      .then(() => live || connect());
  }
  draw();
}

// Who may see what a tier did lately depends on the key, and the stream is the same for all.
async function learnAccess() {
  try {
    const { headers, json } = await ask("/v1/tiers");
    learnTime(headers.get("Date"));
    for (const { name, access } of json.tiers) if (panels.has(name)) Object.assign(panels.get(name), { allowed: access.allowed, due: 0 });
  } catch (problem) {
    for (const { chart } of panels.values()) chart.say(problem.detail);
  }
  look();
}

function draw() {
  drawing = false;
  fill(alerts, problems(), ({ label }) => label, alert);
  if (!told) return;
  const { tiers } = told;
  const before = panels.size;
  for (const one of panels.keys()) if (!tiers.some(({ name }) => name === one)) panels.delete(one);
  show(empty, !tiers.length);
  const many = tiers.length >= INDEXED;
  show(index, many);
  fill(index.firstElementChild, many ? tiers : [], ({ name }) => name, entry);
  setText(totals, inAll());
  fill(main, tiers, ({ name }) => name, panel);
  if (panels.size > before) learnAccess();
}

function panel({ name }) {
  const made = new TierPanel(name, (opened) => {
    opened.due = 0;
    draw();
    look();
  });
  panels.set(name, made);
  return made;
}

function isOnScreen(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

// Asks for the activity of the tiers that are due and on the screen, the open ones first.
function look() {
  if (!live) return;
  const due = [...panels.values()].filter((one) => one.allowed !== null && one.due <= Date.now() && isOnScreen(one.element));
  due.sort((a, b) => b.isOpen - a.isOpen);
  for (const one of due.slice(0, Math.max(0, AT_ONCE - looking))) lookAt(one);
}

async function lookAt(one) {
  one.due = Infinity;
  if (!one.allowed) return one.close();
  looking += 1;
  let pause = one.isOpen ? OPEN_EVERY : SEEN_EVERY;
  try {
    one.tell((await ask(`/v1/tiers/${encodeURIComponent(one.name)}/activity`, { seconds: 10 })).json);
  } catch (problem) {
    one.chart.say(problem.detail);
    pause = Math.max(OPEN_EVERY, 1000 * problem.retryAfter);
  }
  looking -= 1;
  if (one.due === Infinity) one.due = Date.now() + pause; // unless it was opened meanwhile
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

function alert({ label }) {
  const text = h("span");
  return { element: h("p.note.bad", {}, h("strong", {}, label), " ", text), update: (one) => setText(text, one.text) };
}

function sum(valueOf) {
  return told.tiers.reduce((total, tier) => total + valueOf(tier), 0);
}

function inAll() {
  const [waiting, working, workers] = ["queued", "predicting", "workers"].map((name) => sum((tier) => tier[name]));
  const [accepted, failed] = ["accepted", "failed"].map((name) => figure(sum(({ rates }) => rates[name])));
  const capacity = Object.entries(told.capacity ?? {}).map(([name, of]) => ` · ${name} ${usage(name, of)} used`);
  return `${count(waiting)} waiting · ${count(working)} in work · ${counted(workers, "worker")} · ${accepted} accepted and ${failed} failed a second${capacity.join("")}`;
}

function entry({ name }) {
  const [waiting, word] = [h("span.figures"), h("span")];
  return {
    element: h("li", {}, h("a.small", { href: `#tier-${name}` }, h("span.name", {}, name), waiting, word)),
    update(tier) {
      const [state, tone] = stateOf(tier);
      setText(waiting, tier.queued ? count(tier.queued) : "");
      setText(word, tier.queued ? " waiting" : state.toLowerCase());
      mark(word, "class", tier.queued ? "offscreen" : "muted");
      mark(this.element.firstChild, "data-tone", tone);
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
