// What a page knows of its symbols, and what follows from it. Pure: time is given.

import { known } from "./format.mjs";
import { Ring } from "./rings.mjs";

export const STALE_MS = 2000;
export const DOWN_MS = 30_000;
/** Reports come four times a second; a writer that is silent this long has a problem. */
export const SILENT_MS = 1400;
export const SPARK_MS = 60_000;
const SPARK_STEP_MS = 250;

export class SymbolState {
  constructor(symbol) {
    this.symbol = symbol;
    this.report = null;
    this.read = null;
    this.token = 0;
    this.seq = 0;
    this.heardAt = -Infinity; // page's monotonic clock: last frame
    this.writtenAt = -Infinity; // last one with a new (token, seq)
    this.tick = null;
    this.subscribers = null;
    this.mids = new Ring(SPARK_MS / SPARK_STEP_MS + 40, ["t", "mid"]);
    this.version = 0;
  }

  /** Takes a state frame of `reports.fast`. */
  take(frame, now) {
    this.version += 1;
    // Nothing stored, or not any more: what was heard before stays, and ages.
    if (!frame.data) return;
    this.hear(frame.read, now);
    if (frame.token !== this.token || frame.seq !== this.seq) this.writtenAt = now - Math.max(0, frame.read?.age_ms ?? 0);
    this.report = frame.data;
    this.token = frame.token;
    this.seq = frame.seq;
    const good = this.report.ingestion.book === "ok" && known(this.report.mid_price);
    if (now - this.mids.last("t") < SPARK_STEP_MS * 0.8) return;
    this.mids.push(now, good ? this.report.mid_price : NaN);
  }

  stale(frame, now) {
    this.hear(frame.read, now);
    this.version += 1;
  }

  /** How old it is, as the reader says; without a word on that the age goes on from the last one. */
  hear(read, now) {
    if (!known(read?.data_age_ms) && known(this.read?.data_age_ms)) return;
    this.heardAt = now;
    this.read = read ?? null;
  }

  /** Age of the newest data behind the report; goes on whatever happens to the connection. */
  dataAge(now) {
    const age = this.read?.data_age_ms;
    return known(age) ? age + (now - this.heardAt) : null;
  }

  reportAge(now) {
    const age = this.read?.age_ms;
    return known(age) ? age + (now - this.heardAt) : null;
  }

  state(now) {
    if (!this.report) return "down";
    const age = this.dataAge(now);
    if (age === null || age > DOWN_MS) return "down";
    if (age > STALE_MS) return "stale";
    return this.report.ingestion.book === "gap" || this.report.ingestion.book === "muted" ? "gap" : "live";
  }

  /** Percent against the mid a minute ago, or against the oldest one there is, and over what span. */
  change(now) {
    const latest = this.report?.mid_price;
    if (!known(latest)) return { pct: null, spanMs: 0 };
    for (let n = this.mids.from("t", now - SPARK_MS); n < this.mids.length; n += 1) {
      const mid = this.mids.get("mid", n);
      if (!known(mid) || mid === 0) continue;
      const spanMs = now - this.mids.get("t", n);
      return spanMs < 5000 ? { pct: null, spanMs } : { pct: ((latest - mid) / mid) * 100, spanMs };
    }
    return { pct: null, spanMs: 0 };
  }
}

/** All symbols, and what is wrong around them. */
export class Store {
  constructor() {
    this.symbols = new Map();
    this.source = { redis: "up", since: 0 };
    this.dirty = new Set();
    this.offsetMs = 0; // server's epoch clock minus the page's monotonic one
    this.hasOffset = false;
  }

  of(symbol) {
    let state = this.symbols.get(symbol);
    if (!state) {
      state = new SymbolState(symbol);
      this.symbols.set(symbol, state);
    }
    return state;
  }

  /** The server's time, of which reports tell; moved slowly, so that columns do not jump. */
  hearTime(serverMs, now) {
    if (!known(serverMs)) return;
    const offset = serverMs - now;
    const step = offset - this.offsetMs;
    this.offsetMs = !this.hasOffset || Math.abs(step) > 1000 ? offset : this.offsetMs + step * 0.05;
    this.hasOffset = true;
  }

  serverNow(now) {
    return now + this.offsetMs;
  }

  /** Takes a frame of the hub; says which symbol changed, or ''. */
  take(type, frame, now) {
    if (type === "state" && frame.channel === "reports.fast") {
      this.hearTime(frame.read?.now_ms, now);
      this.of(frame.symbol).take(frame, now);
    } else if (type === "state" && frame.channel === "ticks") {
      this.of(frame.symbol).tick = frame.data;
    } else if (type === "stale" && frame.channel.startsWith("reports")) {
      this.of(frame.symbol).stale(frame, now);
    } else if (type === "subscriber_count_changed") {
      this.of(frame.symbol).subscribers = frame.count;
    } else if (type === "source") {
      if (frame.redis !== this.source.redis) this.source = { redis: frame.redis, since: now };
      return "";
    } else if (type === "hello" || type === "heartbeat") {
      this.hearTime(frame.now_ms, now);
      return "";
    } else {
      return "";
    }
    this.dirty.add(frame.symbol);
    return frame.symbol;
  }

