// Where the data comes from: server-sent events, opened again when they break, and polling while they are broken.

const SILENT_MS = 8000; // the sidecar sends a status about once a second; longer silence is a dead connection
const RETRY_MS = [1000, 2000, 4000, 8000, 15000];
const POLL_MS = 3000;
const RELEASES_MS = 10000; // aliases also move without an event: by `mtld snapshot promote`
const TIMEOUT_MS = 10000;

/** The JSON at a path, errors in JSON included; null where the sidecar has none or does not answer. */
export async function get(path) {
  try {
    const reply = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
    return reply.headers.get("Content-Type")?.startsWith("application/json") ? await reply.json() : null;
  } catch {
    return null; // the caller shows it: the indicator turns to "stale"
  }
}

/**
 * Calls `on.status`, `on.point`, `on.history`, `on.releases` with what the sidecar says, and `on.link` with
 * "live", "polling" or "broken" as the connection changes.
 */
export class Feed {
  constructor(on) {
    this.on = on;
    this.failures = 0;
    this.heard = 0;
    this.place = "";
  }

  start() {
    this.#open();
    setInterval(() => this.#watch(), 1000);
    setInterval(() => this.#poll(), POLL_MS);
    setInterval(() => this.#fetch("api/releases", this.on.releases), RELEASES_MS);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && !this.source) this.#open(); // a laptop that wakes up does not wait for its turn
    });
  }

  #open() {
    clearTimeout(this.timer);
    this.source?.close();
    this.heard = performance.now();
    this.source = new EventSource("events");
    this.source.addEventListener("open", () => this.#opened());
    this.source.addEventListener("error", () => this.#broken());
    this.source.addEventListener("status", (event) => this.#status(JSON.parse(event.data)));
    this.source.addEventListener("point", (event) => this.#point(JSON.parse(event.data)));
  }

  #opened() {
    this.heard = performance.now();
    this.#refresh(); // what was missed while nothing came
  }

  #status(status) {
    this.heard = performance.now();
    this.failures = 0;
    this.on.link("live");
    this.#told(status);
  }

  #told(status) {
    const line = status.events?.findLast((event) => event.kind !== "dead_letter")?.at;
    const place = JSON.stringify([status.task, status.phase, status.snapshot?.version, status.boot, status.broker_up, line]);
    if (this.place && place !== this.place) this.stale = true; // switches, marks and snapshots come with the history
    this.place = place;
    this.on.status(status);
  }

  #point(point) {
    this.heard = performance.now();
    this.on.point(point);
    if (this.stale) {
      this.stale = false;
      this.#refresh();
    }
  }

  #watch() {
    if (this.source && performance.now() - this.heard > SILENT_MS) this.#broken();
  }

  #broken() {
    this.source?.close();
    this.source = null;
    const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
    this.failures += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#open(), wait);
    this.#poll();
  }

  async #poll() {
    if (this.source?.readyState === EventSource.OPEN) return;
    if (await this.#fetch("api/status", (status) => this.#told(status))) {
      if (this.source?.readyState !== EventSource.OPEN) this.on.link("polling");
      await this.#refresh();
    } else {
      this.on.link("broken");
    }
  }

  #refresh() {
    return Promise.all([
      this.#fetch("api/history", this.on.history),
      this.#fetch("api/releases", this.on.releases),
    ]);
  }

  async #fetch(path, then) {
    const found = await get(path);
    if (found !== null) then(found);
    return found !== null;
  }
}
