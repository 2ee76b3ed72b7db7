// The newest dead letters and journal lines, newest first; all of it is text, whoever wrote it.

import { age, byId, el, prose, whenChanged } from "./dom.js";
import { count, details } from "./format.js";

const isDead = (event) => event.kind === "dead_letter";

const entry = (event, ...body) =>
  el("li", {}, el("div", { class: "when" }, event.at ? age(event.at) : "–"), el("div", { class: "what" }, body));

function dead(event) {
  const rows = event.rows ? `, ${count(event.rows)} rows` : "";
  const from = [event.source, event.event_id].filter(Boolean).join(" ");
  return entry(event,
    el("p", {}, el("code", { class: "reason", text: event.reason }), event.subject ? ` ${event.subject}` : "", rows),
    el("p", { text: event.message ?? "" }),
    el("p", { class: "id mono", text: [event.id, from].filter(Boolean).join(" · ") }));
}

const journal = (event) =>
  entry(event, el("p", {}, el("code", { text: event.kind ?? "–" }), " ", el("span", { text: details(event.detail) })));

const list = (label, events, one) => el("ol", { class: "log", tabindex: "0", "aria-label": label }, events.map(one));
const nothing = (text) => el("p", { class: "empty" }, prose(text));

/** The vitals have those of this process alone; earlier ones are in the stream of dead letters. */
const drawDead = whenChanged(({ letters, total }) => {
  const more = `${count(total)} in all: \`mtld dead list\``;
  byId("dead-count").replaceChildren(...prose(total > letters.length ? more : ""));
  byId("dead").replaceChildren(
    letters.length ? list("Dead letters", letters, dead)
    : nothing(total ? "None since this process started." : "None: every event so far was accepted."));
});
const drawJournal = whenChanged((lines) =>
  byId("journal").replaceChildren(
    lines.length ? list("Journal lines", lines, journal) : nothing("None since this process started; `mtld tail` reads all of it.")));

/** Show the events of a status. */
export function show(status) {
  const events = [...status.events].reverse();
  drawDead({ letters: events.filter(isDead), total: status.accounting.dead_events });
  drawJournal(events.filter((event) => !isDead(event)));
}
