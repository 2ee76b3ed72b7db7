// The top of the page: how the trainer is, what to do next, what is wrong, and the figures looked at first.

import { age, byId, el, prose, setText, whenChanged } from "./dom.js";
import { clock, count, duration, moment, score, size, version } from "./format.js";
import { wrong } from "./standing.js";

const HEALTHY = ["training", "idle", "starting", "recovering", "draining"];

/** Green while it works, amber while it works with problems or is told to wait, red when it does not run or a task fell. */
function level(status) {
  const { running, degraded, state } = status;
  if (!running || wrong(status).length) return "bad";
  if (degraded || !HEALTHY.includes(state)) return "warn";
  return "ok";
}

const figure = (label, name, ...value) => el("div", { "data-field": name }, el("dt", { text: label }), el("dd", {}, ...value));
const learned = (isBad, ...told) => { // a figure of the newest evaluation, in red where a task fell or collapsed
  const shown = figure(...told);
  if (isBad) shown.className = "bad";
  return shown;
};
const small = (...children) => el("small", {}, ...children); // its second line

function figures(status) {
  const { checkpoint, snapshot, evaluation = {}, bad } = status;
  const scored = evaluation.at ? small(age(evaluation.at)) : small("not scored yet");
  return [
    figure("Step", "step", count(status.step), small(`epoch ${status.epoch}`)),
    figure("Speed", "rows_per_s", count(status.rows_per_s), small("rows/s")),
    figure("Lag", "lag_events", count(status.lag_events), small("events")),
    figure("Pending", "pending_rows", count(status.pending_rows), small("rows")),
    learned(bad, "Average score", "average", score(evaluation.average), scored),
    learned(bad, "Forgetting", "forgetting", score(evaluation.forgetting), small("below the best")),
    learned(bad, "Worst case", "wc_acc", score(evaluation.wc_acc), small("WC-ACC")),
    learned(bad, "Lowest so far", "min_acc", score(evaluation.min_acc), small("min-ACC")),
    figure("Checkpoint", "checkpoint", ...stamped(checkpoint.seq, (seq) => String(seq).padStart(6, "0"), checkpoint.at)),
    figure("Snapshot", "snapshot", ...stamped(snapshot.version, version, snapshot.at)),
  ];
}

function stamped(number, name, at) {
  if (!number) return [el("span", { class: "none", text: "none yet" })];
  return [name(number), at ? small(age(at)) : null];
}

function line(name, fault, kind) {
  const title = el("strong", { text: name });
  if (!fault) return el("li", {}, title);
  const times = fault.count > 1 ? ` ×${count(fault.count)}` : "";
  return el("li", { class: kind }, title, `${times}, `, age(fault.last), fault.detail ? `: ${fault.detail}` : "");
}

/** What degrades it now, then the faults that are over. */
function problems({ problems, faults }) {
  const past = Object.keys(faults).filter((name) => !problems.includes(name));
  return [...problems.map((name) => line(name, faults[name])), ...past.map((name) => line(name, faults[name], "past"))];
}

function facts(status) {
  const took = status.recovery_s === null ? "first start" : `recovered in ${status.recovery_s.toFixed(2)} s`;
  const exact = status.bit_exact ? "bit-exact" : `not bit-exact: ${status.bit_exact_reason}`;
  return [
    `stream ${status.namespace || "–"}, epoch ${status.epoch}`,
    status.broker || "no server",
    `replay ${count(status.replay_rows)} rows, ${size(status.replay_bytes)}`,
    `${took}, ${exact}`,
    `pid ${status.pid}`,
    status.state_dir,
  ].join(" · ");
}

function reason({ reason, busy, paused_until: until }) {
  return [reason, busy && `busy: ${busy}`, until && `until ${clock(Date.parse(until) / 1000)}`].filter(Boolean).join(", ");
}

const drawFigures = whenChanged((status) => byId("figures").replaceChildren(...figures(status)));
const drawAdvice = whenChanged((advice) => byId("advice").replaceChildren(...prose(advice)));
const drawProblems = whenChanged((status) => {
  const list = byId("problems");
  list.replaceChildren(...problems(status));
  list.hidden = !list.children.length;
});

/** Show a status. */
export function show(status) {
  byId("now").dataset.level = level(status);
  const state = status.running ? status.state : `not running (was ${status.state})`;
  setText(byId("state"), state);
  setText(byId("reason"), reason(status));
  setText(byId("focus"), status.task ? moment(status.task, status.phase) : "");
  setText(byId("namespace"), status.namespace ?? "");
  setText(byId("facts"), facts(status));
  document.title = `${state} · mtld ${status.namespace ?? ""}`;
  drawAdvice(status.advice);
  drawProblems({ problems: status.problems, faults: status.faults });
  drawFigures(pick(status));
}

const FIGURES = ["step", "epoch", "rows_per_s", "lag_events", "pending_rows", "evaluation", "checkpoint", "snapshot"];
const pick = (status) => ({ ...Object.fromEntries(FIGURES.map((name) => [name, status[name]])), bad: wrong(status).length > 0 });

/** No daemon has ever written its vitals: say what to do. */
export function showNothing(error) {
  setText(byId("state"), "no daemon yet");
  drawAdvice(error);
}

/** Every age on the page, as of now. */
export function refreshAges() {
  for (const node of document.querySelectorAll("time[data-age]")) {
    const seconds = (Date.now() - Date.parse(node.dateTime)) / 1000;
    setText(node, `${duration(seconds)} ${node.dataset.suffix}`.trim());
  }
}
