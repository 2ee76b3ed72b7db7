// One line chart over time: uPlot in the theme's colours, a legend of buttons, values under the cursor, arrow keys.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { el, setText } from "./dom.js";
import { clock } from "./format.js";
import { marks } from "./marks.js";

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
const AXIS_PX = 46;
const MIN_SPAN_S = 120; // of the time axis
const STEP = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 };
const TIMES = [
  [28 * DAY_S, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [DAY_S, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
];

/** A colour of the theme, or a CSS expression of some, as the canvas needs it. */
function colour(expression) {
  const probe = colour.probe ?? (colour.probe = document.body.appendChild(el("span", { hidden: true })));
  probe.style.color = expression.startsWith("--") ? `var(${expression})` : expression;
  return getComputedStyle(probe).color;
}

/** Places of values that no line can show, since both neighbours are missing. */
const alone = (values) =>
  values.flatMap((value, at) => (value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null ? [at] : []));

/**
 * `root` is the chart's section, which has its title. `told`: `unit` of the values, `format(value)`, `range(min, max)`
 * of the value axis, `height` in pixels at least, `stacked` areas, `named` switches, `empty` text.
 */
export class Chart {
  constructor(root, told) {
    this.told = told;
    this.hidden = new Set();
    this.series = [];
    this.happened = { switches: [], marks: [] };
    this.window = null;
    this.title = root.querySelector("h2").firstChild.textContent.trim();
    this.legend = el("ul", { class: "legend" });
    this.when = el("span", { class: "when" });
    this.holder = el("div", { class: "plot", tabindex: "0", role: "group", "aria-roledescription": "line chart", vars: { "--height": `${told.height}px` } });
    this.nothing = el("p", { class: "empty", text: told.empty });
    root.querySelector("h2").after(this.when, this.legend);
    root.append(this.holder, this.nothing);
    this.holder.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#resize()).observe(this.holder);
    document.addEventListener("themechange", () => this.#build());
  }

  /** `t` and `series` [{name, colour, values}] of one length; `window` [from, to] or null for all. */
  show(t, series, { switches, marks }, window) {
    const kinds = series.map((one) => one.name).join("\n");
    const anew = kinds !== this.kinds || !this.plot;
    Object.assign(this, { t, series, happened: { switches, marks }, window, kinds });
    const isEmpty = !series.some((one) => one.values.some((value) => value !== null));
    for (const part of [this.holder, this.legend, this.when]) part.hidden = isEmpty;
    this.nothing.hidden = !isEmpty;
    if (isEmpty) return;
    if (anew) this.#build();
    else this.plot.setData(this.#data());
    this.#read();
  }

  #build() {
    if (!this.t?.length || this.holder.hidden) return;
    this.plot?.destroy();
    this.plot = null;
    this.#buildLegend();
    this.#read(); // before the plot, which takes the height that the filled legend leaves
    this.plot = new uPlot(this.#options(), this.#data(), this.holder);
  }

  #options() {
    const { told } = this;
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { font, stroke: colour("--muted"), ticks: { show: false }, gap: 6 };
    const grid = { stroke: colour("--line"), width: 1 };
    return {
      width: this.holder.clientWidth,
      height: this.holder.clientHeight,
      padding: [told.named ? 28 : 24, 16, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false },
        sync: { key: "time", scales: ["x", null] },
        points: { size: 7, width: 0, fill: (plot, at) => plot.series[at].stroke(plot, at) },
      },
      scales: {
        x: { range: (plot, from, to) => this.window ?? [Math.min(from, to - MIN_SPAN_S), to] },
        y: { range: (plot, min, max) => told.range(min ?? 0, max ?? 1) },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 34, space: 64, values: TIMES },
        { ...axis, grid, size: AXIS_PX, space: 38, values: (plot, splits) => splits.map(told.format) },
      ],
      series: [{}, ...this.#drawn().map((one) => this.#line(one))],
      plugins: [marks({ unit: told.unit, happened: () => this.happened, colour, named: told.named })],
      hooks: { setCursor: [() => this.#read()] },
    };
  }

  #line(one) {
    const stroke = colour(one.colour);
    return {
      label: one.name,
      show: !this.hidden.has(one.name),
      stroke,
      width: this.told.stacked ? 1 : 1.6,
      dash: one.dashed ? [5, 3] : undefined,
      fill: this.told.stacked ? colour(`color-mix(in srgb, var(${one.colour}) 45%, var(--surface))`) : undefined,
      points: { show: true, size: 5, stroke, fill: stroke, filter: (plot, at) => alone(plot.data[at]) },
    };
  }

  /** Series in the order in which they are drawn: of a pile the top first, so that those below cover it. */
  #drawn() {
    return this.told.stacked ? [...this.series].reverse() : this.series;
  }

  /** What uPlot draws; in a pile each value is the sum of itself and those below. */
  #data() {
    if (!this.told.stacked) return [this.t, ...this.series.map((one) => one.values)];
    const pile = this.t.map(() => 0);
    const sums = this.series.map((one) => {
      if (this.hidden.has(one.name)) return one.values.map(() => null);
      return one.values.map((value, at) => (value === null ? null : (pile[at] += value)));
    });
    return [this.t, ...sums.reverse()];
  }

  #buildLegend() {
    this.values = new Map();
    const entries = this.series.map((one) => {
      const value = el("span", { class: "value" });
      this.values.set(one.name, value);
      const swatch = el("span", { class: one.dashed ? "swatch dashed" : "swatch", vars: { "--c": `var(${one.colour})` } });
      if (this.series.length === 1) return el("li", {}, value);
      const button = el("button", { type: "button", "aria-pressed": String(!this.hidden.has(one.name)), title: one.name },
        swatch, el("span", { class: "name", text: one.name }), value);
      button.addEventListener("click", () => this.#toggle(one.name, button));
      return el("li", {}, button);
    });
    this.legend.replaceChildren(...entries);
  }

  #toggle(name, button) {
    const shown = this.hidden.delete(name);
    if (!shown) this.hidden.add(name);
    button.setAttribute("aria-pressed", String(shown));
    this.plot.setSeries(this.#drawn().findIndex((one) => one.name === name) + 1, { show: shown });
    if (this.told.stacked) this.plot.setData(this.#data());
  }

  /** The values at the cursor, or the newest where there is none. */
  #read() {
    const at = this.plot?.cursor.idx ?? null;
    const place = at ?? this.t.length - 1;
    for (const { name, values } of this.series) {
      const value = values[place] ?? null;
      setText(this.values.get(name), value === null ? "–" : this.told.value(value));
    }
    setText(this.when, at === null ? "now" : clock(this.t[place]));
    const told = this.series.map(({ name }) => `${name} ${this.values.get(name).textContent}`).join(", ");
    this.holder.setAttribute("aria-label", `${this.title}, ${this.when.textContent}: ${told}. Arrow keys move through time.`);
  }

  #key(event) {
    const step = STEP[event.key];
    const last = this.t.length - 1;
    const at = this.plot.cursor.idx ?? last;
    const to = event.key === "Home" ? 0 : event.key === "End" ? last : Math.max(0, Math.min(last, at + step));
    if (event.key === "Escape") this.plot.setCursor({ left: -10, top: -10 }, true, true);
    else if (Number.isNaN(to)) return;
    else this.plot.setCursor({ left: this.plot.valToPos(this.t[to], "x"), top: 10 }, true, true);
    event.preventDefault();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.holder;
    if (!this.plot) this.#build();
    else if (width && (width !== this.plot.width || height !== this.plot.height)) this.plot.setSize({ width, height });
  }
}
