// One row a task: how well it is known and since when, what is wrong with it, how it trains, its part of the replay buffer.

import { age, byId, el, empty, list, whenChanged } from "./dom.js";
import { count, isNumber, loss, score, share } from "./format.js";
import { ofTask } from "./palette.js";
import { fallen, scored } from "./standing.js";

const HEADINGS = [["Task"], ["Score"], ["Rows", "num"], ["Scored"], ["Macro recall", "num"], ["Worst class"], ["Loss", "num"], ["Replay rows", "meter"]];

/** What is wrong with a task, in the words of the guard and of the evaluation. */
function faults({ fell, found }) {
  const [[part, one] = []] = fell;
  const told = one ? `fell from ${score(one.was)} to ${score(one.is)} on ${count(one.rows)} rows` : "";
  const where = part?.includes("/") ? ` (${part.split("/").slice(1).join("/")})` : "";
  return [told && `${told}${where}`, found.collapsed].filter(Boolean).map((text) => el("span", { class: "why fell", text }));
}

function chips({ fell, found, active }) {
  return [
    active && el("span", { class: "chip", text: "active" }),
    fell.length > 0 && el("span", { class: "chip refused", text: "fell" }),
    found.collapsed && el("span", { class: "chip refused", text: "collapsed" }),
  ].filter(Boolean).map((chip) => [" ", chip]);
}

function known({ found, fell }) {
  const name = isNumber(found.score) && found.metric ? `${found.metric} ` : "";
  const spread = found.interval ? el("span", { class: "hint", text: found.interval.map(score).join("–") }) : null;
  return [name, el("b", { text: score(found.score) }), spread, faults({ fell, found })];
}

function worst({ worst: told }) {
  if (!told) return "–";
  return [el("b", { text: score(told.recall) }), ` ${told.class}`, el("span", { class: "hint", text: `${count(told.rows)} rows` })];
}

function row(one) {
  const { task, found, replayed } = one;
  const rows = task.replay_rows ?? 0;
  return el("tr", { "data-task": task.name, class: one.fell.length || found.collapsed ? "bad" : null },
    el("th", { scope: "row" },
      el("span", { class: "swatch", vars: { "--c": `var(${ofTask(task.name)})` } }), task.name, chips(one),
      el("small", { text: [task.modality, task.kind, isNumber(task.columns) && `${count(task.columns)} outputs`].filter(Boolean).join(", ") })),
    el("td", {}, known(one)),
    el("td", { text: count(found.rows) }),
    el("td", {}, found.at ? age(found.at) : "not yet"),
    el("td", { text: score(found.macro_recall) }),
    el("td", {}, worst(found)),
    el("td", { text: loss(one.loss) }),
    el("td", {},
      el("span", { class: "track", "aria-hidden": "true" },
        el("span", { class: "fill", vars: { "--c": `var(${ofTask(task.name)})`, "--part": replayed ? rows / replayed : 0 } })),
      count(rows), el("span", { class: "hint", text: share(rows, replayed) })));
}

const draw = whenChanged((rows) => {
  byId("tasks").replaceChildren(
    rows.length ? list("Tasks", HEADINGS, rows.map(row))
    : empty("No task yet: declare one with `mtld task add`, then send rows with `mtld push`."));
});

/** Show the tasks of a status, what is wrong first. */
export function show(status) {
  const replayed = status.tasks.reduce((sum, task) => sum + (task.replay_rows ?? 0), 0);
  const rows = status.tasks.map((task) => ({
    task, replayed, found: scored(status, task.name), fell: fallen(status, task.name),
    loss: status.losses[task.name], active: task.name === status.task,
  }));
  const isWell = ({ fell, found }) => Number(!fell.length && !found.collapsed);
  draw(rows.sort((one, other) => isWell(one) - isWell(other)));
}
