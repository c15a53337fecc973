// The choice of a tier: what each serves, what it may use, and how long a picture takes there now.

import { arrange, h, setText, show } from "./dom.js";
import { bytes, count, counted, duration, figure } from "./format.js";
import { sentence } from "./words.js";

/** Shows the tiers in `list` as radio buttons; `chosen(tier)` is called when another is chosen, or when it changed. */
export function choice(list, chosen) {
  const rows = new Map(); // by name
  let name = "";

  function choose(wanted) {
    name = wanted;
    if (!rows.has(name)) return;
    rows.get(name).input.checked = true;
    chosen(rows.get(name).tier);
  }

  list.addEventListener("change", (event) => choose(event.target.value));

  return {
    /** Shows these, as `/v1/tiers` has them; of one without `access`, what was known of that before counts. */
    update(tiers) {
      const before = new Map(rows);
      rows.clear();
      for (const tier of tiers) {
        const row = before.get(tier.name) ?? newRow(tier.name);
        row.tier = { ...tier, access: tier.access ?? row.tier?.access };
        draw(row);
        rows.set(tier.name, row);
      }
      arrange(list, [...rows.values()].map((row) => row.node));
      choose(rows.has(name) ? name : (tiers.find((tier) => tier.access?.allowed !== false) ?? tiers[0])?.name);
    },
    /** The one that is chosen. */
    get tier() {
      return rows.get(name)?.tier;
    },
  };
}

function newRow(name) {
  const row = { input: h("input", { type: "radio", name: "tier", value: name }), name: h("span.name", {}, name) };
  for (const part of ["tag", "time", "why", "model", "may"]) row[part] = h(`span.${part}`);
  return { node: h("label.tier", {}, ...Object.values(row)), ...row };
}

function draw(row) {
  const { model, quota, access } = row.tier;
  const paused = Object.values(quota).some((usage) => usage.hard === 0);
  const state = access?.allowed === false ? "wants a key" : paused ? "paused" : "";
  setText(row.tag, state);
  show(row.tag, state);
  const names = model.canary?.live ? `${model.reference} and ${model.canary.percent} % ${model.canary.reference}` : (model.reference ?? model.name);
  setText(row.model, names.replaceAll("@", "\u200b@")); // where a long name may be broken
  setText(row.may, mayUse(quota));
  const [time, why] = pace(row.tier, paused);
  setText(row.time, time);
  setText(row.why, why);
}

// What all workers of the tier together may use.
function mayUse({ cpu, memory, pods }) {
  const parts = [cpu && `${figure(cpu.hard)} CPU${cpu.hard === 1 ? "" : "s"}`, memory && bytes(memory.hard), pods && counted(pods.hard, "pod")];
  return `May use ${parts.filter(Boolean).join(", ") || "whatever is free"}`;
}

// How long a picture that is sent now takes, and why.
function pace({ queued, workers, starting = 0, reason, model }, paused) {
  const ready = workers - starting;
  const wait = queued ? `${count(queued)} wait` : "nobody waits";
  if (paused || (!workers && queued && reason)) return ["Has to wait", `${sentence(wait)} ${sentence(reason)}`];
  if (!ready) return ["Answers in seconds", `A worker starts${starting ? "" : " first"}, ${wait}`];
  const because = `${counted(ready, "worker")}, ${wait}`;
  const seconds = ((queued + 1) * model.measured?.p50_ms) / 1000 / ready;
  if (!queued || seconds < 1) return ["Answers in under a second", because];
  return [seconds ? `Answers in ${duration(seconds)}` : "Answers after the others", because];
}
