// What both pages have around them: the theme, the key, and the banner that says that the server is gone.

import { keyId, onKey, setKey } from "./api.js";
import { h, setText, show } from "./dom.js";

const THEMES = { system: "light", light: "dark", dark: "system" }; // each with the one that a click brings
const PROBE_FIRST = 500;
const PROBE_LONGEST = 5000; // ms
const PROBE_SECONDS = 4;

const banner = document.getElementById("gone");
let away = null; // a promise, while the server is gone
let back = () => {};

/** Says that the server cannot be reached, and asks again and again until it can. Resolves then; repeats are free. */
export function serverGone(text = "The server cannot be reached. This page goes on by itself as soon as it can.") {
  if (!away) {
    away = new Promise((resolve) => {
      back = resolve;
    });
    document.documentElement.dataset.server = "gone";
    setText(banner.firstElementChild, text);
    show(banner, true);
    probe(away);
  }
  return away;
}

/** Takes the banner away. */
export function serverBack() {
  if (!away) return;
  delete document.documentElement.dataset.server;
  show(banner, false);
  setText(banner.firstElementChild, "");
  away = null;
  back();
}

async function probe(outage) {
  for (let pause = PROBE_FIRST; away === outage; pause = Math.min(pause * 1.5, PROBE_LONGEST)) {
    await new Promise((resolve) => setTimeout(resolve, pause * (0.75 + Math.random() / 2)));
    const answer = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(1000 * PROBE_SECONDS) })
      .catch(() => null);
    if (answer?.ok && away === outage) serverBack();
  }
}

function switchTheme() {
  const next = THEMES[document.documentElement.dataset.theme ?? "system"];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (next === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", next);
  } catch {
    // It lasts as long as the page, then.
  }
  nameTheme();
}

function nameTheme() {
  const theme = document.documentElement.dataset.theme ?? "system";
  const button = document.getElementById("theme");
  button.setAttribute("aria-label", `Theme: ${theme}`);
  button.title = `Theme: ${theme}. A click changes it to ${THEMES[theme]}.`;
}

/** Opens the dialog that takes a key, which stays in the memory of this tab. */
export function askKey() {
  keyDialog.querySelector("input").value = "";
  show(keyDialog.querySelector("[value=forget]"), keyId());
  keyDialog.showModal();
}

// No password field: browsers offer to keep what is typed into those.
const keyDialog = h("dialog.sheet", { "aria-labelledby": "key-title", onclose: keyEntered },
  h("form", { method: "dialog" },
    h("h2", { id: "key-title" }, "Your key"),
    h("p", { id: "key-help" }, "Some tiers want a key. It stays in the memory of this tab only: it is never stored, and gone when you close or reload the page."),
    h("label", { for: "key-text" }, "Key"),
    h("input.secret", {
      id: "key-text", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
      placeholder: "tsk_…", "aria-describedby": "key-help",
    }),
    h("div.row.end", {},
      h("button.quiet", { value: "forget", hidden: true }, "Forget the key"),
      h("span.fill"),
      h("button.quiet", { value: "cancel" }, "Close"),
      h("button.main", { value: "use" }, "Use this key"))));

function keyEntered() {
  const field = keyDialog.querySelector("input");
  if (keyDialog.returnValue === "use" && field.value.trim()) setKey(field.value);
  if (keyDialog.returnValue === "forget") setKey("");
  field.value = "";
  keyDialog.returnValue = "";
}

// Enter uses the key, wherever the buttons stand.
keyDialog.querySelector("input").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  keyDialog.close("use");
});

document.body.append(keyDialog);
document.getElementById("key").addEventListener("click", askKey);
document.getElementById("theme").addEventListener("click", switchTheme);
onKey((id) => {
  const button = document.getElementById("key");
  button.toggleAttribute("data-set", Boolean(id));
  setText(button.querySelector("span"), id ? `Key ${id}` : "Key");
});
nameTheme();
