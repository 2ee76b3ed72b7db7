// Whether what the page shows is true now: the connection to the sidecar, and how old the trainer's vitals are.

import { byId, setText } from "./dom.js";
import { clock } from "./format.js";

const STALE_S = 6; // the trainer writes every second, whatever it does; six missed ones are no jitter

let connection = "connecting";
let written = null; // seconds since the epoch, on this machine's clock
let why = "the trainer writes nothing";

/** "live", "polling" or "broken". */
export function connected(how) {
  connection = how;
  refresh();
}

/** A status came: note when the trainer wrote it. */
export function heard(status) {
  written = status.written_s_ago === null ? null : Date.now() / 1000 - status.written_s_ago;
  why = status.busy ? `the trainer is busy: ${status.busy}` : "the trainer writes nothing";
  refresh();
}

/** What the indicator says now; call it every second. */
export function refresh() {
  const isOld = written !== null && Date.now() / 1000 - written > STALE_S;
  const since = written === null ? "" : ` since ${clock(written)}`;
  const [how, text] =
    connection === "broken" ? ["broken", `stale${since}: the sidecar does not answer`]
    : isOld ? ["stale", `stale${since}: ${why}`]
    : connection === "polling" ? ["polling", "polling: no event stream"]
    : connection === "live" ? ["live", "live"]
    : ["connecting", "connecting"];
  byId("link").dataset.link = how;
  setText(byId("link-text"), text);
}
