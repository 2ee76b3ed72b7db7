// Which charts there are, and which number of a history point each of them shows.

import { Chart } from "./chart.js";
import { byId } from "./dom.js";
import { count, loss, score, short } from "./format.js";
import { byPlace, isRepeat, ofTask } from "./palette.js";

const toOne = (min, max) => [Math.min(0.8, Math.floor(min * 10) / 10), Math.max(1, max)];
const unit = (min, max) => [Math.min(0, min), Math.max(1, max)];
const fromZero = (min, max) => [Math.min(0, min), max > 0 ? max * 1.08 : 1];

const one = (name, read) => (columns) => [{ name, colour: "--accent", values: columns.of(read) }];
const perTask = (key, held, missing) => (columns, tasks) =>
  tasks.map((name) => ({
    name,
    colour: ofTask(name),
    dashed: isRepeat(name),
    values: (held ? columns.held : columns.of)((point) => point[key]?.[name] ?? missing),
  }));

const CHARTS = [
  {
    id: "score", unit: "score", height: 240, named: true, range: toOne, format: (value) => value.toFixed(2), value: score,
    read: perTask("score", true), empty: "No score yet: held-out rows are scored every few minutes, when a task switches, and by `mtld evaluate`.",
  },
  {
    id: "forgetting", unit: "score", height: 220, range: unit, format: (value) => value.toFixed(1), value: score,
    read: (columns) => [
      { name: "average score", colour: "--accent", values: columns.held((point) => point.average_accuracy) },
      { name: "forgetting", colour: "--bad", values: columns.held((point) => point.forgetting) },
    ],
    empty: "Nothing yet: both come with the first evaluation, `mtld evaluate`.",
  },
  { id: "rate", unit: "rows/s", height: 168, range: fromZero, format: short, value: (value) => `${count(value)} rows/s`, read: one("rows/s", (point) => point.rows_per_s), empty: "No history yet." },
  { id: "lag", unit: "events", height: 168, range: fromZero, format: short, value: (value) => `${count(value)} events`, read: one("lag", (point) => point.lag_events), empty: "No history yet." },
  { id: "loss", unit: "loss", height: 168, range: fromZero, format: short, value: loss, read: perTask("loss"), empty: "No step yet." },
  { id: "replay", unit: "rows", height: 168, stacked: true, range: fromZero, format: short, value: count, read: perTask("replay_rows", false, 0), empty: "Nothing stored yet." },
];

/** All charts of the page. */
export class Charts {
  constructor() {
    this.all = CHARTS.map((told) => ({ told, chart: new Chart(byId(told.id), told) }));
  }

  /** Draw `history`; `span_s` is how much of its end is shown, 0 for all. */
  show(history, span_s) {
    const tasks = byPlace(history.tasks());
    const columns = history.columns(span_s);
    const now = Date.now() / 1000;
    const window = span_s ? [now - span_s, now] : null;
    for (const { told, chart } of this.all) {
      const series = told.read(columns, tasks).filter(({ values }) => values.some((value) => value !== null));
      chart.show(columns.t, series, history, window);
    }
  }
}
