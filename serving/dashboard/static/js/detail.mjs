// What the page of one symbol remembers: its book and trades over the last ten minutes. Pure.

import { known } from "./format.mjs";
import { Profile, tickOf } from "./model.mjs";
import { BookRing, COLUMN, Ring } from "./rings.mjs";

export const COLUMN_MS = 500;
export const COLUMNS = 1240;
export const LEVELS = 50;
/** A book holds until the next one comes; without any word for this long it is not known any more. */
export const HOLDS_MS = 1500;
const TRADES = 6000;
const BAD = { gap: "gap in the venue's sequence", muted: "book muted", none: "no book" };

/** A trade of the `trades` channel, or of a tick, in plain numbers; null where it is neither. */
export function plainTrade(event) {
  if (!event) return null;
  const scale = (units, exponent) => (exponent < 0 ? units / 10 ** -exponent : units * 10 ** exponent);
  const price = known(event.price) ? event.price : scale(event.px, event.px_e);
  const qty = known(event.qty) ? event.qty : scale(event.sz, event.sz_e);
  if (!known(price) || !known(qty) || (event.side !== "buy" && event.side !== "sell")) return null;
  return { t: event.ts_recv_ms ?? event.ts_event_ms, price, qty, buy: event.side === "buy", id: event.trade_id ?? null };
}

export class Detail {
  constructor(symbol) {
    this.symbol = symbol;
    this.books = new BookRing(COLUMNS, LEVELS, COLUMN_MS);
    this.trades = new Ring(TRADES, ["t", "price", "qty", "buy"]);
    this.points = new Ring(COLUMNS, ["t", "mid", "imbalance", "net"]);
    this.bars = new Ring(COLUMNS, ["t", "open", "high", "low", "close"]);
    this.lastId = -1;
    this.hasTape = false;
    this.heardMs = NaN;
    this.book = null;
    this.tick = 0;
    this.profile = null;
    this.seen = { value: 0, volume: 0 };
    this.report = null;
    this.wrong = "";
  }

  /**
   * A report as it came at a time of the server. One that is stale is known, and stands in no
   * column: what it tells of is not now.
   */
  takeReport(report, ms, fresh = true) {
    if (!report) return;
    this.report = report;
    if (!fresh) return;
    const state = report.ingestion.book;
    this.fillSilence(ms);
    this.heardMs = ms;
    if (state !== "ok") {
      this.wrong = BAD[state] ?? state;
      if (report.ingestion.reason) this.wrong += `: ${report.ingestion.reason}`;
      this.books.mark(ms, COLUMN.GAP, this.wrong);
      this.book = null;
      this.points.push(ms, NaN, NaN, NaN);
      return;
    }
    this.wrong = "";
    if (report.depth) {
      if (!this.book || ms - this.book.ms > 1000) this.book = { bids: report.depth.bids, asks: report.depth.asks, ms, of: "report" };
      if (!this.tick) this.tick = Math.min(...[tickOf(report.depth.bids), tickOf(report.depth.asks)].filter((step) => step > 0));
      if (!Number.isFinite(this.tick)) this.tick = 0;
      this.books.put(ms, this.book.bids, this.book.asks);
    }
    this.points.push(ms, report.mid_price ?? NaN, report.depth?.imbalance ?? NaN, report.flow?.net_flow ?? NaN);
    if (known(report.mid_price)) this.bar(ms, report.mid_price);
  }

  takeBook(data, ms, fresh = true) {
    if (!data) return;
    if (this.wrong || (data.book && data.book !== "ok")) return;
    const bids = data.bids ?? [];
    const asks = data.asks ?? [];
    if (!bids.length || !asks.length) return;
    if (!fresh) {
      this.book ??= { bids, asks, ms: -Infinity, of: "book" };
      return;
    }
    this.fillSilence(ms);
    this.heardMs = ms;
    this.book = { bids, asks, ms, of: "book" };
    this.books.put(ms, bids, asks);
    const step = Math.min(...[tickOf(bids), tickOf(asks)].filter((one) => one > 0));
    if (Number.isFinite(step) && (!this.tick || step < this.tick)) this.tick = step;
    this.bar(ms, (bids[0][0] + asks[0][0]) / 2);
  }

  takeTrades(events) {
    this.hasTape = true;
    for (const event of events) {
      if (event.kind && event.kind !== "trade") continue;
      const trade = plainTrade(event);
      if (trade) this.add(trade);
    }
  }

  /** The newest trade of a tick: all there is where nobody writes the streams of events. */
  takeTick(tick) {
    if (this.hasTape) return;
    const trade = plainTrade(tick?.last_trade);
    if (trade) this.add(trade);
  }

  add(trade) {
    if (trade.id !== null) {
      if (trade.id <= this.lastId) return;
      this.lastId = trade.id;
    } else if (trade.t <= this.trades.last("t")) {
      return;
    }
    this.trades.push(trade.t, trade.price, trade.qty, trade.buy ? 1 : 0);
    this.seen.value += trade.price * trade.qty;
    this.seen.volume += trade.qty;
    this.seen.since ??= trade.t;
  }

  /** Seconds of open, high, low and close of the mid. */
  bar(ms, mid) {
    const second = Math.floor(ms / 1000);
    const { bars } = this;
    if (bars.last("t") === second) {
      const at = bars.slot(bars.length - 1);
      bars.columns.high[at] = Math.max(bars.columns.high[at], mid);
      bars.columns.low[at] = Math.min(bars.columns.low[at], mid);
      bars.columns.close[at] = mid;
    } else if (!(second < bars.last("t"))) {
      bars.push(second, mid, mid, mid, mid);
    }
  }

  /** Columns between the last word and now: the book held, or nothing is known. */
  fillSilence(ms) {
    if (!known(this.heardMs)) return;
    const { books } = this;
    const from = books.bucketOf(this.heardMs) + 1;
    const to = books.bucketOf(ms);
    const silent = ms - this.heardMs > HOLDS_MS;
    for (let bucket = Math.max(from, to - COLUMNS + 1); bucket < to + (silent ? 1 : 0); bucket += 1) {
      const at = bucket * COLUMN_MS;
      if (silent) {
        const slot = books.open(bucket);
        if (books.flag[slot] !== COLUMN.GAP) {
          books.flag[slot] = COLUMN.SILENT;
          books.reason[slot] = "nothing heard";
        }
      } else if (this.wrong) {
        books.mark(at, COLUMN.GAP, this.wrong);
      } else if (this.book && books.find(bucket) < 0) {
        books.put(at, this.book.bids, this.book.asks);
      }
    }
  }

  /** Time passes without a word. */
  advance(ms) {
    if (known(this.heardMs) && ms > this.heardMs) this.fillSilence(ms);
  }

  vwap() {
    return this.seen.volume ? this.seen.value / this.seen.volume : null;
  }

  /** Volume by price of the trades since a time. */
  profileSince(ms, bin) {
    const profile = new Profile(bin);
    for (let n = this.trades.from("t", ms); n < this.trades.length; n += 1) {
      profile.add(this.trades.get("price", n), this.trades.get("qty", n), this.trades.get("buy", n) === 1);
    }
    return profile;
  }
}
