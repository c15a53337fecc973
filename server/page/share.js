// How a tier stands to its share of the capacity.

import { h, setText, show } from "./dom.js";
import { percent } from "./format.js";

/** `{element, update(lending)}`: words, and a bar of the capacity; hidden where there is none. */
export function shareMeter() {
  const [text, bar] = [h("span.figures"), h("span.track")];
  return {
    element: h("span.share", {}, text, bar),
    update(lending) {
      show(this.element, lending);
      if (!lending) return;
      const { share, used, borrowed, lent } = lending;
      const parts = [`${percent(used)} used`, borrowed && `${percent(borrowed)} borrowed`, lent && `${percent(lent)} lent`];
      setText(text, `Share ${percent(share)} of the capacity: ${parts.filter(Boolean).join(", ")}`);
      const ends = { used: used - borrowed, free: share - lent, own: share, all: share + borrowed };
      for (const [name, end] of Object.entries(ends)) bar.style.setProperty(`--${name}`, `${100 * end}%`);
    },
  };
}