  counts(now) {
    const counts = { live: 0, stale: 0, gap: 0, down: 0 };
    for (const state of this.symbols.values()) counts[state.state(now)] += 1;
    return counts;
  }

  /** Writers none of whose symbols had a new report for a while: [{node, symbols, ms}]. */
  silentWriters(now) {
    const writers = new Map();
    for (const state of this.symbols.values()) {
      if (!state.report) continue;
      const node = state.report.writer.nodeId;
      const silentMs = now - state.writtenAt;
      const seen = writers.get(node);
      if (!seen) writers.set(node, { node, symbols: 1, ms: silentMs });
      else { seen.symbols += 1; seen.ms = Math.min(seen.ms, silentMs); }
    }
    return [...writers.values()].filter((writer) => writer.ms > SILENT_MS);
  }
}

/** What the banner says: at most one line for each thing that is away, the worst first. */
export function troubles({ connection, store, now }) {
  const found = [];
  if (connection.state === "refused") {
    found.push({ id: "key", level: "bad", text: "The server wants a key, or refuses this one.", action: "key" });
  } else if (connection.state !== "open" && connection.state !== "idle") {
    found.push({ id: "hub", level: "bad", since: connection.since, text: "No connection to the server. Numbers below are the last ones heard; reconnecting." });
    return found;
  } else if (connection.silence > 3500) {
    found.push({ id: "hub", level: "bad", since: now - connection.silence, text: "The server has gone quiet." });
    return found;
  }
  if (store.source.redis === "down") {
    found.push({ id: "redis", level: "bad", since: store.source.since, text: "The server can't reach Redis. Numbers below are the last ones read." });
    return found;
  }
  const silent = store.silentWriters(now);
  for (const writer of silent.slice(0, 3)) {
    const many = writer.symbols === 1 ? "1 symbol" : `${writer.symbols} symbols`;
    found.push({ id: `writer:${writer.node}`, level: "warn", since: now - writer.ms, text: `Worker ${writer.node} writes nothing: ${many} without new reports.` });
  }
  return found;
}

// --- scales ---

/** A step of 1, 2 or 5 times a power of ten, about range / steps. */
export function niceStep(range, steps) {
  const raw = range / Math.max(1, steps);
  if (!(raw > 0)) return 1;
  const base = 10 ** Math.floor(Math.log10(raw));
  const rest = raw / base;
  return (rest > 5 ? 10 : rest > 2 ? 5 : rest > 1 ? 2 : 1) * base;
}

/** Smallest distance between neighbouring prices: the tick, as far as the levels show it. */
export function tickOf(levels) {
  let least = Infinity;
  for (let n = 1; n < levels.length; n += 1) {
    const step = Math.abs(levels[n][0] - levels[n - 1][0]);
    if (step > 1e-12 && step < least) least = step;
  }
  return Number.isFinite(least) ? Number(least.toPrecision(6)) : 0;
}

/** 0 to 1 on a logarithmic scale from least to most. */
export function logShare(value, least, most) {
  if (!(value > 0) || !(most > 0)) return 0;
  if (value <= least) return 0.02;
  if (most <= least) return 1;
  return Math.min(1, Math.max(0.02, Math.log(value / least) / Math.log(most / least)));
}

const BINS = 128;
const counts = new Uint32Array(BINS);

/** The size below which that share of the cells that are not empty stays. */
export function upTo(sums, most, share) {
  if (!(most > 0)) return 0;
  counts.fill(0);
  const span = Math.log(1e4);
  let total = 0;
  for (let n = 0; n < sums.length; n += 1) {
    if (!(sums[n] > 0)) continue;
    total += 1;
    counts[Math.max(0, BINS - 1 - Math.floor((Math.log(most / sums[n]) / span) * BINS))] += 1;
  }
  let seen = 0;
  for (let n = 0; n < BINS; n += 1) {
    seen += counts[n];
    if (seen >= share * total) return most * Math.exp(-span * (1 - (n + 1) / BINS));
  }
  return most;
}

/** Volume by price: a map of bins that keeps the newest trades only, through `drop`. */
export class Profile {
  constructor(bin) {
    this.bin = bin;
    this.bins = new Map();
  }

  add(price, size, isBuy, sign = 1) {
    const key = Math.round(price / this.bin);
    const cell = this.bins.get(key) ?? [0, 0];
    cell[isBuy ? 0 : 1] += sign * size;
    if (cell[0] <= 1e-12 && cell[1] <= 1e-12) this.bins.delete(key);
    else this.bins.set(key, cell);
  }
}

/** [[price, cumulative size]], best first. */
export function cumulative(levels) {
  let sum = 0;
  return levels.map(([price, size]) => [price, (sum += size)]);
}

/** Every leaf of a report as [path, value]; lists are leaves. */
export function leaves(value, prefix = "", out = []) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    out.push([prefix, value]);
    return out;
  }
  const entries = Object.entries(value);
  if (!entries.length && prefix) out.push([prefix, value]);
  for (const [key, part] of entries) leaves(part, prefix ? `${prefix}.${key}` : key, out);
  return out;
}
