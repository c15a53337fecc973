// The page Ask: has the chosen tier classify pictures, and shows each on a card.

import { ask, onKey, rest } from "./api.js";
import { card } from "./card.js";
import { collect } from "./collect.js";
import { offer } from "./copy.js";
import { arrange, at, on, setText, show } from "./dom.js";
import { follow } from "./events.js";
import { count, counted } from "./format.js";
import { allowed, inspect } from "./pictures.js";
import { cancel, ENDED, fail, onChange, send } from "./sending.js";
import { askKey, serverGone } from "./shell.js";
import { choice } from "./tiers.js";
import { explain, wantsKey } from "./words.js";

const MOST_PICTURES = 10_000;
const MOST_CARDS = 100;
const MOST_FAILED = 40; // of the cards, if not all pictures have one; and as many that have not ended
const ARRANGE_EVERY = 400; // ms, where not all pictures have a card
const SAY_EVERY = 3000;
const TIERS_AGAIN = 5000;
const TITLE = document.title;
const NAMES = { leased: "in work", queued: "in the queue", sending: "on their way", here: "waiting in this page" };

const pictures = new Set(); // in the order in which they came
const those = (test) => [...pictures].filter(test);
const hasEnded = ({ state }) => ENDED.includes(state);
const cards = new Map(); // by picture
const tiers = choice(at("tiers"), ({ limits }) => setText(at("limits"), allowed(limits)));
const known = loadTiers();
let lots = 0;
let timer = 0;
let arrangedAt = 0;
let saidAt = 0;
let over = true;

async function found(files, others) {
  const taken = files.slice(0, MOST_PICTURES - pictures.size);
  notice(
    others && `${counted(others, "file")} of the folder left out: no pictures that are taken.`,
    taken.length < files.length && `No more than ${count(MOST_PICTURES)} pictures fit on this page.`,
  );
  await known;
  lots += 1;
  const added = taken.map((file, place) => ({ file, lot: lots, state: "here", name: nameOf(file, place) }));
  for (const picture of added) pictures.add(picture);
  changed();
  for (const picture of added) await check(picture);
}

function nameOf(file, place) {
  return file.webkitRelativePath.replace(/^[^/]*\//, "") || file.name || `pasted-${lots}-${place + 1}.png`;
}

async function check(picture) {
  const { name, limits } = tiers.chosen();
  Object.assign(picture, { tier: name, topK: at("top-k").validity.valid ? at("top-k").value : 5 });
  try {
    picture.width = await inspect(picture.file, limits);
    if (pictures.has(picture)) send(picture);
  } catch (problem) {
    picture.width ??= 0;
    fail(picture, problem);
  }
}

function act(name, picture) {
  if (name === "remove") remove([picture]);
  else if (name === "copy") offer([picture], `Copy ${picture.name}`);
  else ({ cancel, again: check, key: askKey })[name](picture);
}

function remove(some) {
  const next = cards.get(some[0])?.node.nextElementSibling;
  for (const picture of some) pictures.delete(picture);
  arrangeCards();
  (next?.isConnected ? next : at(pictures.size ? "results-title" : "choose")).focus();
}

function changed(picture) {
  if (picture?.state === "removed") pictures.delete(picture);
  else cards.get(picture)?.update();
  timer ||= setTimeout(arrangeCards, pictures.size > MOST_CARDS ? arrangedAt + ARRANGE_EVERY - performance.now() : 0);
}

function arrangeCards() {
  clearTimeout(timer);
  [timer, arrangedAt] = [0, performance.now()];
  const all = [...pictures];
  const shown = new Set(all.length > MOST_CARDS ? chosen(all) : all);
  for (const [picture, { discard }] of cards) if (!shown.has(picture)) (discard(), cards.delete(picture));
  for (const picture of shown) if (!cards.has(picture)) cards.set(picture, card(picture, act));
  const inOrder = all.filter((picture) => shown.has(picture)).sort((one, other) => other.lot - one.lot);
  arrange(at("cards"), inOrder.map((picture) => cards.get(picture).node));
  summarize(all, shown.size);
}

// The card with the focus, failed ones, those whose end is next, and the newest that are done.
function chosen(all) {
  const newest = all.toReversed();
  const of = (wanted) => newest.filter(({ state }) => state === wanted);
  const focused = all.filter((picture) => cards.get(picture)?.node.contains(document.activeElement));
  const active = all.filter((picture) => !hasEnded(picture));
  const some = [focused, of("failed").slice(0, MOST_FAILED), active.slice(0, MOST_FAILED), of("done"), newest];
  return [...new Set(some.flat())].slice(0, MOST_CARDS);
}

function summarize(all, shown) {
  const numbers = Object.groupBy(all, ({ state }) => (state === "starting" ? "queued" : state));
  const ended = those(hasEnded).length;
  const counts = Object.entries(numbers).map(([state, { length }]) => `${count(length)} ${NAMES[state] ?? state}`);
  const some = shown < all.length ? `. These are ${shown} of them: failed ones, those in work and the newest` : "";
  setText(at("counts"), `${counted(all.length, "picture")}: ${counts.join(", ")}${some}`);
  [at("progress").max, at("progress").value] = [all.length || 1, ended];
  show(at("progress"), all.length > 1);
  show(at("results"), all.length);
  show(at("cancel-all"), ended < all.length && all.length > 1);
  show(at("clear"), ended);
  show(at("copy-all"), numbers.done || numbers.failed);
  document.body.classList.toggle("has-pictures", all.length);
  document.title = ended < all.length ? `(${ended}/${all.length}) ${TITLE}` : TITLE;
  say(all, ended, numbers.failed?.length ?? 0);
}

// For those who hear the page.
function say(all, ended, failed) {
  const now = performance.now();
  if (ended === all.length ? over : now - saidAt < SAY_EVERY) return;
  [over, saidAt] = [ended === all.length, now];
  const best = all[0]?.prediction?.results[0]?.labels[0]?.label;
  setText(at("said"), all.length === 1 && best ? `${all[0].name}: ${best}` : `${ended} of ${all.length} finished, ${failed} failed`);
}

function notice(...texts) {
  setText(at("notice"), texts.filter(Boolean).join(" "));
}

async function loadTiers() {
  for (;;) {
    try {
      return tiers.update((await ask("/v1/tiers")).json.tiers);
    } catch (problem) {
      if (problem.away) await serverGone();
      else {
        notice(...Object.values(explain(problem)));
        await rest(TIERS_AGAIN);
      }
    }
  }
}

follow("/v1/tiers/events", { onEvent: (name, data) => tiers.update(data.tiers) });

onKey(() => {
  loadTiers();
  those(({ state, problem }) => state === "failed" && wantsKey(problem)).forEach(check);
});

setInterval(() => {
  for (const [picture, { update }] of cards) if (picture.retryAt) update();
}, 1000);

onChange(changed);
collect(found, (problem) => notice(explain(problem).title));
on("cancel-all", async () => {
  for (const picture of those((one) => !hasEnded(one)).reverse()) await cancel(picture);
});
on("clear", () => remove(those(hasEnded)));
on("copy-all", () => {
  const some = those(({ state }) => state === "done" || state === "failed");
  offer(some, `Copy ${counted(some.length, "picture")}`);
});
if (matchMedia("(pointer: coarse)").matches) setText(at("drop-title"), "Choose or photograph pictures");
