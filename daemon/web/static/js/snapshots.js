// The published snapshots: which is served, how well each knows every task, and what the gate said of it.

import { age, byId, el, empty, list, whenChanged } from "./dom.js";
import { count, isNumber, metrics, score, version } from "./format.js";
import { refreshAges } from "./state.js";

const HEADINGS = [["Version"], ["Aliases"], ["Published"], ["Step", "num"], ["Scores"], ["Gate"]];

/** The gate's word, its reason, and every task that it held against the snapshot. */
function verdict(found) {
  if (!found) return [el("span", { class: "none", text: "not judged" })];
  const word = String(found.verdict ?? "judged");
  const reason = found.reason ?? found.detail ?? "";
  return [el("span", { class: `chip verdict ${word}`, text: word }), reason ? el("span", { class: "why", text: reason }) : null, against(found.tasks)];
}

function against(tasks) {
  if (!tasks || typeof tasks !== "object") return null;
  const told = Object.entries(tasks).filter(([, one]) => one && isNumber(one.score) && isNumber(one.best));
  if (!told.length) return null;
  const text = told.map(([task, one]) => `${task} ${score(one.score)}, best ${score(one.best)}${isNumber(one.tolerance) ? `, tolerance ${score(one.tolerance)}` : ""}`);
  return el("span", { class: "why", text: text.join("; ") });
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
