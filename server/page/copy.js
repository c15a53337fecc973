// The dialog in which results and requests are looked at and copied.

import { keyId } from "./api.js";
import { copy, h, setText } from "./dom.js";

const COLUMNS = ["picture", "status", "tier", "model", "rank", "label", "score", "queue_ms", "predict_ms", "total_ms", "error"];
const FORMS = { JSON: asJson, CSV: asCsv, curl: asCurl, Python: asPython };
const KEY = "TIERSERVE_KEY"; // the variable from which the commands of tierserve read the key too

let pictures = [];
const text = h("textarea.mono", { readonly: true, rows: 16, "aria-label": "What is copied", spellcheck: "false", wrap: "off" });
const said = h("p.muted.small", { role: "status" });
const forms = h("div.row.forms", { role: "radiogroup", "aria-label": "As" },
  ...Object.keys(FORMS).map((form, place) => h("label", {},
    h("input", { type: "radio", name: "form", value: form, checked: place === 0, onchange: write }), h("span", {}, form))));
const title = h("h2", { id: "copy-title" });
const dialog = h("dialog.sheet", { "aria-labelledby": "copy-title" },
  h("form", { method: "dialog" },
    title, forms, text,
    h("div.row", {}, said, h("span.fill"),
      h("button.quiet", { value: "close" }, "Close"),
      h("button.main", { type: "button", onclick: copyIt }, "Copy"))));
document.body.append(dialog);

/** Shows what can be copied of these pictures. */
export function offer(some, heading) {
  pictures = some;
  setText(title, heading);
  write();
  dialog.showModal();
}

function write() {
  setText(said, "");
  text.value = FORMS[forms.querySelector(":checked").value](pictures);
  text.scrollTop = text.scrollLeft = 0;
}

async function copyIt() {
  try {
    await copy(text.value);
    setText(said, "Copied.");
  } catch (error) {
    setText(said, error.message);
    text.select();
  }
}

function result({ name, tier, state, prediction, problem }) {
  if (prediction && !problem) return { picture: name, ...prediction };
  const error = problem && { code: problem.code, detail: problem.detail };
  return { picture: name, tier, status: state, ...prediction, error };
}

function asJson(some) {
  const all = some.map(result);
  return JSON.stringify(all.length === 1 ? all[0] : all, null, 2);
}

function asCsv(some) {
  const rows = some.map(result).flatMap((one) => {
    const { status, tier, model, metrics = {}, error, results = [] } = one;
    const labels = results[0]?.labels?.length ? results[0].labels : [{}];
    return labels.map(({ label, score }, place) => [
      one.picture, status, tier, model, label && place + 1, label, score,
      metrics.queue_ms, metrics.predict_ms, metrics.total_ms, error && `${error.code}: ${error.detail}`,
    ]);
  });
  return [COLUMNS, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
}

// A spreadsheet takes a cell that begins so for a formula, and names of files come from anywhere.
function cell(value) {
  const plain = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function address({ tier, topK }) {
  return `${location.origin}/img-classification/${encodeURIComponent(tier)}?top_k=${topK}`;
}

// All that were sent in the same way go by one command.
function requests(some) {
  return [...Map.groupBy(some, address)].map(([url, group]) => [url, group.map((picture) => picture.name)]);
}

function asCurl(some) {
  const key = keyId() ? ` \\\n  -H "Authorization: Bearer $${KEY}"` : "";
  return requests(some).map(([url, names]) => {
    if (names.length === 1) return `curl --data-binary ${shell(`@${names[0]}`)} ${shell(url)}${key}`;
    return `for picture in ${names.map(shell).join(" ")}; do\n  curl --data-binary "@$picture" ${shell(url)}${key}\ndone`;
  }).join("\n");
}

function shell(word) {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

function asPython(some) {
  const [imports, header] = keyId()
    ? ["import json, os, urllib.request", `{"Authorization": "Bearer " + os.environ["${KEY}"], **BYTES}`]
    : ["import json, urllib.request", "BYTES"];
  const asked = requests(some).map(([url, names]) => `for name in ${python(names)}:
    with open(name, "rb") as picture:
        request = urllib.request.Request(${python(url)}, picture.read(), ${header})
    with urllib.request.urlopen(request) as answer:
        print(name, json.load(answer)["results"])`);
  return [imports, `\nBYTES = {"Content-Type": "application/octet-stream"}`, ...asked].join("\n");
}

// JSON is Python too, where it has only texts and lists.
function python(value) {
  return JSON.stringify(value, null, 1).replaceAll("\n", "").replaceAll(/^\[ /g, "[");
}
