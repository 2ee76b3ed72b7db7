// One row a task: what it is, how well it is known, how it trains, and its share of the replay buffer.

import { byId, el, empty, list, whenChanged } from "./dom.js";
import { count, loss, metrics, share } from "./format.js";
import { ofTask } from "./palette.js";

const HEADINGS = [["Task"], ["Kind"], ["Input"], ["Outputs", "num"], ["Score"], ["Loss", "num"], ["Replay rows", "num"], ["Share of replay", "meter"]];

/** The newest score with the name of its metric, which the last snapshot knows; else all metrics of that snapshot. */
function known(task, { newest, published }) {
  const [metric] = Object.keys(published[task] ?? {});
  return newest[task] === undefined ? metrics(published[task]) : metrics(metric ? { [metric]: newest[task] } : newest[task]);
}

function row(task, { losses, scores, focus, replayed }) {
  const rows = task.replay_rows ?? 0;
  return el("tr", { "data-task": task.name },
    el("th", { scope: "row" },
      el("span", { class: "swatch", vars: { "--c": `var(${ofTask(task.name)})` } }), task.name,
      task.name === focus ? [" ", el("span", { class: "chip", text: "active" })] : []),
    el("td", { text: task.kind ?? "–" }),
    el("td", { text: task.modality ?? "–" }),
    el("td", { text: count(task.columns) }),
    el("td", { text: known(task.name, scores) }),
    el("td", { text: loss(losses[task.name]) }),
    el("td", { text: count(rows) }),
    el("td", {},
      el("span", { class: "track", "aria-hidden": "true" },
        el("span", { class: "fill", vars: { "--c": `var(${ofTask(task.name)})`, "--part": replayed ? rows / replayed : 0 } })),
      share(rows, replayed)));
}

const draw = whenChanged((found) => {
  const place = byId("tasks");
  if (!found.tasks.length) {
    place.replaceChildren(empty("No task yet: declare one with `mtld task add`, then send rows with `mtld push`."));
    return;
  }
  const replayed = found.tasks.reduce((sum, task) => sum + (task.replay_rows ?? 0), 0);
  place.replaceChildren(list("Tasks", HEADINGS, found.tasks.map((task) => row(task, { ...found, replayed }))));
});

/** Show the tasks of a status. */
export const show = (status) =>
  draw({
    tasks: status.tasks,
    losses: status.losses,
    scores: { newest: status.scores, published: status.snapshot.scores ?? {} },
    focus: status.task,
  });
