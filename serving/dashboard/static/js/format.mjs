// Numbers and ages as text. Pure; a number that is not known is a dash, never zero.

export const NONE = "–";
const MINUS = "−";
const cache = new Map();

function fixed(digits) {
  let made = cache.get(digits);
  if (!made) {
    made = new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    cache.set(digits, made);
  }
  return made;
}

export const known = (value) => typeof value === "number" && Number.isFinite(value);

/** Digits behind the point that show a price of this size to six figures. */
export function priceDigits(value) {
  if (!known(value) || value === 0) return 2;
  return Math.min(8, Math.max(2, 5 - Math.floor(Math.log10(Math.abs(value)))));
}

export function number(value, digits) {
  if (!known(value)) return NONE;
  const text = fixed(digits).format(Math.abs(value));
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

export const price = (value, digits = priceDigits(value)) => number(value, digits);

/** A size with four figures at most. */
export function qty(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return number(value / 1e9, 2) + "B";
  if (size >= 1e6) return number(value / 1e6, 2) + "M";
  if (size >= 1e4) return number(value / 1e3, 1) + "k";
  if (size >= 100) return number(value, 1);
  if (size >= 1) return number(value, 3);
  return number(value, size >= 0.001 || size === 0 ? 4 : 6);
}

export function signed(value, digits, unit = "") {
  if (!known(value)) return NONE;
  const text = number(value, digits);
  return (value > 0 && /[1-9]/.test(text) ? "+" : "") + text + unit;
}

export const signedQty = (value) => (known(value) ? (value > 0 ? "+" : value < 0 ? MINUS : "") + qty(Math.abs(value)) : NONE);

/** A direction by shape, so that colour is not needed. */
export const arrow = (value) => (!known(value) || value === 0 ? "·" : value > 0 ? "▲" : "▼");

export function age(ms) {
  if (!known(ms)) return NONE;
  const t = Math.max(0, ms);
  if (t < 995) return `${Math.round(t / 10) * 10} ms`;
  if (t < 60_000) return `${Math.max(1, Math.floor(t / 100) / 10).toFixed(1)} s`;
  const s = Math.floor(t / 1000);
  const two = (n) => String(n).padStart(2, "0");
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} m`;
  return `${Math.floor(s / 86_400)} d ${two(Math.floor(s / 3600) % 24)} h`;
}

export function clock(ms, withMillis = false) {
  if (!known(ms)) return NONE;
  return new Date(ms).toISOString().slice(11, withMillis ? 23 : 19);
}

export function count(value) {
  if (!known(value)) return NONE;
  return number(value, Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : 1);
}

export function bytes(value) {
  if (!known(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  let left = value;
  while (left >= 1024 && at < units.length - 1) { left /= 1024; at += 1; }
  return `${at ? left.toFixed(1) : left} ${units[at]}`;
}
