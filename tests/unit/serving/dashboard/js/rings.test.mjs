import assert from "node:assert/strict";
import { test } from "node:test";
import { COLUMN_MS, Detail, plainTrade } from "../../../../../serving/dashboard/static/js/detail.mjs";
import * as format from "../../../../../serving/dashboard/static/js/format.mjs";
import { explain } from "../../../../../serving/dashboard/static/js/report_view.mjs";
import { BookRing, COLUMN, Ring } from "../../../../../serving/dashboard/static/js/rings.mjs";
import { snippets } from "../../../../../serving/dashboard/static/js/snippets.mjs";

test("a ring keeps the newest, in order, in the same memory", () => {
  const ring = new Ring(4, ["t", "v"]);
  const memory = ring.columns.t.buffer;
  for (let n = 0; n < 11; n += 1) ring.push(n, n * n);
  assert.equal(ring.length, 4);
  assert.deepEqual([0, 1, 2, 3].map((n) => ring.get("t", n)), [7, 8, 9, 10]);
  assert.equal(ring.from("t", 8.5), 2);
  assert.equal(ring.from("t", 99), 4);
  assert.equal(ring.last("v"), 100);
  assert.equal(ring.columns.t.buffer, memory);
  assert.ok(Number.isNaN(new Ring(2, ["t"]).last("t")));
});

test("a column is the last book in it, unless the feed broke in it", () => {
  const books = new BookRing(8, 2, 100);
  books.put(1000, [[9, 1]], [[10, 2]]);
  books.put(1050, [[8, 1], [7, 1], [6, 1]], [[10, 2]]);
  const at = books.find(10);
  assert.deepEqual(books.best(at), { bid: 8, ask: 10 });
  assert.equal(books.bids[at], 2);
  books.mark(1060, COLUMN.GAP, "sequence");
  books.put(1090, [[9, 1]], [[10, 1]]);
  assert.equal(books.flag[at], COLUMN.GAP);
  books.put(1900, [[9, 1]], [[10, 1]]);
  assert.equal(books.find(11), -1, "a bucket without a column has none");
  books.put(100, [[1, 1]], [[2, 1]]);
  assert.equal(books.find(1), -1, "what is older than all that is kept is left out");
});

const level = [[[100, 1], [99, 2]], [[101, 1], [102, 2]]];
const report = (book = "ok", reason = "") => ({ ingestion: { book, reason }, mid_price: 100.5, depth: { bids: level[0], asks: level[1], imbalance: 0.1 }, flow: { net_flow: 1 } });
const flags = (detail, from, to) => Array.from({ length: to - from }, (_, n) => {
  const at = detail.books.find(from + n);
  return at < 0 ? COLUMN.EMPTY : detail.books.flag[at];
});

test("a book holds for a moment; then nothing is known, and that is what is kept", () => {
  const detail = new Detail("X");
  detail.takeReport(report(), 10_000);
  detail.advance(11_200);
  assert.deepEqual(flags(detail, 20, 22), [COLUMN.GOOD, COLUMN.GOOD]);
  detail.advance(13_000);
  assert.deepEqual(flags(detail, 20, 27), [COLUMN.GOOD, ...Array(6).fill(COLUMN.SILENT)]);
  detail.takeReport(report(), 14_100);
  assert.equal(detail.books.flag[detail.books.find(28)], COLUMN.GOOD);
  assert.equal(detail.books.flag[detail.books.find(27)], COLUMN.SILENT);
});

test("a gap is marked from its report on, and a book that comes meanwhile is not drawn", () => {
  const detail = new Detail("X");
  detail.takeReport(report(), 10_000);
  detail.takeReport(report("gap", "sequence"), 10_600);
  detail.takeBook({ bids: level[0], asks: level[1] }, 10_700);
  detail.advance(11_700);
  assert.deepEqual(flags(detail, 20, 23), [COLUMN.GOOD, COLUMN.GAP, COLUMN.GAP]);
  assert.match(detail.books.reason[detail.books.find(21)], /sequence/);
  assert.equal(detail.book, null);
  assert.ok(Number.isNaN(detail.points.last("mid")));
  detail.takeReport(report(), 12_100);
  assert.equal(detail.wrong, "");
  assert.equal(detail.books.flag[detail.books.find(12_100 / COLUMN_MS >> 0)], COLUMN.GOOD);
});

