// A task keeps its colour wherever it is shown: places are given in the order in which the page meets the tasks.

const COLOURS = 8; // --c0 to --c7 in css/theme.css; later tasks repeat them, dashed in charts
const places = new Map();

function place(task) {
  if (!places.has(task)) places.set(task, places.size);
  return places.get(task);
}

/** The custom property that holds a task's colour. */
export const ofTask = (task) => `--c${place(task) % COLOURS}`;

export const isRepeat = (task) => place(task) >= COLOURS;

/** Tasks in the order of their places. */
export const byPlace = (tasks) => [...tasks].sort((one, other) => place(one) - place(other));
