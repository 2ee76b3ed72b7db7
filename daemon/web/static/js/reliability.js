// The calibration curve: how often a probability was right, beside the line where every probability is as good as its word.

import { svg } from "./dom.js";
import { count, score } from "./format.js";

const SIDE = 220; // of the square between 0 and 1
const LEFT = 30;
const BELOW = 34;
const TICKS = [0, 0.5, 1];
const LARGEST = 7; // radius of the point with the most rows

const x = (value) => LEFT + value * SIDE;
const y = (value) => 8 + (1 - value) * SIDE;
const line = (from, to, kind) => svg("line", { class: kind, x1: x(from[0]), y1: y(from[1]), x2: x(to[0]), y2: y(to[1]) });
const words = (at, up, text, anchor) => svg("text", { x: at, y: up, "text-anchor": anchor, text });

function point({ p, rate, rows }, most) {
  const radius = Math.max(2.5, LARGEST * Math.sqrt(rows / most));
  return svg("circle", { cx: x(p), cy: y(rate), r: radius.toFixed(1) },
    svg("title", { text: `said ${score(p)}, right ${score(rate)}, ${count(rows)} rows` }));
}

/** A picture of bins `{p, rate, rows}`. */
export function curve(bins) {
  const most = Math.max(1, ...bins.map(({ rows }) => rows));
  const told = bins.map(({ p, rate }) => `${score(p)} was right ${score(rate)}`).join("; ");
  return svg("svg", { class: "curve", viewBox: `0 0 ${LEFT + SIDE + 12} ${8 + SIDE + BELOW}`, role: "img", "aria-label": `Calibration: ${told}` },
    TICKS.flatMap((tick) => [
      line([0, tick], [1, tick], "rule"), line([tick, 0], [tick, 1], "rule"),
      words(LEFT - 6, y(tick) + 4, tick, "end"), words(x(tick), y(0) + 16, tick, "middle"),
    ]),
    line([0, 0], [1, 1], "ideal"),
    svg("polyline", { points: bins.map(({ p, rate }) => `${x(p).toFixed(1)},${y(rate).toFixed(1)}`).join(" ") }),
    bins.map((bin) => point(bin, most)),
    words(x(0.5), y(0) + 32, "probability that was said", "middle"));
}
