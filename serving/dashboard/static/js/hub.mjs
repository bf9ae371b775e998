// A client of the hub's protocol, version 1. Pure: socket, clock and timers are given.
//
// What is wanted is declared once; this keeps it subscribed through every reconnect, resumes where
// it was, asks for the state again where frames are missing, and hands on nothing that is older
// than what it has handed on before.

export const FIRST_DELAY_MS = 200;
export const MOST_DELAY_MS = 5000;
const OPEN = 1;

const order = (a, b) => (a.token === b.token ? a.seq - b.seq : a.token - b.token);

export class HubClient {
  /**
   * @param {object} parts
   * @param {() => object} parts.connect makes a socket with WebSocket's interface
   * @param {() => number} parts.now monotonic milliseconds
   * @param {(fn: () => void, ms: number) => any} parts.later
   * @param {(id: any) => void} parts.cancel
   * @param {() => string} [parts.key] the key to send, '' for none
   * @param {() => number} [parts.random]
   */
  constructor({ connect, now, later, cancel, key = () => "", random = Math.random }) {
    Object.assign(this, { connect, now, later, cancel, key, random });
    this.wants = new Map();
    this.sent = new Map();
    this.newest = new Map();
    this.previous = new Map();
    this.cursors = new Map();
    this.listeners = [];
    this.state = "idle";
    this.since = now();
    this.attempt = 0;
    this.stats = { frames: 0, bytes: 0, breaks: 0, lower: 0, connects: 0, dropped: 0, throttledS: 0 };
    this.hello = null;
    this.socket = null;
    this.heardAt = now();
    this.requests = 0;
    this.closedBy = null;
  }

  on(listener) {
    this.listeners.push(listener);
  }

  tell(type, detail) {
    for (const listener of this.listeners) listener(type, detail);
  }

  become(state) {
    if (this.state === state) return;
    this.state = state;
    this.since = this.now();
    this.tell("connection", { state });
  }

  start() {
    if (this.socket || this.timer) return;
    this.dial();
  }

  /** Drops the connection, if any, and makes a new one at once. */
  restart() {
    this.attempt = 0;
    this.cancel(this.timer);
    this.timer = null;
    this.drop();
    this.dial();
  }

  stop() {
    this.cancel(this.timer);
    this.cancel(this.watch);
    this.timer = null;
    this.drop();
    this.become("idle");
  }

  drop() {
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    try { socket.close(); } catch { /* it may never have opened */ }
  }

