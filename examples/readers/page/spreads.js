// Spreads of all symbols in a page of your own, by /ws alone. No library.
//
// The reader lets pages of other origins in only if they are named, so that not every page that
// somebody opens can read along:
//
//   python -m http.server 8090 --bind 127.0.0.1 --directory examples/readers/page
//   NT_ALLOWED_ORIGINS=http://127.0.0.1:8090 tapeline serve
//   http://127.0.0.1:8090/?reader=127.0.0.1:8080&symbols=BTCUSDT,ETHUSDT
//
// `reader` is host and port (127.0.0.1:8080 unless given), `symbols` all unless given. A key is asked
// for in the page, kept in its memory, and sent as the first message: never in an address.

const STALE_MS = 2000; // as the readers have it
const CHANNEL = "reports.fast";
const WAIT_FIRST_MS = 200;
const WAIT_MAX_MS = 10_000;
const HEARTBEATS_MISSED = 3;
const REFUSED = 1008;

// By script, because the page's policy forbids styles in the text.
const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; padding: 0 1rem; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  caption { text-align: left; padding: .25rem 0; }
  th, td { text-align: right; padding: .25rem .75rem; border-bottom: 1px solid #8884; }
  th:first-child, td:first-child { text-align: left; }
  tr.stale td { opacity: .6; }
  tr.stale td:last-child { opacity: 1; font-weight: 700; }
`);
document.adoptedStyleSheets = [sheet];

const given = new URLSearchParams(location.search);
const host = given.get("reader") ?? "127.0.0.1:8080";
const symbols = given.get("symbols")?.split(",") ?? ["*"];
const address = `${location.protocol === "https:" ? "wss" : "ws"}://${host}/ws`;

const held = new Map(); // symbol -> {token, seq, dataAgeMs, atMs, report}
const links = new Map(); // symbol -> "token.seq" that the next update of this connection is on
let key = null;
let connection = "Connecting …";
let store = "";
let waitMs = WAIT_FIRST_MS;
let silenceMs = 6000;
let heardMs = performance.now();
let socket = null;

function take(frame) {
  const before = held.get(frame.symbol);
  const lower = before !== undefined
    && (frame.token < before.token || (frame.token === before.token && frame.seq < before.seq));
  if (frame.data !== null && !lower) {
    // The age as it was read; from here on this page counts, by a clock that never steps back.
    held.set(frame.symbol, {
      token: frame.token,
      seq: frame.seq,
      dataAgeMs: frame.read.data_age_ms,
      atMs: performance.now(),
      report: frame.data,
    });
  }
  const broken = frame.type === "update"
    && links.get(frame.symbol) !== `${frame.prev_token}.${frame.prev_seq}`;
  links.set(frame.symbol, `${frame.token}.${frame.seq}`);
  if (broken) send({ op: "snapshot", channel: CHANNEL, symbol: frame.symbol });
}

function send(message) {
  socket.send(JSON.stringify(message));
}

function subscribe() {
  const resume = {};
  // An update on what is held comes, if there is a newer one. A message has 64 KiB at most.
  for (const [symbol, { token, seq }] of [...held].slice(0, 500)) {
    resume[`${CHANNEL}|${symbol}`] = `${token}.${seq}`;
    links.set(symbol, `${token}.${seq}`);
  }
  send({ op: "subscribe", id: "spreads", channels: [CHANNEL], symbols, resume });
}

function hear(frame) {
  switch (frame.type) {
    case "hello":
      silenceMs = HEARTBEATS_MISSED * frame.heartbeat_s * 1000;
      if (frame.auth_required) {
        if (key === null) return askForKey("The reader wants a key.");
        send({ op: "auth", key });
      }
      return subscribe();
    case "subscribed":
      waitMs = WAIT_FIRST_MS;
      connection = "";
      return undefined;
    case "snapshot":
    case "update":
      return take(frame);
    case "source":
      store = frame.redis === "up" ? "" : "The reader's store is down.";
      return undefined;
    case "error":
      connection = `Refused: ${frame.message}`;
      return undefined;
    default:
      return undefined; // heartbeats, counts, and what later versions add
  }
}

function connect() {
  links.clear();
  heardMs = performance.now();
  const mine = (socket = new WebSocket(address));
  mine.onmessage = (event) => {
    if (mine !== socket) return;
    heardMs = performance.now();
    hear(JSON.parse(event.data));
  };
  mine.onclose = (event) => {
    if (mine === socket) again(event);
  };
}

function again(event) {
  socket = null;
  if (event?.code === REFUSED) {
    key = null;
    return askForKey(`The reader refuses: ${event.reason || "key, scope or origin"}.`);
  }
  connection = "Not connected; trying again. A reader lets this page in only if "
    + `NT_ALLOWED_ORIGINS names ${location.origin}.`;
  setTimeout(connect, waitMs * (0.5 + Math.random() / 2));
  waitMs = Math.min(WAIT_MAX_MS, waitMs * 2);
  return undefined;
}

function askForKey(why) {
  connection = why;
  const form = document.getElementById("key");
  form.hidden = false;
  form.onsubmit = (event) => {
    event.preventDefault();
    const input = form.querySelector("input");
    key = input.value.trim();
    input.value = "";
    form.hidden = true;
    const old = socket;
    socket = null;
    old?.close();
    connect();
  };
}

const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
const age = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function draw() {
  const nowMs = performance.now();
  const rows = document.getElementById("rows");
  for (const symbol of [...held.keys()].sort()) {
    const { token, seq, dataAgeMs, atMs, report } = held.get(symbol);
    const ageMs = dataAgeMs === null ? null : dataAgeMs + nowMs - atMs;
    const stale = ageMs === null || ageMs > STALE_MS;
    let row = document.getElementById(`of-${symbol}`);
    if (row === null) {
      row = rows.appendChild(document.createElement("tr"));
      row.id = `of-${symbol}`;
      for (let cell = 0; cell < 5; cell += 1) row.insertCell();
    }
    const texts = [
      symbol,
      number(report.mid_price, 2),
      number(report.spread_bps, 3),
      ageMs === null ? "unknown" : age(ageMs),
      stale ? "stale" : report.ingestion.book === "ok" ? "fresh" : `book: ${report.ingestion.book}`,
    ];
    texts.forEach((text, at) => { row.cells[at].textContent = text; });
    row.className = stale ? "stale" : "";
    Object.assign(row.dataset, { token, seq });
  }
  document.getElementById("state").textContent =
    connection || store || `Connected to ${host}${held.size ? "" : "; no reports yet"}.`;
  // A connection that says nothing at all is dead, whatever the browser thinks of it.
  if (socket !== null && nowMs - heardMs > silenceMs && document.getElementById("key").hidden) {
    const dead = socket;
    again();
    dead.close();
  }
}

connect();
setInterval(draw, 100);
