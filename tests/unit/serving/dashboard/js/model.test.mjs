import assert from "node:assert/strict";
import { test } from "node:test";
import { Profile, Store, leaves, logShare, niceStep, tickOf, troubles, upTo } from "../../../../../serving/dashboard/static/js/model.mjs";

const report = (more = {}) => ({ writer: { nodeId: "w1" }, mid_price: 100, ingestion: { book: "ok" }, ...more });
const frame = (symbol, seq, { age = 10, data = report(), token = 7 } = {}) => ({ channel: "reports.fast", symbol, token, seq, read: { now_ms: 1_000_000, age_ms: age, data_age_ms: age + 5, stale: false }, data });

test("ages go on by themselves, whatever is heard", () => {
  const store = new Store();
  store.take("state", frame("X", 1), 500);
  const x = store.of("X");
  assert.equal(x.dataAge(500), 15);
  assert.equal(x.dataAge(3500), 3015);
  assert.equal(x.state(2000), "live");
  assert.equal(x.state(3500), "stale");
  assert.equal(x.state(40_000), "down");
});

test("an age is not lost where nothing is stored any more, or the reader knows none", () => {
  const store = new Store();
  store.take("state", frame("X", 1), 0);
  store.take("state", { channel: "reports.fast", symbol: "X", token: 0, seq: 0, read: { data_age_ms: null, age_ms: null }, data: null }, 1000);
  store.take("stale", { channel: "reports.fast", symbol: "X", read: { data_age_ms: null, age_ms: null } }, 2000);
  assert.equal(store.of("X").dataAge(3000), 3015);
  assert.equal(store.of("X").report.mid_price, 100);
});

test("a held book is a gap, and its price is a hole in the line", () => {
  const store = new Store();
  store.take("state", frame("X", 1, { data: report({ ingestion: { book: "gap" } }) }), 0);
  assert.equal(store.of("X").state(0), "gap");
  assert.ok(Number.isNaN(store.of("X").mids.last("mid")));
});

test("without a report a symbol is down", () => {
  const store = new Store();
  store.take("state", { channel: "reports.fast", symbol: "X", token: 0, seq: 0, read: {}, data: null }, 0);
  assert.equal(store.of("X").state(0), "down");
  assert.deepEqual(store.counts(0), { live: 0, stale: 0, gap: 0, down: 1 });
});

test("the change is against a minute ago, or as far back as was heard", () => {
  const store = new Store();
  for (let n = 0; n <= 70; n += 1) store.take("state", frame("X", n + 1, { data: report({ mid_price: 100 + n }) }), n * 1000);
  const { pct, spanMs } = store.of("X").change(70_000);
  assert.equal(spanMs, 60_000);
  assert.ok(Math.abs(pct - (60 / 110) * 100) < 1e-9);
  const young = new Store();
  young.take("state", frame("Y", 1), 0);
  assert.equal(young.of("Y").change(3000).pct, null);
});

test("a writer none of whose symbols is written is silent; one of two is not", () => {
  const store = new Store();
  store.take("state", frame("X", 1), 0);
  store.take("state", frame("Y", 1), 1900);
  assert.deepEqual(store.silentWriters(2000), []);
  const [silent] = store.silentWriters(4000);
  assert.equal(silent.symbols, 2);
  assert.equal(silent.node, "w1");
});

test("the same report heard again is no new one", () => {
  const store = new Store();
  store.take("state", frame("X", 1), 0);
  store.take("state", frame("X", 1, { age: 2010 }), 2000);
  assert.equal(store.silentWriters(2000).length, 1);
});

test("the banner tells the worst first: no connection hides what can't be known", () => {
  const store = new Store();
  store.take("state", frame("X", 1), 0);
  const open = { state: "open", since: 0, silence: 0 };
  assert.deepEqual(troubles({ connection: open, store, now: 100 }), []);
  assert.deepEqual(troubles({ connection: open, store, now: 3000 }).map((one) => one.id), ["writer:w1"]);
  store.take("source", { redis: "down" }, 3000);
  assert.deepEqual(troubles({ connection: open, store, now: 4000 }).map((one) => one.id), ["redis"]);
  assert.deepEqual(troubles({ connection: { ...open, state: "lost" }, store, now: 4000 }).map((one) => one.id), ["hub"]);
  assert.deepEqual(troubles({ connection: { ...open, silence: 4000 }, store, now: 4000 }).map((one) => one.id), ["hub"]);
  assert.equal(troubles({ connection: { ...open, state: "refused" }, store, now: 0 })[0].id, "key");
});

test("the server's time is followed slowly, and at once where it jumps", () => {
  const store = new Store();
  store.hearTime(1_000_000, 0);
  store.hearTime(1_000_120, 100);
  assert.ok(Math.abs(store.serverNow(100) - 1_000_101) < 1e-6);
  store.hearTime(2_000_000, 200);
  assert.equal(store.serverNow(200), 2_000_000);
});

test("scales", () => {
  assert.equal(niceStep(10, 5), 2);
  assert.equal(niceStep(0.7, 5), 0.2);
  assert.equal(niceStep(0, 5), 1);
  assert.equal(tickOf([[100.3, 1], [100.2, 1], [99.9, 1]]), 0.1);
  assert.equal(tickOf([[1, 1]]), 0);
  assert.equal(logShare(0, 1, 100), 0);
  assert.equal(logShare(100, 1, 100), 1);
  assert.ok(Math.abs(logShare(10, 1, 100) - 0.5) < 1e-9);
  assert.equal(logShare(1000, 1, 100), 1);
});

test("a profile sums by bin and side", () => {
  const profile = new Profile(0.5);
  profile.add(10.1, 2, true);
  profile.add(10.2, 1, false);
  profile.add(11, 4, false);
  assert.deepEqual([...profile.bins], [[20, [2, 1]], [22, [0, 4]]]);
});

test("leaves keep every field, lists and empty objects whole", () => {
  assert.deepEqual(leaves({ a: { b: 1, c: null }, d: [1, [2]], e: {} }), [["a.b", 1], ["a.c", null], ["d", [1, [2]]], ["e", {}]]);
});

test("one huge order does not end the colour scale", () => {
  const sums = Float32Array.from({ length: 1000 }, (_, n) => (n % 2 ? 0 : 1 + (n % 10) / 10));
  sums[0] = 900;
  const end = upTo(sums, 900, 0.993);
  assert.ok(end > 1.7 && end < 2.2, `${end}`);
  assert.ok(upTo(sums, 900, 1) >= 900 * 0.93);
  assert.equal(upTo(new Float32Array(4), 0, 0.99), 0);
});
