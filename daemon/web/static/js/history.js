// What happened so far, as columns for the charts: one time axis, a gap where the daemon did not run.

const KEPT = 20000; // points; the sidecar keeps fewer
const MIN_GAP_S = 15; // below this a missing point is jitter
const GAP_RATIO = 3; // to the distances before and after: older points are fewer, and that is no gap

/** Points in the order of their time, each time once. */
export class History {
  constructor() {
    this.points = [];
    this.switches = [];
    this.marks = [];
    this.isKnown = false; // until then nothing can be said, not even that there is none
  }

  /** All that the sidecar has kept; points that came meanwhile by the event stream stay. */
  replace({ points, switches, marks }) {
    this.isKnown = true;
    const end = points.at(-1)?.t ?? 0;
    this.points = [...points, ...this.points.filter((point) => point.t > end)].slice(-KEPT);
    this.switches = switches ?? [];
    this.marks = marks ?? [];
  }

  add(point) {
    this.isKnown = true;
    if (point.t > (this.points.at(-1)?.t ?? 0)) this.points.push(point);
    if (this.points.length > KEPT) this.points.shift();
  }

  /** The newest `span_s` seconds (0 = all) with `null` where there is a gap; `read(point)` gives the value. */
  columns(span_s) {
    const from = span_s ? Date.now() / 1000 - span_s : -Infinity;
    const shown = withGaps(this.points.filter((point) => point.t >= from));
    return {
      t: shown.map((point) => point.t),
      of: (read) => shown.map((point) => (point.gap ? null : (read(point) ?? null))),
      held: (read) => held(shown, read),
    };
  }

  /** Every task that a point names under one of these keys, in order of first appearance. */
  tasks() {
    const names = new Set();
    for (const point of this.points) {
      for (const key of ["score", "loss", "replay_rows"]) for (const name of Object.keys(point[key] ?? {})) names.add(name);
    }
    return [...names];
  }
}

function withGaps(points) {
  const step = (at) => (at > 0 && at < points.length ? points[at].t - points[at - 1].t : 0);
  const isGap = (at) => step(at) > Math.max(MIN_GAP_S, GAP_RATIO * Math.max(step(at - 1), step(at + 1)));
  return points.flatMap((point, at) => (isGap(at) ? [{ t: points[at - 1].t + 1, gap: true }, point] : [point]));
}

/** A score counts until the next one is taken; it does not count through a gap. */
function held(points, read) {
  let last = null;
  return points.map((point) => {
    last = point.gap ? null : (read(point) ?? last);
    return last;
  });
}
