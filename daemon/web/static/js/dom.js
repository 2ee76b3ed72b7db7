// Builds elements from text: nothing a producer wrote is ever read as markup.

/**
 * An element. `props`: `class`, `text`, `vars` (custom properties, set through the CSSOM as the policy demands),
 * and any other name as an attribute; children are nodes or strings.
 */
export const el = (tag, props = {}, ...children) => filled(document.createElement(tag), props, children);

/** The same of a picture. */
export const svg = (tag, props = {}, ...children) => filled(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "vars") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Set text only where it differs, so that screen readers and selections are left alone. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Text in which `backquoted` words become <code>. */
export function prose(text) {
  return String(text).split("`").map((part, at) => (at % 2 ? el("code", { text: part }) : part));
}

/** Runs `draw(value)` only when the value differs from the last one: tables keep focus, scroll and selection. */
export function whenChanged(draw) {
  let last;
  return (value) => {
    const key = JSON.stringify(value);
    if (key === last) return;
    last = key;
    draw(value);
  };
}

/** A moment with its age, kept current by `refreshAges`. */
export function age(stamp, suffix = "ago") {
  const node = el("time", { datetime: stamp, "data-suffix": suffix, title: new Date(stamp).toLocaleString() });
  node.dataset.age = "";
  return node;
}

/** A table that scrolls inside itself when it is wider than its place. */
export function scrollable(label, table) {
  return el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, table);
}

/** A table of headings `[text, class]` and rows of cells; narrow screens show each row as a card, named by `data-label`. */
export function list(label, headings, rows) {
  for (const row of rows) {
    [...row.cells].forEach((cell, at) => {
      cell.dataset.label = headings[at][0];
      cell.replaceChildren(el("div", {}, [...cell.childNodes]));
      if (headings[at][1]) cell.classList.add(headings[at][1]);
    });
  }
  const head = headings.map(([text, kind]) => el("th", { scope: "col", class: kind, text }));
  return scrollable(label, el("table", { class: "list" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
}

export const empty = (text) => el("p", { class: "empty" }, prose(text));
