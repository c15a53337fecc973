// What the pages have around them: the theme, the key, and the word that the server is gone.

import { onKey, rest, setKey } from "./api.js";
import { at, h, on, setText, show } from "./dom.js";

const NEXT_THEME = { system: "light", light: "dark", dark: "system" };
const PAUSE = 1000; // ms, between the questions whether the server is back
const ANSWER = 4000; // ms
const GONE = "The server cannot be reached. This page goes on by itself as soon as it can.";

const root = document.documentElement;
const banner = at("gone");
let outage = null; // while the server is gone: a promise that is kept when it is back
let end;

/** Says that the server is gone, and asks until it answers: the promise is kept then. */
export function serverGone(text) {
  if (text || !outage) setText(banner.firstElementChild, text ?? GONE);
  show(banner, true);
  if (!outage) {
    outage = new Promise((resolve) => (end = resolve));
    probe(outage);
  }
  return outage;
}

/** Says that it is back. */
export function serverBack() {
  if (!outage) return;
  show(banner, false);
  outage = null;
  end();
}

async function probe(of) {
  while (outage === of) {
    await rest(PAUSE);
    const answer = await fetch("/healthz", { signal: AbortSignal.timeout(ANSWER) }).catch(() => null);
    if (answer?.ok && outage === of) serverBack();
  }
}

function showTheme(theme) {
  root.dataset.theme = theme;
  at("theme").title = at("theme").ariaLabel = `Theme: ${theme}`;
}

function switchTheme() {
  showTheme(NEXT_THEME[root.dataset.theme]);
  localStorage.setItem("theme", root.dataset.theme);
}

/** Opens the dialog that takes a key. */
export function askKey() {
  dialog.showModal();
}

// No password field: browsers offer to keep what is typed into those.
const field = h("input.secret", {
  id: "key-text", autocomplete: "off", autocapitalize: "off", spellcheck: "false", placeholder: "tsk_…", "aria-describedby": "key-help",
});
const dialog = h("dialog", { "aria-labelledby": "key-title", onclose: entered },
  h("form", { method: "dialog" },
    h("h2", { id: "key-title" }, "Your key"),
    h("p.muted", { id: "key-help" },
      "Some tiers want one. It stays in the memory of this tab, and is gone when you close or reload the page. An empty field forgets it."),
    h("label", { for: "key-text" }, "Key"),
    field,
    h("div.row", {}, h("span.fill"),
      h("button.quiet", { type: "button", onclick: () => dialog.close() }, "Close"),
      h("button.main", { value: "use" }, "Use this key"))));

function entered() {
  if (dialog.returnValue) setKey(field.value);
  field.value = dialog.returnValue = "";
}

document.body.append(dialog);
on("key", askKey);
on("theme", switchTheme);
showTheme(NEXT_THEME[root.dataset.theme] ? root.dataset.theme : "system");
onKey((id) => setText(at("key"), id ? `Key ${id}` : "Key"));
