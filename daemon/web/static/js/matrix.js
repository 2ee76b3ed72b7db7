// The accuracy matrix as a heat map: reading a column downwards shows a part being forgotten, or not.

import { byId, el, empty, scrollable, whenChanged } from "./dom.js";
import { count, isNumber, moment, score } from "./format.js";
import { ofTask } from "./palette.js";

const INKS = [[0.82, "heat hot"], [0.62, "heat warm"], [0, "heat"]]; // where the ink changes: contrast is above 4.5 in both themes
const COLDEST = 0.75; // the scale reaches from here to 1, further down where a score is lower

function cell(value, low) {
  if (!isNumber(value)) return el("td", { class: "blank" }, el("span", { class: "sr", text: "not seen yet" }));
  const heat = Math.max(0, Math.min(1, (value - low) / (1 - low)));
  return el("td", { class: INKS.find(([from]) => heat >= from)[1], vars: { "--heat": heat.toFixed(3) }, text: score(value) });
}

function heading(part) {
  const [task, ...phase] = part.split("/");
  return el("th", { scope: "col", title: part },
    el("span", { class: "of-task", vars: { "--c": `var(${ofTask(task)})` }, text: task }),
    el("span", { class: "of-phase", text: phase.join("/") || "all rows" }));
}

function row(found, parts, low) {
  const at = found.task ? moment(found.task, found.phase) : "start";
  return el("tr", {},
    el("th", { scope: "row", title: at }, el("span", { class: "at", text: at }), el("small", { text: `step ${count(found.step)}` })),
    parts.map((part) => cell(found.parts[part], low)));
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
  const values = rows.flatMap((one) => Object.values(one.parts));
  const low = Math.max(0, Math.min(COLDEST, Math.floor(Math.min(...values) * 10) / 10));
  const table = el("table", { class: "heatmap" },
    el("caption", { class: "sr", text: "Score of each part after each phase" }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "end of" }), parts.map(heading))),
    el("tbody", {}, rows.map((one) => row(one, parts, low))),
    el("tfoot", {}, el("tr", {}, el("th", { scope: "row", text: "lowest so far" }),
      parts.map((part) => el("td", { text: score(lowest[part]) })))));
  const frame = scrollable("Accuracy matrix", table);
  place.replaceChildren(frame, el("p", { class: "key" }, low.toFixed(2), el("span", { class: "ramp", "aria-hidden": "true" }), "1.00"));
  frame.scrollTop = frame.scrollHeight;
});

/** Show the matrix of a status. */
export const show = (status) => draw(status.matrix);
