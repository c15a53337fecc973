// Where pictures come from: dropped, pasted, chosen, photographed, or one of ours.

import { open } from "./api.js";
import { h } from "./dom.js";

const TYPES = "image/jpeg,image/png,image/webp,image/gif";
const PICTURE_NAME = /\.(jpe?g|jfif|png|webp|gif)$/i;
const MOST_FILES = 10_000; // of one drop
const PICTURE = "/page/cat.jpg";
let picker; // kept, as a browser may forget an input that is in no document before its files are chosen

/** Calls `found(files, leftOut)` with pictures from any source; `leftOut` says how many files of folders were none. */
export function collect({ found, failed }) {
  const pick = (attributes, ofFolder) => {
    const input = (picker = h("input", { type: "file", ...attributes }));
    input.addEventListener("change", () => deliver([...input.files], ofFolder, found));
    input.click();
  };
  on("choose", () => pick({ multiple: true, accept: TYPES }, false));
  on("choose-folder", () => pick({ webkitdirectory: true }, true));
  on("photograph", () => pick({ accept: "image/*", capture: "environment" }, false));
  on("try", async () => {
    try {
      const blob = await (await open(PICTURE)).blob();
      found([new File([blob], "cat.jpg", { type: blob.type })], 0);
    } catch (problem) {
      failed(problem);
    }
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    found(files, 0);
  });
  listenForDrops(found);
}

function on(id, act) {
  document.getElementById(id).addEventListener("click", act);
}

function deliver(files, ofFolder, found) {
  const pictures = ofFolder ? files.filter(isPicture) : files;
  found(pictures, files.length - pictures.length);
}

function isPicture(file) {
  return TYPES.split(",").includes(file.type) || PICTURE_NAME.test(file.name);
}

function listenForDrops(found) {
  const root = document.documentElement;
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let leaving;
  const over = (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    clearTimeout(leaving);
    root.dataset.drop = "over";
  };
  const left = () => {
    leaving = setTimeout(() => delete root.dataset.drop, 80); // it leaves one element to enter the next
  };
  document.addEventListener("dragenter", over);
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", left);
  document.addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    left();
    // Both lists are empty as soon as this listener has returned, so all is taken from them before any wait.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = [...event.dataTransfer.files];
    if (!entries.some((entry) => entry.isDirectory)) return found(files, 0);
    const dropped = { files: [], others: 0 };
    for (const entry of entries) await walk(entry, false, dropped);
    found(dropped.files, dropped.others);
  });
}

async function walk(entry, inFolder, dropped) {
  if (dropped.files.length >= MOST_FILES) return;
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file && (!inFolder || isPicture(file))) dropped.files.push(file);
    else dropped.others += 1;
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return;
    for (const one of some) if (!one.name.startsWith(".")) await walk(one, true, dropped);
  }
}
