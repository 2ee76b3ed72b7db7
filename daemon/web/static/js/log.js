// The newest dead letters and journal lines, newest first; all of it is text, whoever wrote it.

import { age, byId, el, prose, setText, whenChanged } from "./dom.js";
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

const draw = (id, label, one, nothing) =>
  whenChanged((events) => {
    const found = events.length ? el("ol", { class: "log", tabindex: "0", "aria-label": label }, events.map(one)) : el("p", { class: "empty" }, prose(nothing));
    byId(id).replaceChildren(found);
  });
const drawDead = draw("dead", "Dead letters", dead, "None: every event so far was accepted.");
const drawJournal = draw("journal", "Journal lines", journal, "Nothing yet; `mtld tail` reads all of it.");

/** Show the events of a status. */
export function show(status) {
  const events = [...(status.events ?? [])].reverse();
  const letters = events.filter(isDead);
  const total = status.accounting.dead_events;
  setText(byId("dead-count"), total > letters.length ? `the newest of ${count(total)}; \`mtld dead list\` has all`.replaceAll("`", "") : "");
  drawDead(letters);
  drawJournal(events.filter((event) => !isDead(event)));
}
