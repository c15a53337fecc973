// A table that changes in place.

import { h, setText, show } from "./dom.js";
import { fill, mark } from "./live.js";
import { markState } from "./workers.js";

let tables = 0;

export class Table {
  /** `cells(item)` returns what each column shows; `key` names the field that tells items apart, instead of their place. */
  constructor(title, columns, cells, key) {
    const id = `table-${(tables += 1)}`;
    Object.assign(this, { columns, cells, keyOf: (item, index) => (key ? item[key] : index), rows: h("tbody") });
    this.frame = h("div.scroll", { role: "group", "aria-labelledby": id, tabindex: 0 },
      h("table", { "aria-labelledby": id }, h("thead", {}, h("tr", {}, ...columns.map((name) => h("th", { scope: "col" }, name)))), this.rows));
    this.none = h("p.muted", {}, "None.");
    this.element = h("section", {}, h("h3", { id }, title), this.none, this.frame);
  }

  update(items) {
    show(this.frame, items.length);
    show(this.none, !items.length);
    fill(this.rows, items, this.keyOf, () => {
      const cells = this.columns.map(cell);
      return {
        element: h("tr", {}, ...cells.map(({ element }) => element)),
        update: (item) => this.cells(item).forEach((told, index) => cells[index].update(told)),
      };
    });
  }
}

// Shows `text` in the way of its `kind`, after the sign of a `state`; `extra` makes what stands behind it. A narrow
// screen leaves out what is `usual`.
function cell(column) {
  const words = h("span");
  const element = h("td", { "data-column": column }, words);
  const sign = h("i.sign");
  return {
    element,
    update({ text, kind = null, state, stage, extra, usual }) {
      setText(words, text ?? "");
      mark(element, "class", kind);
      mark(element, "data-skip", (usual || !text) && "");
      if (state) markState(sign, state, stage);
      if (state && !sign.parentNode) element.prepend(sign);
      if (extra && words === element.lastChild) element.append(extra());
    },
  };
}
