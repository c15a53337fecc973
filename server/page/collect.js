// Where pictures come from: dropped, pasted, chosen, photographed, or one of ours.

import { open } from "./api.js";
import { h } from "./dom.js";

const TYPES = "image/jpeg,image/png,image/webp,image/gif";
const NAMES = /\.(jpe?g|jfif|png|webp|gif)$/i;
const MOST_FILES = 10_000; // of one drop
const OURS = "/page/cat.jpg";
const root = document.documentElement;
let input; // kept, as a browser may forget an input that is in no document before its files are chosen

/** Calls `found(files, others)` for each lot; `others` counts the files of folders that are no pictures. */
export function collect(found, failed) {
  const on = (id, act) => document.getElementById(id).addEventListener("click", act);
  const pick = (attributes, ofFolder) => () => {
    input = h("input", { type: "file", ...attributes, onchange: (event) => {
      const files = [...event.target.files];
      const pictures = ofFolder ? files.filter(isPicture) : files;
      found(pictures, files.length - pictures.length);
    } });
    input.click();
  };
  on("choose", pick({ multiple: true, accept: TYPES }));
  on("choose-folder", pick({ webkitdirectory: true }, true));
  on("photograph", pick({ accept: "image/*", capture: "environment" }));
  on("try", async () => {
    try {
      found([new File([await (await open(OURS)).blob()], "cat.jpg")], 0);
    } catch (problem) {
      failed(problem);
    }
  });
  document.addEventListener("paste", ({ clipboardData: { files } }) => {
    if (files.length && !document.querySelector("dialog[open]")) found([...files], 0);
  });
  listenForDrops(found);
}

function isPicture(file) {
  return file.type ? TYPES.split(",").includes(file.type) : NAMES.test(file.name);
}

function listenForDrops(found) {
  let leaving;
  const leave = () => (leaving = setTimeout(() => delete root.dataset.drop, 80)); // it may enter the next element
  const on = (name, act) => document.addEventListener(name, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    act(event.dataTransfer);
  });
  const over = (data) => {
    clearTimeout(leaving);
    data.dropEffect = "copy";
    root.dataset.drop = "over";
  };
  on("dragenter", over);
  on("dragover", over);
  on("dragleave", leave);
  on("drop", async ({ items, files }) => {
    leave();
    // Both lists are empty after the first wait, so all is taken from them before.
    const [entries, plain] = [[...items].map((item) => item.webkitGetAsEntry()).filter(Boolean), [...files]];
    if (!entries.some((entry) => entry.isDirectory)) return found(plain, 0);
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
  for (const reader = entry.createReader(); ; ) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return;
    for (const one of some) if (!one.name.startsWith(".")) await walk(one, true, dropped);
  }
}
