// The choice of a tier: what each serves, what it may use, and how long a picture takes there now.

import { arrange, h, setText } from "./dom.js";
import { bytes, count, counted, duration, figure, timeOfDay } from "./format.js";
import { shareMeter } from "./share.js";
import { sentence } from "./words.js";

const PARTS = ["tag", "time", "why", "model", "may"];

/** A choice in `list`: `update(tiers)` shows them, and `chosen(tier)` hears when another is chosen, or has changed. */
export function choice(list, chosen) {
  let rows = new Map(); // by name
  let name;

  function choose(wanted) {
    const row = rows.get((name = wanted));
    if (!row) return;
    row.input.checked = true;
    chosen(row.tier);
  }

  // An event does not say what the caller may: what was known of that before counts.
  function update(tiers) {
    rows = new Map(tiers.map((tier) => {
      const row = rows.get(tier.name) ?? newRow(tier.name);
      row.tier = { ...row.tier, ...tier };
      draw(row);
      return [tier.name, row];
    }));
    arrange(list, [...rows.values()].map((row) => row.node));
    choose(rows.has(name) ? name : (tiers.find(({ access }) => access?.allowed) ?? tiers[0])?.name);
  }

  list.addEventListener("change", (event) => choose(event.target.value));
  return { update, chosen: () => rows.get(name).tier };
}

function newRow(name) {
  const parts = Object.fromEntries(PARTS.map((part) => [part, h(`span.${part}`)]));
  const input = h("input", { type: "radio", name: "tier", value: name });
  const share = shareMeter();
  return { node: h("label.tier", {}, input, h("span.name", {}, name), ...Object.values(parts), share.element), input, share, ...parts };
}

function draw(row) {
  const { model: { reference, name, canary }, quota: { cpu, memory, pods }, access } = row.tier;
  const paused = [cpu, memory, pods].some((usage) => usage?.hard === 0);
  const most = [cpu && `${figure(cpu.hard)} CPU${cpu.hard === 1 ? "" : "s"}`, memory && bytes(memory.hard), pods && counted(pods.hard, "pod")];
  const texts = {
    tag: access?.allowed === false ? "wants a key" : paused ? "paused" : "",
    // A long name may be broken before its version.
    model: `${reference ?? name}${canary?.live ? ` and ${canary.percent} % ${canary.reference}` : ""}`.replaceAll("@", "\u200b@"),
    may: `May use ${most.filter(Boolean).join(", ") || "whatever is free"}`,
  };
  [texts.time, texts.why] = pace(row.tier, paused);
  for (const part of PARTS) setText(row[part], texts[part]);
  row.share.update(row.tier.lending);
}

// How long a picture that is sent now takes, and why.
function pace({ queued, workers, starting, reason, model, breaker }, paused) {
  const ready = workers - starting;
  const wait = queued ? `${count(queued)} wait` : "nobody waits";
  if (paused || (!workers && queued && reason)) return ["Has to wait", `${sentence(wait)} ${sentence(reason || "its quota leaves no room")}`];
  if (!ready && breaker) return ["Has to wait", `Its workers fail. Another starts at ${timeOfDay(breaker.retry_at)}, ${wait}`];
  if (!ready) return ["Answers in seconds", `A worker starts${starting ? "" : " first"}, ${wait}`];
  const seconds = ((queued + 1) * model.measured?.p50_ms) / 1000 / ready;
  const time = !queued || seconds < 1 ? "in a moment" : seconds ? `in ${duration(seconds)}` : "after the others";
  return [`Answers ${time}`, `${counted(ready, "worker")}, ${wait}`];
}
