// Has the packaged viewer show /openapi.json in the colours of the page, and send the key of the page.

import { authorization, onKey, open } from "/page/api.js";
import { serverGone } from "/page/shell.js";
import "/docs/openapi-explorer.min.js";

const ORIGIN = "http://localhost:8080"; // of the samples of code
const ATTRIBUTES = {
  "bg-color": "--ground", "text-color": "--ink", "header-color": "--accent", "primary-color": "--accent",
  "secondary-color": "--accent", "nav-bg-color": "--sunken", "nav-text-color": "--ink",
  "nav-hover-bg-color": "--accent-soft", "nav-hover-text-color": "--accent",
};
const PROPERTIES = {
  "--green": "--accent", "--red": "--bad", "--blue": "--work", "--purple": "--work", "--orange": "--wait",
  "--yellow": "--wait", "--gray": "--muted", "--inline-code-fg": "--ink", "--code-fg": "--ink",
  "--code-property-color": "--work", "--code-keyword-color": "--bad", "--code-operator-color": "--ink",
};
const viewer = document.querySelector("openapi-explorer");

/** The document, with what the viewer needs: samples under the name that it knows, and for this server. */
async function described() {
  for (;;) {
    try {
      const whole = await (await open("/openapi.json")).json();
      for (const operation of Object.values(whole.paths).flatMap((path) => Object.values(path))) {
        const samples = operation["x-codeSamples"]; // what has none is no operation
        if (!samples) continue;
        for (const sample of samples) sample.source = sample.source.replaceAll(ORIGIN, location.origin);
        operation["x-code-samples"] = samples;
      }
      return whole;
    } catch (problem) {
      if (!problem.away) throw problem;
      await serverGone();
    }
  }
}

// The viewer computes with its colours, so it needs them as numbers.
function paint() {
  const probe = document.createElement("canvas").getContext("2d");
  const number = (name) => {
    viewer.style.color = `var(${name})`;
    probe.fillStyle = getComputedStyle(viewer).color;
    return probe.fillStyle;
  };
  for (const [property, name] of Object.entries(PROPERTIES)) viewer.style.setProperty(property, number(name));
  for (const [attribute, name] of Object.entries(ATTRIBUTES)) viewer.setAttribute(attribute, number(name));
  viewer.style.removeProperty("color");
}

function showKey() {
  viewer.setAuthenticationConfiguration("bearer", { token: authorization().Authorization ?? "" });
}

// The viewer's fields for files have no names for those who do not see them.
const requests = customElements.get("api-request").prototype;
const { updated } = requests;
requests.updated = function named(...changed) {
  updated.apply(this, changed);
  for (const field of this.renderRoot.querySelectorAll("input[type=file]")) field.setAttribute("aria-label", "File to send");
};

paint();
new MutationObserver(paint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
await viewer.loadSpec(await described());
onKey(showKey);
