// How well each task is known, as the newest evaluation says, and what fell since; the page shows no other scores.

/** The parts (`task` or `task/phase`) of one task that fell: `[part, {was, is, rows, sources}]`, the furthest first. */
export function fallen(status, task) {
  const parts = Object.entries(status.guard?.fallen ?? {}).filter(([part]) => part.split("/")[0] === task);
  return parts.sort(([, one], [, other]) => other.was - other.is - (one.was - one.is));
}

/** What the newest evaluation says of a task; empty where it says nothing. */
export const scored = (status, task) => status.evaluation?.tasks?.[task] ?? {};

/** The sources of a task whose labels look wrong. */
export const suspects = (status, task) => [...new Set(fallen(status, task).flatMap(([, one]) => one.sources ?? []))];

/** Tasks that fell or collapsed: what the page shows in red. */
export const wrong = (status) =>
  (status.tasks ?? []).filter(({ name }) => fallen(status, name).length || scored(status, name).collapsed).map(({ name }) => name);
