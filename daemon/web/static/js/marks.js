// Vertical lines at task switches, each with its name where there is room, and the unit of the value axis.

import { moment } from "./format.js";

const FONT_PX = 11;
const CLEAR_PX = 8; // between two names
const MAX_CHARACTERS = 24;

const shortened = (name) => (name.length > MAX_CHARACTERS ? `${name.slice(0, MAX_CHARACTERS - 1)}…` : name);

/** A uPlot plugin; `colour(name)` resolves a colour of the theme, `switches()` gives `[{t, task, phase}]`. */
export function marks({ unit, switches, colour, named }) {
  const draw = (plot) => {
    const { ctx } = plot;
    const { left, top, width, height } = plot.bbox;
    const ratio = ctx.canvas.width / plot.width; // canvas pixels in one of CSS
    ctx.save();
    ctx.font = `${FONT_PX * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.textBaseline = "alphabetic";
    ctx.fillStyle = colour("--muted");
    ctx.textAlign = "left";
    ctx.fillText(unit, 0, FONT_PX * ratio);

    ctx.strokeStyle = colour("--line-strong");
    ctx.lineWidth = Math.max(1, Math.round(ratio));
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    let free = left + width; // names from the right: the newest are the ones that matter
    for (const one of [...switches()].reverse()) {
      const x = Math.round(plot.valToPos(one.t, "x", true));
      if (x < left || x > left + width) continue;
      ctx.beginPath();
      ctx.moveTo(x, top - (named ? 4 * ratio : 0));
      ctx.lineTo(x, top + height);
      ctx.stroke();
      if (!named) continue;
      const name = shortened(moment(one.task, one.phase));
      const wide = ctx.measureText(name).width;
      const at = Math.min(x, left + width - wide);
      if (at >= left && at + wide <= free) {
        ctx.fillText(name, at, top - 8 * ratio);
        free = at - CLEAR_PX * ratio;
      }
    }
    ctx.restore();
  };
  return { hooks: { drawAxes: draw } };
}
