// Where pictures come from: dropped, pasted, chosen, photographed, or one of ours.

import { open } from "./api.js";
import { h, on } from "./dom.js";

const TYPES = "image/jpeg,image/png,image/webp,image/gif,image/avif,image/tiff,image/bmp";
const MOST_FILES = 10_000; // of one drop
const { dataset } = document.documentElement;
let input; // kept: a browser may forget an input that is in no document before its files are chosen

/** Calls `found(files, others)` for each lot; `others` counts the files of folders that are no pictures. */
export function collect(found, failed) {
  const pick = (attributes) => () => {
    input = h("input", { type: "file", ...attributes, onchange: () => {
      const files = [...input.files];
      const pictures = input.webkitdirectory ? files.filter(isPicture) : files;
      found(pictures, files.length - pictures.length);
    } });
    input.click();
  };
  on("choose", pick({ multiple: true, accept: TYPES }));
  on("choose-folder", pick({ webkitdirectory: true }));
  on("photograph", pick({ accept: "image/*", capture: "environment" }));
  on("try", () => open("/page/cat.jpg").then((answer) => answer.blob())
    .then((picture) => found([new File([picture], "cat.jpg")], 0), failed));
  document.addEventListener("paste", ({ clipboardData: { files } }) => {
    if (files.length && !document.querySelector("dialog[open]")) found([...files], 0);
  });
  listenForDrops(found);
}

function isPicture({ type }) {
  return TYPES.split(",").includes(type);
}

function listenForDrops(found) {
  let leaving;
  const leave = () => (leaving = setTimeout(() => delete dataset.drop, 80)); // it may enter the next element
  const on = (name, act) => document.addEventListener(name, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    act(event.dataTransfer);
  });
  const over = (data) => {
    clearTimeout(leaving);
    data.dropEffect = "copy";
    dataset.drop = "over";
  };
  on("dragenter", over);
  on("dragover", over);
  on("dragleave", leave);
  on("drop", async ({ items }) => {
    leave();
    // All at once: after a wait they are gone. A picture of another page is no entry.
    const entries = [...items].map((item) => item.webkitGetAsEntry() ?? item.getAsFile()).filter(Boolean);
    const dropped = { files: [], others: 0 };
    for (const entry of entries) await walk(entry, false, dropped);
    found(dropped.files, dropped.others);
  });
}

async function walk(entry, inFolder, dropped) {
  if (dropped.files.length >= MOST_FILES || (inFolder && entry.name.startsWith("."))) return;
  if (entry instanceof File) return dropped.files.push(entry);
  const read = (from, method) => new Promise((resolve) => from[method](resolve, () => resolve(null)));
  if (entry.isFile) {
    const file = await read(entry, "file");
    if (file && (!inFolder || isPicture(file))) dropped.files.push(file);
    else dropped.others += 1;
    return;
  }
  const reader = entry.createReader();
  for (let some; (some = await read(reader, "readEntries"))?.length; ) {
    for (const one of some) await walk(one, true, dropped);
  }
}
