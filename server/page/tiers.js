// The choice of a tier: what each serves, what it may use, and how long a picture takes there now.

import { h, setText, show } from "./dom.js";
import { bytes, count, duration, figure } from "./format.js";
import { sentence } from "./words.js";

/** Shows the tiers in `list` as radio buttons. `chosen()` is called whenever another one is chosen. */
export function choice(list, chosen) {
  const shown = new Map(); // by name: {tier, node, parts}
  let name = "";

  list.addEventListener("change", (event) => {
    name = event.target.value;
    chosen();
  });

  /** Shows these tiers, as `/v1/tiers` has them. One without `access` keeps what was last known of that. */
  function update(tiers) {
    for (const tier of tiers) {
      if (!shown.has(tier.name)) shown.set(tier.name, row(tier.name));
      const one = shown.get(tier.name);
      one.tier = { ...tier, access: tier.access ?? one.tier?.access };
      draw(one.parts, one.tier);
    }
    const there = new Set(tiers.map((tier) => tier.name));
    for (const [gone, { node }] of shown) if (!there.has(gone)) (node.remove(), shown.delete(gone));
    tiers.forEach((tier, place) => {
      const { node } = shown.get(tier.name);
      if (list.children[place] !== node) list.insertBefore(node, list.children[place] ?? null);
    });
    if (!shown.has(name)) choose((tiers.find((tier) => tier.access?.allowed !== false) ?? tiers[0])?.name ?? "");
    else chosen();
  }

  function choose(wanted) {
    name = wanted;
    const input = shown.get(name)?.node.querySelector("input");
    if (input) input.checked = true;
    chosen();
  }

  return { update, get tier() { return shown.get(name)?.tier ?? null; } };
}

function row(name) {
  const parts = {
    tag: h("span.tag"), model: h("span.model.mono"), time: h("span.time"), why: h("span.why"), may: h("span.may"),
  };
  const node = h("label.tier", {},
    h("input", { type: "radio", name: "tier", value: name }),
    h("span.name", {}, name), parts.tag, parts.time, parts.why, parts.model, parts.may);
  return { node, parts, tier: null };
}

function draw(parts, tier) {
  const closed = tier.access?.allowed === false;
  const paused = Object.values(tier.quota).some((usage) => usage.hard === 0);
  setText(parts.tag, closed ? "wants a key" : paused ? "paused" : "");
  parts.tag.classList.toggle("wait", paused && !closed);
  show(parts.tag, closed || paused);
  const { model } = tier;
  setText(parts.model, [model.reference ?? model.name, model.canary?.live && `+ ${model.canary.percent} % canary`].filter(Boolean).join(" "));
  const [time, why] = pace(tier, paused);
  setText(parts.time, time);
  setText(parts.why, why);
  setText(parts.may, may(tier));
}

/** What the tier may use, for all its workers together: "2 CPUs, 2 GiB, 10 pods". */
function may({ quota }) {
  const words = { cpu: (n) => `${figure(n)} CPU${n === 1 ? "" : "s"}`, memory: (n) => bytes(n, true), pods: (n) => `${count(n)} pods` };
  const known = Object.entries(words).filter(([name]) => quota[name]).map(([name, write]) => write(quota[name].hard));
  return known.length ? `May use ${known.join(", ")}` : "May use as much as there is";
}

/** How long a picture that is sent now takes, and why that is so. */
export function pace(tier, paused = false) {
  const ready = Math.max(0, tier.workers - (tier.starting ?? 0));
  const each = tier.model.measured?.p50_ms ? tier.model.measured.p50_ms / 1000 : null;
  const wait = tier.queued ? `${count(tier.queued)} wait` : "nobody waits";
  if (paused) return ["Has to wait", sentence(tier.reason || "its quota is 0")];
  if (!ready) {
    if (tier.queued && tier.reason) return ["Has to wait", `${count(tier.queued)} wait. ${sentence(tier.reason)}`];
    return ["Answers in seconds", tier.starting ? `A worker starts, ${wait}` : `A worker starts first, ${wait}`];
  }
  const workers = ready === 1 ? "1 worker" : `${count(ready)} workers`;
  if (each === null) return [tier.queued ? "Answers when others have theirs" : "Answers at once", `${workers}, ${wait}`];
  return [`Answers in ${duration(Math.max(0.1, ((tier.queued + 1) * each) / (tier.queued ? ready : 1)))}`, `${workers}, ${wait}`];
}
