// What became of every row: sent = trained + held out + duplicate + dead + pending + skipped, and the events that were lost.

import { byId, el, whenChanged } from "./dom.js";
import { count, share } from "./format.js";

const PARTS = [
  ["trained", "trained", "learned, each once"],
  ["held_out", "held out", "kept for scoring"],
  ["duplicate", "duplicate", "sent again"],
  ["dead", "dead", "refused, kept"],
  ["pending", "pending", "wait for a batch"],
  ["skipped", "skipped", "left out by a rollback"],
];
const RARE = new Set(["skipped"]); // shown only where there are such rows

function bar(rows) {
  const pieces = PARTS.filter(([name]) => rows[name]).map(([name]) =>
    el("span", { class: `piece ${name}`, vars: { "--part": rows[name] } }),
  );
  return el("div", { class: "bar", "aria-hidden": "true" }, pieces);
}

function line([name, label, meaning], at, rows) {
  return el("tr", { "data-field": name },
    el("th", { scope: "row" },
      el("span", { class: "sign", text: at ? "+" : "=" }),
      el("span", { class: `swatch ${name}` }),
      label,
      el("span", { class: "hint", text: meaning })),
    el("td", { text: count(rows[name]) }),
    el("td", { class: "share", text: share(rows[name], rows.sent) }));
}

const draw = whenChanged((rows) => {
  const lost = `${rows.lost_is_lower_bound ? "at least " : ""}${count(rows.lost_events)}`;
  byId("accounting").replaceChildren(
    bar(rows),
    el("table", { class: "sum" },
      el("caption", { class: "sr", text: "Rows sent and what became of them" }),
      el("tbody", {},
        el("tr", { class: "total", "data-field": "sent" },
          el("th", { scope: "row", text: "rows sent" }), el("td", { text: count(rows.sent) }), el("td")),
        PARTS.filter(([name]) => rows[name] || !RARE.has(name)).map((part, at) => line(part, at, rows)))),
    el("p", { class: rows.lost_events ? "events lost" : "events" },
      "Events dead ", el("b", { "data-field": "dead_events", text: count(rows.dead_events) }),
      ", lost unread ", el("b", { "data-field": "lost_events", text: lost })));
});

/** Show the accounting of a status. */
export const show = (status) => draw(status.accounting);
