// Changes in place, and the server's time.

import { arrange } from "./dom.js";
import { duration, milliseconds } from "./format.js";

const kept = new WeakMap(); // by parent: its children by key
let ahead = 0; // ms by which the server's clock is ahead of this one

/** Sets an attribute if it differs; null and false take it away. */
export function mark(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Has `parent` show each item by a child `{element, update(item)}` of `make(item)`, which stays while its key is there. */
export function fill(parent, items, keyOf, make) {
  const before = kept.get(parent);
  const now = new Map();
  items.forEach((item, index) => {
    const key = keyOf(item, index);
    const child = before?.get(key) ?? make(item);
    child.update(item);
    now.set(key, child);
  });
  kept.set(parent, now);
  arrange(parent, [...now.values()].map(({ element }) => element));
}

/** Learns the server's time, in whole seconds, from a Date header: the reader's clock may be wrong. */
export function learnTime(date) {
  const difference = Date.parse(date) - Date.now();
  ahead = Math.abs(difference) > 2000 ? difference : 0;
}

/** Seconds since a time of the server; negative if it is yet to come. */
export function secondsSince(time) {
  return (Date.now() + ahead - Date.parse(time)) / 1000;
}

/** How long ago a time of the server was, in whole seconds; empty for null. */
export function age(time) {
  return time ? duration(Math.max(0, Math.floor(secondsSince(time)))) : "";
}

/** Seconds that somebody waited; a dash for null. */
export function wait(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? milliseconds(seconds * 1000) : duration(seconds);
}
