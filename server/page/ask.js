// The page Ask: takes pictures, has them classified by the chosen tier, and shows each on a card.

import { ask, onKey } from "./api.js";
import { Card } from "./card.js";
import { collect } from "./collect.js";
import { offer } from "./copy.js";
import { arrange, setText, show } from "./dom.js";
import { follow } from "./events.js";
import { count, counted } from "./format.js";
import { allowed, inspect } from "./inspect.js";
import { ENDED, Sending } from "./sending.js";
import { askKey, serverBack, serverGone } from "./shell.js";
import { choice } from "./tiers.js";
import { explain, wantsKey } from "./words.js";

const MOST_PICTURES = 10_000; // in this page
const MOST_CARDS = 100; // of them: all failed ones up to a part of these, those that are worked on, and the newest
const MOST_FAILED = 40;
const SHOW_EVERY = 400; // ms, where not all are shown
const SAY_EVERY = 2000; // ms

const at = (id) => document.getElementById(id);
const pictures = new Map(); // by number, the newest lot first within `lots`
const cards = new Map(); // by picture
let lots = 0;
let numbers = 0;

const sending = new Sending(changed);
const tiers = choice(at("tiers"), () => {
  const { tier } = tiers ?? {};
  if (tier) setText(at("limits"), allowed(tier.limits));
});

// ---- pictures come

async function found(files, leftOut) {
  const room = MOST_PICTURES - pictures.size;
  const taken = files.slice(0, room);
  notice([
    leftOut && `${counted(leftOut, "file is", "files are")} no JPEG, PNG, WebP or GIF and ${leftOut === 1 ? "was" : "were"} left out.`,
    taken.length < files.length && `This page takes ${count(MOST_PICTURES)} pictures. ${counted(files.length - taken.length, "more was", "more were")} left out.`,
  ]);
  await known;
  lots += 1;
  const added = taken.map((file) => {
    numbers += 1;
    const picture = { number: numbers, lot: lots, file, name: nameOf(file), state: "here" };
    pictures.set(numbers, picture);
    return picture;
  });
  changed();
  for (const picture of added) await send(picture);
}

function nameOf(file) {
  return file.webkitRelativePath?.split("/").slice(1).join("/") || file.name || `pasted-${numbers}.png`;
}

async function send(picture) {
  const { tier } = tiers;
  const topK = at("top-k");
  Object.assign(picture, { tier: tier.name, topK: topK.validity.valid ? topK.valueAsNumber : 5 });
  try {
    picture.size ??= await inspect(picture.file, tier.limits);
    redraw(picture);
    if (pictures.has(picture.number)) sending.add(picture);
  } catch (problem) {
    picture.size ??= { width: 0 };
    sending.refuse(picture, problem);
  }
}

function act(name, picture) {
  if (name === "cancel") sending.cancel(picture);
  else if (name === "again") send(picture);
  else if (name === "copy") offer([picture], `Copy ${picture.name}`);
  else if (name === "key") askKey();
  else remove([picture]);
}

function remove(some) {
  const after = some.length === 1 ? cards.get(some[0])?.node.nextElementSibling : null;
  for (const picture of some) pictures.delete(picture.number);
  arrangeCards();
  (after?.isConnected ? after : pictures.size ? at("results-title") : at("choose")).focus();
}

// ---- what is shown

let timer = 0;
let shownAt = 0;

function changed(picture) {
  if (picture?.state === "removed") pictures.delete(picture.number);
  if (picture) redraw(picture);
  if (timer) return;
  const wait = pictures.size > MOST_CARDS ? Math.max(0, shownAt + SHOW_EVERY - performance.now()) : 0;
  timer = setTimeout(arrangeCards, wait);
}

function redraw(picture) {
  if (picture.state !== "removed") cards.get(picture)?.update();
}

function arrangeCards() {
  clearTimeout(timer);
  [timer, shownAt] = [0, performance.now()];
  const all = [...pictures.values()];
  const some = all.length > MOST_CARDS ? chosen(all) : all;
  some.sort((one, other) => other.lot - one.lot || one.number - other.number);
  const kept = new Set(some);
  for (const [picture, card] of cards) if (!kept.has(picture)) (card.discard(), cards.delete(picture));
  for (const picture of some) if (!cards.has(picture)) cards.set(picture, new Card(picture, act));
  arrange(at("cards"), some.map((picture) => cards.get(picture).node));
  summarize(all, some.length);
}

