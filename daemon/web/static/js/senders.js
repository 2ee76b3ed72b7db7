// Who sends rows of which task, and how well the model knew their newest rows before it learned them.

import { byId, el, list, whenChanged } from "./dom.js";
import { count, score } from "./format.js";
import { ofTask } from "./palette.js";
import { suspects } from "./standing.js";

const HEADINGS = [["Source"], ["Task"], ["Recent score", "num"], ["Rows", "num"], [""]];
const REST = "other"; // the sources beyond the bound, together: last
const order = ([one, a], [other, b]) => (one === REST) - (other === REST) || (a.score ?? 1) - (b.score ?? 1);

function row({ task, source, found, suspect }) {
  return el("tr", { "data-source": source, class: suspect ? "bad" : null },
    el("th", { scope: "row", class: "mono", text: source }),
    el("td", {}, el("span", { class: "swatch", vars: { "--c": `var(${ofTask(task)})` } }), task),
    el("td", {}, el("b", { text: score(found.score) })),
    el("td", { text: count(found.rows) }),
    el("td", {}, suspect ? el("span", { class: "chip refused", text: "labels look wrong" }) : null));
}

const draw = whenChanged((rows) => {
  byId("senders-card").hidden = !rows.length;
  byId("senders").replaceChildren(list("Sources", HEADINGS, rows.map(row)));
});

/** Show the sources of a status, the lowest score of each task first. */
export const show = (status) =>
  draw(status.tasks.flatMap(({ name: task }) => {
    const blamed = suspects(status, task);
    return Object.entries(status.senders?.[task] ?? {}).sort(order)
      .map(([source, found]) => ({ task, source, found, suspect: blamed.includes(source) }));
  }));
