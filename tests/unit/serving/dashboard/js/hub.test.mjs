import assert from "node:assert/strict";
import { test } from "node:test";
import { HubClient } from "../../../../../serving/dashboard/static/js/hub.mjs";

/** A hub that is not there: sockets and time by hand. */
function bench({ key = "" } = {}) {
  const sockets = [];
  const timers = [];
  let now = 1000;
  const client = new HubClient({
    connect() {
      const socket = { readyState: 0, sent: [], send(text) { this.sent.push(JSON.parse(text)); }, close() { this.readyState = 3; } };
      sockets.push(socket);
      return socket;
    },
    now: () => now,
    later: (fn, ms) => { const timer = { fn, at: now + ms }; timers.push(timer); return timer; },
    cancel: (timer) => { const at = timers.indexOf(timer); if (at >= 0) timers.splice(at, 1); },
    key: () => key,
    random: () => 0.5,
  });
  const told = [];
  client.on((type, frame) => told.push([type, frame]));
  return {
    client, sockets, told,
    get socket() { return sockets[sockets.length - 1]; },
    say(frame) { this.socket.onmessage({ data: JSON.stringify(frame) }); },
    hello() {
      this.socket.readyState = 1;
      this.socket.onopen();
      this.say({ type: "hello", protocol: 1, heartbeat_s: 2, now_ms: 0, server: "tapeline 0.1.0" });
    },
    pass(ms) {
      const until = now + ms;
      for (;;) {
        const due = timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
        if (!due) break;
        now = due.at;
        timers.splice(timers.indexOf(due), 1);
        due.fn();
      }
      now = until;
    },
    states: () => told.filter(([type]) => type === "state").map(([, frame]) => frame.seq),
  };
}

const frame = (type, seq, prev, token = 7) => ({ type, channel: "reports.fast", symbol: "BTCUSDT", token, seq, prev_token: token, prev_seq: prev, read: {}, data: { seq } });

test("what is wanted is subscribed at each hello, and goes on where it was", () => {
  const b = bench();
  b.client.want("one", { channels: ["reports.fast"], symbols: ["BTCUSDT"] });
  b.client.start();
  b.hello();
  assert.deepEqual(b.socket.sent[0].symbols, ["BTCUSDT"]);
  assert.equal(b.socket.sent[0].resume, undefined);
  b.say({ type: "subscribed", id: b.socket.sent[0].id, subscription_id: "s1" });
  b.say(frame("snapshot", 4));
  b.socket.onclose({ code: 1006, reason: "" });
  assert.equal(b.client.state, "lost");
  b.pass(300);
  assert.equal(b.sockets.length, 2);
  b.hello();
  assert.deepEqual(b.socket.sent[0].resume, { "reports.fast|BTCUSDT": "7.4" });
});

test("a break asks for the state again, and nothing is handed on twice or backwards", () => {
  const b = bench();
  b.client.start();
  b.hello();
  b.say(frame("snapshot", 4));
  b.say(frame("update", 5, 4));
  b.say(frame("update", 9, 8));
  assert.deepEqual(b.socket.sent.at(-1), { op: "snapshot", channel: "reports.fast", symbol: "BTCUSDT" });
  b.say(frame("snapshot", 3));
  b.say(frame("snapshot", 99, 0, 6));
  b.say(frame("snapshot", 1, 0, 8));
  assert.deepEqual(b.states(), [4, 5, 9, 1]);
  assert.equal(b.client.stats.breaks, 1);
  assert.equal(b.client.stats.lower, 2);
});

test("a server that says nothing for two heartbeats and a half is left", () => {
  const b = bench();
  b.client.start();
  b.hello();
  b.pass(4000);
  b.say({ type: "heartbeat", now_ms: 1, dropped: 3, throttled_s: 0.5 });
  b.pass(4500);
  assert.equal(b.client.state, "open");
  assert.equal(b.client.stats.dropped, 3);
  b.pass(3000);
  assert.equal(b.client.state, "lost");
  assert.ok(b.sockets.length >= 2);
});

test("attempts come less and less often, and at once when the reader asks", () => {
  const b = bench();
  b.client.start();
  for (let n = 0; n < 12; n += 1) { b.socket.onclose({ code: 1006 }); b.pass(5000); }
  const before = b.sockets.length;
  b.socket.onclose({ code: 1006 });
  b.pass(4000);
  assert.equal(b.sockets.length, before);
  b.pass(3000);
  assert.equal(b.sockets.length, before + 1);
  b.client.restart();
  assert.equal(b.sockets.length, before + 2);
});

test("a key goes into the first message and nowhere else", () => {
  const b = bench({ key: "tl_secret" });
  b.client.want("one", { channels: ["ticks"], symbols: ["X"] });
  b.client.start();
  b.hello();
  assert.deepEqual(b.socket.sent.map((one) => one.op), ["auth", "subscribe"]);
  b.socket.onclose({ code: 1008, reason: "key" });
  assert.equal(b.client.state, "refused");
});

test("events go on from their cursor, also from the one that a close hands over", () => {
  const b = bench();
  b.client.want("tape", { channels: ["trades", "executions"], symbols: ["X"] });
  b.client.start();
  b.hello();
  b.say({ type: "events", channel: "trades", symbol: "X", cursor: "1-5", data: [] });
  b.socket.onclose({ code: 1013, reason: JSON.stringify({ resume: { "executions|X": "1-9" } }) });
  b.pass(1000);
  b.hello();
  assert.deepEqual(b.socket.sent[0].resume, { "trades|X": "1-5", "executions|X": "1-9" });
});

test("a subscription that two names share is kept as long as one wants it", () => {
  const b = bench();
  b.client.start();
  b.hello();
  const wanted = { channels: ["reports.fast"], symbols: ["X"] };
  b.client.want("a", wanted);
  b.client.want("b", wanted);
  for (const one of b.socket.sent) b.say({ type: "subscribed", id: one.id, subscription_id: "s1", already: false });
  b.client.unwant("a");
  assert.equal(b.socket.sent.filter((one) => one.op === "unsubscribe").length, 0);
  b.client.unwant("b");
  assert.deepEqual(b.socket.sent.at(-1), { op: "unsubscribe", subscription_id: "s1" });
});

test("what is no JSON is told, and the connection kept", () => {
  const b = bench();
  b.client.start();
  b.hello();
  b.socket.onmessage({ data: "{" });
  assert.equal(b.told.at(-1)[0], "malformed");
  assert.equal(b.client.state, "open");
});
