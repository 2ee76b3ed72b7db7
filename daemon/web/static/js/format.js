// How numbers, times and scores are written; the same everywhere on the page, and as `mtld status` writes them.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 12,345; a dash where there is no number. */
export const count = (value) => (isNumber(value) ? whole.format(value) : "–");

/** 12.3K, for axes. */
export const short = (value) => (isNumber(value) ? compact.format(value) : "–");

/** 0.973, as `mtld status` prints scores. */
export const score = (value) => (isNumber(value) ? value.toFixed(3) : "–");

/** A loss: three significant digits, whatever its size. */
export function loss(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 10000) ? value.toExponential(2) : value.toPrecision(3);
}

/** 45.3 %, of a part and a whole. */
export const share = (part, all) => (all > 0 ? `${((100 * part) / all).toFixed(1)} %` : "–");

/** Bytes in units of 1024, as `mtld status` prints them. */
export function size(bytes) {
  if (!isNumber(bytes)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

/** 12 s, 3 min, 5 h, 9 d, as `mtld status` says it. */
export function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const [unit, length] = units.find(([, one]) => seconds >= 2 * one) ?? ["s", 1];
  return `${whole.format(Math.max(seconds, 0) / length)} ${unit}`;
}

/** 14:03:07 in the reader's time zone. */
export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

/** v000007 */
export const version = (number) => `v${String(number).padStart(6, "0")}`;

/** digits / 2-3 */
export const moment = (task, phase) => [task, phase].filter(Boolean).join(" / ") || "–";

/** All metrics of a task: "accuracy 0.973"; one without a number is not defined on the held-out rows. */
export function metrics(found) {
  if (isNumber(found)) return score(found);
  if (!found || typeof found !== "object") return "–";
  return Object.entries(found).map(([name, value]) => `${name} ${score(value)}`).join(", ") || "–";
}

/** The details of a journal line: "task digits, step 40, scores (digits 0.973)". */
export function details(found) {
  const value = typeof found === "string" ? parsed(found) : found;
  if (value === null || value === undefined) return "";
  if (typeof value !== "object") return String(value);
  return Object.entries(value)
    .filter(([, one]) => one !== "")
    .map(([name, one]) => (name === "detail" ? text(one) : `${name} ${text(one)}`))
    .join(", ");
}

function text(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : score(value);
  return value === null ? "–" : typeof value === "object" ? `(${details(value)})` : String(value);
}

function parsed(string) {
  try {
    return JSON.parse(string);
  } catch {
    return string;
  }
}
