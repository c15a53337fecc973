// The dialog in which results and requests are looked at and copied.

import { keyId } from "./api.js";
import { copy, h, setText } from "./dom.js";

const COLUMNS = "picture,status,tier,model,rank,label,score,queue_ms,predict_ms,total_ms,error".split(",");
const FORMS = { JSON: asJson, CSV: asCsv, curl: asCurl, Python: asPython };
let pictures;
const text = h("textarea.mono", { readonly: true, rows: 15, "aria-label": "Text" });
const said = h("p.muted.small", { role: "status" });
const forms = h("div.row.forms", { role: "radiogroup", "aria-label": "Copy as" },
  ...Object.keys(FORMS).map((form, place) => h("label.row", {},
    h("input", { type: "radio", name: "form", value: form, checked: !place, onchange: write }), form)));
const title = h("h2", { id: "copy-title" }, "Copy");
const dialog = h("dialog", { "aria-labelledby": "copy-title" },
  h("form", { method: "dialog" }, title, forms, text,
    h("div.row", {}, said, h("span.fill"), h("button.quiet", {}, "Close"), h("button.main", { type: "button", onclick: copyIt }, "Copy"))));
document.body.append(dialog);

/** Offers the results of these pictures, and the request of the first. */
export function offer(some, heading) {
  pictures = some;
  setText(title, heading);
  write();
  dialog.showModal();
}

function write() {
  setText(said, "");
  text.value = FORMS[forms.querySelector(":checked").value]();
}

async function copyIt() {
  try {
    await copy(text.value);
    setText(said, "Copied.");
  } catch (error) {
    setText(said, error.message);
  }
}

function result({ name, tier, state, prediction, problem }) {
  const error = problem && { error: { code: problem.code, detail: problem.detail } };
  return { picture: name, tier, status: state, ...prediction, ...error };
}

function asJson() {
  const all = pictures.map(result);
  return JSON.stringify(all.length === 1 ? all[0] : all, null, 2);
}

function asCsv() {
  const rows = pictures.map(result).flatMap(({ results, metrics, error, ...one }) => {
    const labels = results?.[0]?.labels ?? [];
    return (labels.length ? labels : [{}]).map(({ label, score }, place) => ({
      ...one, ...metrics, label, score, rank: label && place + 1, error: error && `${error.code}: ${error.detail}`,
    }));
  });
  return [COLUMNS, ...rows.map((row) => COLUMNS.map((name) => cell(row[name])))].join("\r\n");
}

// A spreadsheet takes a text that begins so for a formula, and names of files come from anywhere.
function cell(value) {
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function address({ tier, topK }) {
  return `${location.origin}/img-classification/${encodeURIComponent(tier)}?top_k=${topK}`;
}

function asCurl() {
  const name = pictures[0].name.replaceAll("'", String.raw`'\''`);
  const key = keyId() && ` \\\n  -H "Authorization: Bearer $TIERSERVE_KEY"`;
  return `curl --data-binary '@${name}' \\\n  '${address(pictures[0])}'${key}`;
}

function asPython() {
  const key = keyId() && `, "Authorization": "Bearer " + os.environ["TIERSERVE_KEY"]`;
  return `import json, ${key && "os, "}urllib.request

picture = open(${JSON.stringify(pictures[0].name)}, "rb").read()
headers = {"Content-Type": "application/octet-stream"${key}}
request = urllib.request.Request(${JSON.stringify(address(pictures[0]))}, picture, headers)
with urllib.request.urlopen(request) as answer:
    print(json.load(answer)["results"])`;
}