  dial() {
    this.timer = null;
    this.become(this.stats.connects ? "lost" : "connecting");
    let socket;
    try {
      socket = this.connect();
    } catch (error) {
      this.closedBy = { code: 0, reason: String(error) };
      this.again();
      return;
    }
    this.socket = socket;
    this.heardAt = this.now();
    this.guard();
    socket.onopen = () => {
      const key = this.key();
      if (key) this.send({ op: "auth", key });
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => this.closed(event);
    socket.onerror = () => {};
  }

  closed(event) {
    this.socket = null;
    this.closedBy = { code: event?.code ?? 1006, reason: event?.reason ?? "" };
    this.sent.clear();
    this.previous.clear();
    if (this.closedBy.code === 1013) this.takeCursors(this.closedBy.reason);
    this.become(this.closedBy.code === 1008 ? "refused" : "lost");
    this.again();
  }

  takeCursors(reason) {
    try {
      for (const [id, at] of Object.entries(JSON.parse(reason).resume ?? {})) this.cursors.set(id, at);
    } catch { /* no cursors in it */ }
  }

  again() {
    const most = this.state === "refused" ? MOST_DELAY_MS * 2 : MOST_DELAY_MS;
    const delay = Math.min(most, FIRST_DELAY_MS * 1.7 ** this.attempt);
    this.attempt += 1;
    this.cancel(this.timer);
    this.timer = this.later(() => this.dial(), delay * (0.8 + 0.4 * this.random()));
  }

  /** A connection that says nothing for two heartbeats and a half is dead, whatever TCP thinks. */
  guard() {
    this.cancel(this.watch);
    const limit = (this.hello?.heartbeat_s ?? 2) * 2500;
    this.watch = this.later(() => {
      if (!this.socket) return;
      if (this.now() - this.heardAt > limit) {
        this.drop();
        this.closed({ code: 1006, reason: "silent" });
      } else {
        this.guard();
      }
    }, limit / 4);
  }

  /** Milliseconds since the last frame. */
  silence() {
    return this.now() - this.heardAt;
  }

  send(message) {
    if (this.socket && this.socket.readyState === OPEN) this.socket.send(JSON.stringify(message));
  }

  // --- what is wanted ---

  /** Declares a subscription under a name; replaces what was under it. */
  want(name, subscription) {
    const text = JSON.stringify(subscription);
    if (this.wants.has(name) && JSON.stringify(this.wants.get(name)) === text) return;
    this.unwant(name);
    this.wants.set(name, subscription);
    if (this.state === "open") this.subscribe(name);
  }

  unwant(name) {
    if (!this.wants.delete(name)) return;
    const id = this.sent.get(name)?.subscriptionId;
    this.sent.delete(name);
    if (id && ![...this.sent.values()].some((other) => other.subscriptionId === id)) {
      this.send({ op: "unsubscribe", subscription_id: id });
    }
  }

  subscribe(name) {
    const wanted = this.wants.get(name);
    const request = `${name}#${(this.requests += 1)}`;
    this.sent.set(name, { request, subscriptionId: "" });
    const resume = {};
    for (const [id, at] of this.cursors) {
      const [channel, symbol] = id.split("|");
      if (wanted.channels.includes(channel) && (wanted.symbols.includes("*") || wanted.symbols.includes(symbol))) {
        resume[id] = at;
      }
    }
    for (const [id, at] of this.newest) {
      const [channel, symbol] = id.split("|");
      if (wanted.channels.includes(channel) && wanted.symbols.includes(symbol)) resume[id] = `${at.token}.${at.seq}`;
    }
    const message = { op: "subscribe", id: request, ...wanted };
    if (Object.keys(resume).length) message.resume = resume;
    this.send(message);
  }

  // --- what comes ---

  receive(text) {
    this.heardAt = this.now();
    this.stats.frames += 1;
    this.stats.bytes += text.length;
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      this.tell("malformed", { text: String(text).slice(0, 200) });
      return;
    }
    this.tell("frame", frame);
    const handle = this[`on_${frame.type}`];
    if (handle) handle.call(this, frame);
    else this.tell(frame.type, frame);
  }

  on_hello(frame) {
    this.hello = frame;
    this.stats.connects += 1;
    this.previous.clear();
    this.become("open");
    this.tell("hello", frame);
    for (const name of this.wants.keys()) this.subscribe(name);
  }

  on_subscribed(frame) {
    this.attempt = 0;
    for (const [name, sent] of this.sent) {
      if (sent.request === frame.id) {
        sent.subscriptionId = frame.subscription_id;
        this.tell("subscribed", { name, ...frame });
        return;
      }
    }
    // Not wanted any more by the time it is acknowledged.
    if (![...this.sent.values()].some((other) => other.subscriptionId === frame.subscription_id)) {
      this.send({ op: "unsubscribe", subscription_id: frame.subscription_id });
    }
  }

  on_heartbeat(frame) {
    this.stats.dropped = frame.dropped ?? 0;
    this.stats.throttledS = frame.throttled_s ?? 0;
    this.tell("heartbeat", frame);
  }

  on_snapshot(frame) {
    this.state_frame(frame, false);
  }

  on_update(frame) {
    this.state_frame(frame, true);
  }

  state_frame(frame, isUpdate) {
    const id = `${frame.channel}|${frame.symbol}`;
    if (frame.token === undefined || frame.token === null) {
      this.tell("state", frame);
      return;
    }
    const before = this.previous.get(id);
    if (isUpdate && before && (frame.prev_token !== before.token || frame.prev_seq !== before.seq)) {
      this.stats.breaks += 1;
      this.send({ op: "snapshot", channel: frame.channel, symbol: frame.symbol });
    }
    const at = { token: frame.token, seq: frame.seq };
    this.previous.set(id, at);
    const newest = this.newest.get(id);
    if (newest && order(at, newest) < 0) {
      this.stats.lower += 1;
      return;
    }
    this.newest.set(id, at);
    this.tell("state", frame);
  }

  on_events(frame) {
    if (frame.cursor) this.cursors.set(`${frame.channel}|${frame.symbol}`, frame.cursor);
    this.tell("events", frame);
  }
}
