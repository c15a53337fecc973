// A table whose rows stay the same elements while what they say changes.

import { h, setText, show } from "./dom.js";
import { fill, mark } from "./inplace.js";

let tables = 0;

export class Table {
  /** `columns` names them; `key` says which item a row is: one of its fields, or its place. */
  constructor(title, columns, { key = null, nothing = "None yet." } = {}) {
    const id = `table-${(tables += 1)}`;
    const head = h("tr", {}, ...columns.map((column) => h("th", { scope: "col" }, column)));
    Object.assign(this, { columns, keyOf: (item, index) => (key ? item[key] : index) });
    this.rows = h("tbody");
    this.frame = h("div.scroll", { role: "group", "aria-labelledby": id, tabindex: 0 },
      h("table", { "aria-labelledby": id }, h("thead", {}, head), this.rows));
    this.nothing = h("p.muted", {}, nothing);
    this.element = h("section.listing", {}, h("h3", { id }, title), this.nothing, this.frame);
  }

  /** Shows the items, as `cells(item)` of the child class says: an array with an object for each column. */
  update(items) {
    show(this.frame, items.length);
    show(this.nothing, !items.length);
    fill(this.rows, items, this.keyOf, () => this.#row());
  }

  #row() {
    const cells = this.columns.map(cell);
    return {
      element: h("tr", {}, ...cells.map((one) => one.element)),
      update: (item) => this.cells(item).forEach((told, index) => cells[index].update(told)),
    };
  }
}

// Shows `text` in the way of its `kind`, after the mark of a `state`; `extra` comes after it, and is made once. What
// is `usual` is left out on a narrow screen.
function cell(column) {
  const words = h("span");
  const element = h("td", { "data-column": column }, words);
  let sign = null;
  return {
    element,
    update({ text, kind = null, state = null, stage = null, title = null, extra = null, usual = false }) {
      setText(words, text ?? "");
      mark(element, "class", kind);
      mark(element, "title", title);
      mark(element, "data-skip", usual || !text ? "" : null);
      if (state && !sign) element.prepend((sign = h("i.sign", { "aria-hidden": "true" })));
      if (sign) mark(sign, "data-state", state);
      if (sign) mark(sign, "data-stage", stage);
      if (extra && words === element.lastChild) element.append(extra());
    },
  };
}
