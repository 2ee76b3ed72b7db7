// The accuracy matrix as a heat map: reading a column downwards shows a part being forgotten, or not.

import { byId, el, empty, scrollable, whenChanged } from "./dom.js";
import { count, isNumber, moment, score } from "./format.js";
import { ofTask } from "./palette.js";

const INK_CHANGES = 0.55; // heat from which light text reads better than dark

function cell(value) {
  if (!isNumber(value)) return el("td", { class: "blank" }, el("span", { class: "sr", text: "not seen yet" }));
  const heat = Math.max(0, Math.min(1, value));
  return el("td", { class: heat >= INK_CHANGES ? "heat high" : "heat", vars: { "--heat": heat.toFixed(3) }, text: score(value) });
}

function heading(part) {
  const [task, ...phase] = part.split("/");
  return el("th", { scope: "col" },
    el("span", { class: "of-task", vars: { "--c": `var(${ofTask(task)})` }, text: task }),
    el("span", { class: "of-phase", text: phase.join("/") || "all rows" }));
}

function row(found, parts) {
  return el("tr", {},
    el("th", { scope: "row" }, moment(found.task, found.phase), el("small", { text: `step ${count(found.step)}` })),
    parts.map((part) => cell(found.parts[part])));
}

/** Parts in the order in which they were first scored. */
const partsOf = (rows) => [...new Set(rows.flatMap((one) => Object.keys(one.parts)))];

const draw = whenChanged((matrix) => {
  const place = byId("matrix");
  const rows = matrix?.rows ?? [];
  if (!rows.length) {
    place.replaceChildren(empty("No row yet: every task is scored when a task switches, `mtld task switch`."));
    return;
  }
  const parts = partsOf(rows);
  const lowest = matrix.min_acc ?? {};
  const table = el("table", { class: "heatmap" },
    el("caption", { class: "sr", text: "Score of each part after each phase" }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "end of" }), parts.map(heading))),
    el("tbody", {}, rows.map((one) => row(one, parts))),
    el("tfoot", {}, el("tr", {}, el("th", { scope: "row", text: "lowest so far" }),
      parts.map((part) => el("td", { text: score(lowest[part]) })))));
  const frame = scrollable("Accuracy matrix", table);
  place.replaceChildren(frame, el("p", { class: "key" }, "0", el("span", { class: "ramp", "aria-hidden": "true" }), "1"));
  frame.scrollTop = frame.scrollHeight;
});

/** Show the matrix of a status. */
export const show = (status) => draw(status.matrix);