function chosen(all) {
  const newest = [...all].reverse();
  const focused = newest.filter((picture) => cards.get(picture)?.node.contains(document.activeElement));
  const failed = newest.filter((picture) => picture.state === "failed").slice(0, MOST_FAILED);
  const active = all.filter((picture) => !ENDED.has(picture.state) && picture.state !== "here");
  const rest = newest.filter((picture) => picture.state === "done");
  const first = all.filter((picture) => picture.state === "here").slice(0, 10);
  return [...new Set([...focused, ...failed, ...active.slice(0, 30), ...first, ...rest, ...newest])].slice(0, MOST_CARDS);
}

function summarize(all, shown) {
  const of = Object.groupBy(all, ({ state }) => state);
  const number = (...states) => states.reduce((sum, state) => sum + (of[state]?.length ?? 0), 0);
  const ended = number(...ENDED);
  const counts = [
    [number("done"), "done"], [number("failed"), "failed"], [number("canceled"), "canceled"], [number("leased"), "in work"],
    [number("queued", "starting"), "in the queue"], [number("sending"), "on their way"], [number("here"), "waiting in this page"],
  ].filter(([some]) => some).map(([some, what]) => `${count(some)} ${what}`);
  setText(at("counts"), `${counted(all.length, "picture")}: ${counts.join(", ")}${shown < all.length ? `. Shown are ${shown}: failed ones, those in work and the newest.` : ""}`);
  at("progress").max = all.length || 1;
  at("progress").value = ended;
  show(at("progress"), all.length > 1);
  show(at("results"), all.length);
  show(at("cancel-all"), ended < all.length && all.length > 1);
  show(at("clear"), ended);
  show(at("copy-all"), number("done", "failed"));
  document.body.classList.toggle("has-pictures", all.length > 0);
  document.title = ended < all.length ? `(${ended}/${all.length}) Ask · tierserve` : "Ask · tierserve";
  say(all, ended, number("failed"));
}

let saidAt = -SAY_EVERY;
let finished = true;

function say(all, ended, failed) {
  const over = ended === all.length;
  if (!all.length || (over && finished) || (!over && performance.now() - saidAt < SAY_EVERY)) return;
  [saidAt, finished] = [performance.now(), over];
  if (!over) return setText(at("said"), `${count(ended)} of ${counted(all.length, "picture")} finished`);
  if (all.length > 1) return setText(at("said"), `All ${count(all.length)} pictures are finished${failed ? `, ${count(failed)} failed` : ""}`);
  const [{ name, state, prediction, problem }] = all;
  const best = prediction?.results?.[0]?.labels?.[0]?.label;
  setText(at("said"), `${name}: ${state === "done" ? best : problem ? explain(problem).title : state}`);
}

function notice(texts) {
  const text = texts.filter(Boolean).join(" ");
  setText(at("notice"), text);
  show(at("notice"), text);
}

// ---- tiers, keys and clocks

const known = new Promise((resolve) => {
  loadTiers(resolve);
});

async function loadTiers(done) {
  for (;;) {
    try {
      tiers.update((await ask("/v1/tiers")).json.tiers);
      return done();
    } catch (problem) {
      if (problem.away) await serverGone();
      else {
        notice([explain(problem).title, explain(problem).text]);
        await new Promise((resolve) => setTimeout(resolve, 1000 * (problem.retryAfter ?? 5)));
      }
    }
  }
}

follow("/v1/tiers/events", {
  onEvent: (name, data) => name === "tiers" && tiers.update(data.tiers),
  onState: (state, problem) => {
    if (state === "open") serverBack();
    else if (state === "lost" && problem.away) serverGone();
  },
});

onKey(() => {
  loadTiers(() => {});
  sending.hurry();
  for (const picture of pictures.values()) if (picture.state === "failed" && wantsKey(picture.problem)) send(picture);
});

setInterval(() => {
  for (const [picture, card] of cards) if (picture.retryAt) card.update();
}, 1000);

// ---- buttons

collect({ found, failed: (problem) => notice([explain(problem).title]) });
at("cancel-all").addEventListener("click", async () => {
  for (const picture of [...pictures.values()].reverse()) await sending.cancel(picture);
});
at("clear").addEventListener("click", () => remove([...pictures.values()].filter(({ state }) => ENDED.has(state))));
at("copy-all").addEventListener("click", () => {
  const some = [...pictures.values()].filter(({ state }) => state === "done" || state === "failed");
  offer(some, `Copy ${counted(some.length, "picture")}`);
});
if (!matchMedia("(any-pointer: coarse)").matches) show(at("photograph"), false);
