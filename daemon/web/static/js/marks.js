// Vertical lines at task switches and at what changes a curve, named where there is room; and the unit of the value axis.

import { moment } from "./format.js";

const FONT_PX = 11;
const CLEAR_PX = 8; // between two names
const TICK_PX = 7; // of what is no reason to worry
const LINE_PX = 13; // from one line of names to the next
const LINES = 3; // of names at the foot
const MAX_CHARACTERS = 24;

/** By kind: colour, whether the line is as high as the chart, and its name. */
const KINDS = {
  fell: ["--bad", true, ({ about }) => `fell: ${about}`],
  recovered: ["--ok", true, () => "recovered"],
  rollback: ["--bad", true, () => "rollback"],
  outage: ["--warn", true, () => "server away"],
  back: ["--ok", false, () => "server back"],
  started: ["--text", false, () => "started"],
  promoted: ["--accent", false, ({ about }) => `${about} champion`],
  demoted: ["--warn", true, ({ about }) => `back to ${about}`],
};

const shortened = (name) => (name.length > MAX_CHARACTERS ? `${name.slice(0, MAX_CHARACTERS - 1)}…` : name);

/** Writes names on the first of some lines that has room, none where none has; the first to be written matters most. */
function writer(ctx, { left, width }, lines, ratio) {
  const taken = lines.map(() => []);
  return (name, x) => {
    const wide = ctx.measureText(name).width;
    const at = Math.min(x, left + width - wide);
    const clear = CLEAR_PX * ratio;
    const line = taken.findIndex((spans) => spans.every(([from, to]) => at + wide + clear <= from || at >= to + clear));
    if (at < left || line < 0) return;
    taken[line].push([at, at + wide]);
    ctx.fillText(name, at, lines[line]);
  };
}

function line(ctx, x, from, to) {
  ctx.beginPath();
  ctx.moveTo(x, from);
  ctx.lineTo(x, to);
  ctx.stroke();
}

/** A uPlot plugin; `colour(name)` resolves a colour of the theme, `happened()` gives `switches` and `marks`, oldest first. */
export function marks({ unit, happened, colour, named }) {
  const newestFirst = (plot, all, draw) => {
    const { left, width } = plot.bbox;
    for (const one of [...all].reverse()) {
      const x = Math.round(plot.valToPos(one.t, "x", true));
      if (x >= left && x <= left + width) draw(one, x);
    }
  };

  /** Calls `draw` with the canvas, where the curves are, and how many of its pixels are one of CSS. */
  const drawing = (draw) => (plot) => {
    const { ctx, bbox } = plot;
    const ratio = ctx.canvas.width / plot.width;
    ctx.save();
    ctx.font = `${FONT_PX * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.textBaseline = "alphabetic";
    ctx.textAlign = "left";
    ctx.lineWidth = Math.max(1, Math.round(ratio));
    draw(plot, ctx, bbox, ratio);
    ctx.restore();
  };

  const before = drawing((plot, ctx, bbox, ratio) => {
    ctx.fillStyle = colour("--muted");
    ctx.fillText(unit, 0, FONT_PX * ratio);

    ctx.strokeStyle = colour("--line-strong");
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    const write = writer(ctx, bbox, [bbox.top - 8 * ratio], ratio);
    newestFirst(plot, happened().switches, (one, x) => {
      line(ctx, x, bbox.top - (named ? 4 * ratio : 0), bbox.top + bbox.height);
      if (named) write(shortened(moment(one.task, one.phase)), x);
    });
  });

  const after = drawing((plot, ctx, bbox, ratio) => {
    const foot = bbox.top + bbox.height;
    const lines = Array.from({ length: LINES }, (_, at) => foot - (TICK_PX + 5 + at * LINE_PX) * ratio);
    const write = writer(ctx, bbox, lines, ratio);
    const known = happened().marks.filter(({ kind }) => kind in KINDS);
    for (const isWhole of [true, false]) { // what is wrong is named before what is not
      newestFirst(plot, known.filter(({ kind }) => KINDS[kind][1] === isWhole), (one, x) => {
        const [name, , told] = KINDS[one.kind];
        ctx.strokeStyle = ctx.fillStyle = colour(name);
        line(ctx, x, isWhole ? bbox.top : foot - TICK_PX * ratio, foot);
        if (named) write(shortened(told(one)), x + 3 * ratio);
      });
    }
  });
  return { hooks: { drawAxes: before, draw: after } };
}
