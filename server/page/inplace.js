// Changes what is on the page in place, and only where something differs, so that focus and selection stay.

import { arrange } from "./dom.js";

const kept = new WeakMap(); // by parent: its children by key

/** Sets an attribute if it differs; null and false take it away. */
export function mark(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/**
 * Has `parent` show `items`: each by a child that stays for as long as its key does.
 *
 * `make(item)` returns `{element, update(item)}`. An item whose key was there before in the list is left out.
 */
export function fill(parent, items, keyOf, make) {
  const before = kept.get(parent) ?? new Map();
  const now = new Map();
  items.forEach((item, index) => {
    const key = keyOf(item, index);
    if (now.has(key)) return;
    const child = before.get(key) ?? make(item);
    child.update(item);
    now.set(key, child);
  });
  kept.set(parent, now);
  arrange(parent, [...now.values()].map((child) => child.element));
}
