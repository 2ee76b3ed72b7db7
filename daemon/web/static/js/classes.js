// One task of the newest snapshot, class by class: what it recalls, what it takes for what, what its probabilities are worth.

import { byId, el, empty, scrollable, whenChanged } from "./dom.js";
import { get } from "./feed.js";
import { count, isNumber, score, version } from "./format.js";
import { curve } from "./reliability.js";

const MATRIX = 16; // classes, of which a heat map has room for the confusions
const MISTAKES = 8;
const INKS = [[0.82, "heat hot"], [0.62, "heat warm"], [0, "heat"]]; // as in the accuracy matrix

const chooser = byId("class-task");
let shown; // version of the snapshot
let asked = 0; // cards, of which the newest alone is drawn: a slow answer never undoes a choice

function recall(one) {
  return el("li", { class: isNumber(one.recall) ? null : "none" },
    el("span", { class: "name", text: one.class, title: one.class }),
    el("span", { class: "track", "aria-hidden": "true" },
      el("span", { class: "fill", vars: { "--c": "var(--accent)", "--part": one.recall ?? 0 } })),
    el("b", { text: score(one.recall) }),
    el("span", { class: "hint", text: `${count(one.rows)} rows` }));
}

function recalls(classes) {
  const worstFirst = [...classes].sort((one, other) => (one.recall ?? 2) - (other.recall ?? 2));
  return el("div", { class: "of-classes" },
    el("h3", { text: "Recall, the lowest first" }),
    el("div", { class: "scroll", role: "region", "aria-label": "Recall of each class", tabindex: "0" },
      el("ul", { class: "recalls" }, worstFirst.map(recall))));
}

function cell(rows, all) {
  const heat = all ? rows / all : 0;
  return el("td", { class: INKS.find(([from]) => heat >= from)[1], vars: { "--heat": heat.toFixed(3) }, text: rows ? count(rows) : "" });
}

const named = (label, scope) => el("th", { scope, title: label }, el("span", { class: "at", text: label }));

function matrix({ labels, counts }) {
  const rows = counts.map((line, at) => {
    const all = line.reduce((sum, one) => sum + one, 0);
    return el("tr", {}, named(labels[at], "row"), line.map((one) => cell(one, all)));
  });
  return scrollable("Confusion", el("table", { class: "heatmap confusion" },
    el("caption", { class: "sr", text: "Rows of each class by what was answered" }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "is / answered" }), labels.map((label) => named(label, "col")))),
    el("tbody", {}, rows)));
}

/** Mistakes as `{class, answered, rows}`, the most frequent first. */
export function mistakes({ pairs, labels, counts }) {
  const found = pairs ?? labels.flatMap((label, at) =>
    labels.map((answered, to) => ({ class: label, answered, rows: at === to ? 0 : counts[at][to] })));
  return found.filter(({ rows }) => rows).sort((one, other) => other.rows - one.rows);
}

function confusion(found) {
  if (!found) return null;
  const isSmall = found.labels && found.labels.length <= MATRIX;
  const lines = isSmall ? [] : mistakes(found).slice(0, MISTAKES).map((one) =>
    el("li", { text: `${one.class} answered as ${one.answered}: ${count(one.rows)} rows` }));
  return el("div", { class: "of-confusion" },
    el("h3", { text: isSmall ? "Rows by what was answered" : "Most frequent mistakes" }),
    isSmall ? matrix(found) : el("ul", {}, lines));
}

function calibration(found, probable) {
  if (!found) return null;
  const between = found.interval ? ` (${found.interval.map(score).join("–")})` : "";
  const before = isNumber(probable?.ece_before?.value) ? `, before it ${score(probable.ece_before.value)}` : "";
  return el("div", { class: "of-calibration" },
    el("h3", { text: "What was said and how often it was right" }),
    curve(found.bins),
    el("p", { class: "why", text: `ECE ${score(found.ece)}${between} with temperature ${score(found.temperature)}${before}` }));
}

const draw = whenChanged((found) => {
  byId("classes-card").hidden = !found?.task;
  if (!found?.task) return;
  chooser.replaceChildren(...found.tasks.map((name) => el("option", { value: name, selected: name === found.task, text: name })));
  byId("classes-of").textContent = `of ${version(found.version)} on rows held out from the stream, step ${count(found.step)}`;
  const { card } = found;
  const parts = [card.classes.length ? recalls(card.classes) : null, confusion(card.confusion), calibration(card.calibration, found.probabilities)];
  byId("classes").replaceChildren(...(parts.some(Boolean) ? parts.filter(Boolean) : [empty("This task has no classes: it answers numbers.")]));
});

async function load(task) {
  asked += 1;
  const turn = asked;
  const found = await get(task ? `api/scorecard?task=${encodeURIComponent(task)}` : "api/scorecard");
  if (turn !== asked) return;
  if (found?.error && task) await load(""); // the task is gone
  else if (found) draw(found);
  else shown = null; // no answer: asked again with the next list of snapshots
}

/** Of a list of snapshots: draw the newest one, once. */
export function show(releases) {
  const newest = releases[0]?.version;
  if (newest === shown) return;
  shown = newest;
  if (newest === undefined) draw(null);
  else load(chooser.value);
}

chooser.addEventListener("change", () => load(chooser.value));
