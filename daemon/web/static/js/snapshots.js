// The published snapshots: which is served, how well each knows every task, and what the gate said of it.

import { age, byId, el, empty, list, prose, whenChanged } from "./dom.js";
import { count, isNumber, metrics, score, version } from "./format.js";
import { refreshAges } from "./state.js";

const HEADINGS = [["Version"], ["Aliases"], ["Published"], ["Step", "num"], ["Scores"], ["Gate"]];

/** The gate's decision, its reason, and on request the numbers it was decided on. */
function verdict(found) {
  if (!found) return el("span", { class: "none", text: "not judged" });
  const { decision, reason, against, tasks } = found;
  return [
    el("span", { class: `chip ${decision}`, text: decision }),
    against ? el("span", { class: "hint", text: `against ${version(against)}` }) : null,
    el("span", { class: "why" }, prose(reason ?? "")),
    numbers(Object.entries(tasks ?? {})),
  ];
}

/** Rows that are answered worse than by the champion, and better. */
const flipped = ({ worse, better }) => (isNumber(worse) ? ` (${count(worse)} worse, ${count(better)} better)` : "");

function numbers(tasks) {
  if (!tasks.length) return null;
  const lines = tasks.map(([task, one]) =>
    el("li", { class: one.is_within ? null : "fell" },
      `${task} ${score(one.score)}, best ${score(one.best)}, tolerance ${one.tolerance}, ${count(one.rows)} rows${flipped(one)}${one.why ? `; ${one.why}` : ""}`));
  return el("details", { class: "why" }, el("summary", { text: "numbers" }), el("ul", {}, lines));
}

function row(release) {
  return el("tr", { "data-version": release.version },
    el("th", { scope: "row", class: "mono", text: version(release.version), title: release.path }),
    el("td", {}, release.aliases.length ? release.aliases.map((alias) => el("span", { class: `chip alias ${alias}`, text: alias })) : "–"),
    el("td", {}, release.at ? age(release.at) : "–"),
    el("td", { text: count(release.step) }),
    el("td", {}, Object.entries(release.scores ?? {}).map(([task, found]) =>
      el("span", { class: "pair" }, el("b", { text: task }), ` ${metrics(found)}`))),
    el("td", {}, release.error ? el("span", { class: "why", text: release.error }) : verdict(release.verdict)));
}

const draw = whenChanged((releases) => {
  const place = byId("snapshots");
  if (!releases.length) {
    place.replaceChildren(empty("No snapshot yet: one is published when a task switches, or now with `mtld snapshot publish`."));
    return;
  }
  place.replaceChildren(list("Snapshots", HEADINGS, releases.map(row)));
  refreshAges();
});

/** Show what is published. */
export const show = draw;
