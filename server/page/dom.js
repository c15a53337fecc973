// Makes and changes elements. Whatever comes from outside becomes text, never HTML.

/** An element, as in h("p.small", {title: "…", onclick: act}, "text"); null, undefined and false are left out. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== false && child != null));
  return made;
}

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** Calls `act` when the element with this id is clicked. */
export const on = (id, act) => at(id).addEventListener("click", act);

/** Sets the text of an element if it differs, so that nothing is announced or selected anew. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows or hides an element. */
export function show(element, shown) {
  if (element.hidden === Boolean(shown)) element.hidden = !shown;
}

/** Has the children of `parent` be `wanted`, in that order. What is there already is not touched. */
export function arrange(parent, wanted) {
  const kept = new Set(wanted);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of wanted) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

/** Copies text. Throws an error that says what to do where browsers forbid it, as over plain HTTP. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    throw new Error("The browser does not let this page copy. Select the text and copy it yourself.");
  }
}