test("what is stale when it comes is known, and in no column of now", () => {
  const detail = new Detail("X");
  detail.takeReport(report(), 10_000, false);
  detail.takeBook({ bids: level[0], asks: level[1] }, 10_000, false);
  assert.equal(detail.report.mid_price, 100.5);
  assert.deepEqual(detail.book.bids, level[0]);
  assert.equal(detail.books.newest, -1);
  detail.advance(60_000);
  assert.equal(detail.books.newest, -1);
  assert.equal(detail.bars.length, 0);
});

test("trades count once, in units or plain, and ticks only where there is no tape", () => {
  const detail = new Detail("X");
  const event = { kind: "trade", px: 1005, px_e: -1, sz: 25, sz_e: -2, side: "buy", trade_id: 4, ts_recv_ms: 10 };
  detail.takeTick({ last_trade: { price: 100, qty: 1, side: "sell", trade_id: 3, ts_recv_ms: 5 } });
  detail.takeTick({ last_trade: { price: 100, qty: 1, side: "sell", trade_id: 3, ts_recv_ms: 5 } });
  detail.takeTrades([event, event, { kind: "book_delta" }]);
  detail.takeTick({ last_trade: { price: 100, qty: 1, side: "sell", trade_id: 9, ts_recv_ms: 20 } });
  assert.equal(detail.trades.length, 2);
  assert.equal(detail.trades.last("price"), 100.5);
  assert.equal(detail.trades.last("qty"), 0.25);
  assert.equal(plainTrade({ side: "buy" }), null);
  assert.equal(plainTrade(null), null);
  assert.equal(detail.vwap(), (100 + 100.5 * 0.25) / 1.25);
});

test("numbers as text", () => {
  assert.equal(format.price(60000.05), "60,000.05");
  assert.equal(format.price(0.00001234), "0.00001234");
  assert.equal(format.price(3.2145), "3.21450");
  assert.equal(format.price(null), "–");
  assert.equal(format.number(NaN, 2), "–");
  assert.equal(format.number(-0.001, 2), "0.00");
  assert.equal(format.signed(1.234, 2, " %"), "+1.23 %");
  assert.equal(format.signed(-1.234, 2), "−1.23");
  assert.equal(format.signed(0, 2), "0.00");
  assert.equal(format.signed(undefined, 2), "–");
  assert.equal(format.signedQty(-12_345), "−12.3k");
  assert.deepEqual([0.00002, 0.5, 12.3456, 123.456, 1.5e7, 2e9].map(format.qty), ["0.000020", "0.5000", "12.346", "123.5", "15.00M", "2.00B"]);
  assert.deepEqual([14, 999, 3210, 123_000, 3_720_000, 90_000_000, null].map(format.age), ["10 ms", "1.0 s", "3.2 s", "2 m 03 s", "1 h 02 m", "1 d 01 h", "–"]);
  assert.equal(format.bytes(1536), "1.5 KiB");
  assert.equal(format.clock(0, true), "00:00:00.000");
  assert.deepEqual([1, -1, 0, null].map(format.arrow), ["▲", "▼", "·", "·"]);
});

test("a field is explained by its own term, or the nearest around it", () => {
  const terms = new Map([["depth", { meaning: "a" }], ["depth.bids", { meaning: "b" }], ["venues.by_venue.*.state", { meaning: "c" }]]);
  assert.equal(explain(terms, "depth.bids").meaning, "b");
  assert.equal(explain(terms, "depth.levels").meaning, "a");
  assert.equal(explain(terms, "venues.by_venue.kraken.state").meaning, "c");
  assert.equal(explain(terms, "nothing"), null);
});

test("what is copied names this server, this symbol and no key", () => {
  const made = snippets("http://127.0.0.1:8080", "BTCUSDT");
  assert.match(made.curl, /^curl -si 'http:\/\/127\.0\.0\.1:8080\/get_report\?symbol=BTCUSDT'$/);
  assert.match(made.websocket, /ws:\/\/127\.0\.0\.1:8080\/ws/);
  assert.deepEqual(JSON.parse(made.mcpCall).params.arguments, { symbol: "BTCUSDT" });
  assert.equal(JSON.parse(made.mcpHttp).mcpServers.tapeline.url, "http://127.0.0.1:8080/mcp");
  assert.doesNotMatch(JSON.stringify(made), /tl_/);
});
