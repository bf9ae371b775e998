// The wall: one row a symbol, the state of each at a glance.

import { attr, fit, h, palette, put } from "./dom.mjs";
import { NONE, age, arrow, known, number, price, signed, signedQty } from "./format.mjs";

const COLUMNS = [
  // key, head, class, sorts by
  ["symbol", "Symbol", "sym", (row) => row.symbol],
  ["mid", "Mid", "num", (row) => row.report?.mid_price],
  ["change", "1 min", "num", (row, at) => row.change(at).pct],
  ["day", "24 h", "num wide", (row) => row.report?.change_24h_pct],
  ["spread", "Spread bps", "num", (row) => row.report?.spread_bps],
  ["imbalance", "Imbalance", "mid bal", (row) => row.report?.depth?.imbalance],
  ["spark", "60 s", "sparkcell mid", null],
  ["flow", "Net flow 30 s", "num wide", (row) => row.report?.flow?.net_flow],
  ["score", "Health", "num wide", (row) => row.report?.health?.score],
  ["age", "Data age", "num", (row, at) => row.dataAge(at)],
  ["state", "State", "state", (row, at) => ["down", "stale", "gap", "live"].indexOf(row.state(at))],
  ["writer", "Writer", "wide writer", (row) => row.report?.writer.nodeId],
];
const STATES = ["live", "stale", "gap", "down"];
const SPARK_MS = 60_000;

export function open(app) {
  const { store, probe } = app;
  const rows = new Map();
  const sort = { key: "symbol", down: false };
  let filter = "";
  let only = "";
  let sortedAt = 0;
  let order = "";

  const body = h("tbody");
  const heads = COLUMNS.map(([key, text, className, by]) => {
    const head = h("th", { scope: "col", class: className, "data-key": key });
    head.append(by ? h("button", { type: "button", onclick: () => sortBy(key) }, text) : text);
    return head;
  });
  const search = h("input", {
    type: "search", placeholder: "Filter symbols", "aria-label": "Filter symbols", spellcheck: "false",
    oninput: (event) => { filter = event.target.value.trim().toUpperCase(); sortedAt = 0; app.redraw(); },
  });
  const chips = STATES.map((state) => {
    const number = h("b.num", {}, "0");
    const chip = h("button.tally", { type: "button", "data-state": state, "aria-pressed": "false", onclick: () => choose(state) }, h("i", { "aria-hidden": "true" }), number, ` ${state}`);
    chip.number = number;
    return chip;
  });
  const empty = h("div.empty", { hidden: true }, h("h2", {}, "Nothing is written yet"),
    h("p", {}, "Symbols appear here as soon as a worker writes their first report. ", h("a", { href: "/status-ui" }, "Where it stands"), "."));
  const table = h("table.wall", {}, h("caption.hidden", {}, "All symbols. Arrow keys move, Enter opens."),
    h("thead", {}, h("tr", {}, heads)), body);
  const element = h("section.page", {}, h("h1.hidden", {}, "Wall"),
    h("div.strip", {}, h("div.tallies", { role: "group", "aria-label": "Show only one state" }, chips), h("span.quiet.num.sum", {}), search,
      h("span.quiet.keys", {}, h("kbd", {}, "↑"), h("kbd", {}, "↓"), " move ", h("kbd", {}, "Enter"), " opens")),
    h("div.panel.scrollx", {}, table), empty);
  const sum = element.querySelector(".sum");

  // Which rows are on the screen, and how large their lines are, is told without asking: to ask
  // in between writes would lay the whole table out again for each row.
  const onScreen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting, boundingClientRect: box } of entries) {
      const row = rows.get(target.dataset.spark);
      if (!row) continue;
      row.seen = isIntersecting && box.width > 0;
      row.box = box;
    }
  }, { rootMargin: "120px" });

  const measureAgain = () => {
    for (const row of rows.values()) {
      onScreen.unobserve(row.spark);
      onScreen.observe(row.spark);
      row.sparkAt = 0;
    }
  };
  addEventListener("resize", measureAgain);

  function choose(state) {
    only = only === state ? "" : state;
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.state === only));
    sortedAt = 0;
    app.redraw();
  }

  function sortBy(key) {
    sort.down = sort.key === key ? !sort.down : false;
    sort.key = key;
    sortedAt = 0;
    app.redraw();
  }

  function make(state) {
    const cells = Object.fromEntries(COLUMNS.map(([key, , className]) => [key, h("td", { class: className, "data-f": key })]));
    const name = encodeURIComponent(state.symbol);
    const venue = h("span.quiet.venue");
    cells.symbol.append(h("a", { href: `/s/${name}`, "data-open": state.symbol }, state.symbol), venue);
    const shape = h("span.shape", { "aria-hidden": "true" });
    const change = h("span");
    cells.change.append(shape, change);
    const bar = h("i");
    const share = h("span.num");
    cells.imbalance.append(h("span.balance", { "aria-hidden": "true" }, bar), share);
    const spark = h("canvas.spark", { "data-spark": state.symbol, role: "img", "aria-label": `${state.symbol}: mid of the last 60 seconds` });
    cells.spark.append(spark);
    const chip = h("span.chip");
    cells.state.append(chip);
    const element = h("tr", { "data-symbol": state.symbol }, Object.values(cells));
    onScreen.observe(spark);
    return { state, cells, element, venue, shape, change, bar, share, spark, chip, version: -1, sparkAt: 0, seen: false, box: null };
  }

  function fill(row, at) {
    const { state, cells } = row;
    const report = state.report;
    put(row.venue, report ? (report.synthetic ? `${report.venue} · simulated` : report.venue) : "");
    put(cells.mid, price(report?.mid_price));
    put(cells.spread, number(report?.spread_bps, 2));
    put(cells.day, signed(report?.change_24h_pct, 2, " %"));
    put(cells.flow, signedQty(report?.flow?.net_flow));
    put(cells.score, number(report?.health?.score, 1));
    put(cells.writer, report ? report.writer.nodeId : NONE);
    const imbalance = report?.depth?.imbalance;
    put(row.share, signed(imbalance, 2));
    const half = known(imbalance) ? Math.min(1, Math.abs(imbalance)) : 0;
    row.bar.style.transform = `scaleX(${half.toFixed(3)})`;
    attr(row.bar, "data-side", known(imbalance) && imbalance < 0 ? "ask" : "bid");
    attr(row.element, "data-token", String(state.token));
    attr(row.element, "data-seq", String(state.seq));
  }

  function age_(row, at) {
    const { state } = row;
    const is = state.state(at);
    put(row.cells.age, age(state.dataAge(at)));
    put(row.chip, is);
    attr(row.chip, "data-state", is);
    attr(row.element, "data-state", is);
    const { pct, spanMs } = state.change(at);
    put(row.change, signed(pct, 3, " %"));
    put(row.shape, pct === null ? "" : arrow(pct));
    attr(row.cells.change, "data-sign", pct > 0 ? "up" : pct < 0 ? "down" : "flat");
    attr(row.cells.change, "title", pct === null ? "Not heard for five seconds yet" : spanMs < 58_000 ? `Over ${age(spanMs)}: that is all this page has heard` : null);
  }

  function drawSpark(row, at) {
    const { context: c, width, height } = fit(row.spark, row.box);
    const colours = palette();
    const { mids } = row.state;
    c.clearRect(0, 0, width, height);
    const first = mids.from("t", at - SPARK_MS);
    let low = Infinity;
    let high = -Infinity;
    for (let n = first; n < mids.length; n += 1) {
      const mid = mids.get("mid", n);
      if (mid < low) low = mid;
      if (mid > high) high = mid;
    }
    let points = 0;
    let gaps = 0;
    if (low <= high) {
      const span = high - low || 1;
      const x = (t) => width - ((at - t) / SPARK_MS) * width;
      const y = (mid) => (high === low ? height / 2 : height - 3 - ((mid - low) / span) * (height - 6));
      c.strokeStyle = row.state.state(at) === "live" ? colours.accent : colours.muted;
      c.lineWidth = 1.25;
      c.beginPath();
      let pen = false;
      let before = NaN;
      for (let n = first; n < mids.length; n += 1) {
        const t = mids.get("t", n);
        const mid = mids.get("mid", n);
        const hole = !known(mid) || t - before > 2500;
        if (hole && pen) gaps += 1;
        if (!known(mid)) { pen = false; before = t; continue; }
        if (hole || !pen) c.moveTo(x(t), y(mid));
        else c.lineTo(x(t), y(mid));
        pen = true;
        before = t;
        points += 1;
      }
      c.stroke();
    }
    row.drawn = { points, gaps, low, high };
  }

  function arrange(at) {
    sortedAt = at;
    for (const state of store.symbols.values()) {
      if (!rows.has(state.symbol)) rows.set(state.symbol, make(state));
    }
    const by = COLUMNS.find(([key]) => key === sort.key)[3];
    const sign = sort.down ? -1 : 1;
    const shown = [...rows.values()]
      .filter(({ state }) => (!filter || state.symbol.includes(filter)) && (!only || state.state(at) === only))
      .map((row) => [row, by(row.state, at)])
      .sort(([a, x], [b, y]) => {
        const none = Number(x === undefined || x === null) - Number(y === undefined || y === null);
        if (none) return none; // what is not known comes last, whichever way
        return sign * (x > y ? 1 : x < y ? -1 : 0) || (a.state.symbol < b.state.symbol ? -1 : 1);
      })
      .map(([row]) => row);
    const next = shown.map((row) => row.state.symbol).join();
    if (next !== order) {
      order = next;
      const focused = document.activeElement?.dataset?.open;
      body.replaceChildren(...shown.map((row) => row.element));
      if (focused) rows.get(focused)?.cells.symbol.firstChild.focus({ preventScroll: true });
    }
    heads.forEach((head) => attr(head, "aria-sort", head.dataset.key === sort.key ? (sort.down ? "descending" : "ascending") : null));
    empty.hidden = store.symbols.size > 0 || app.hub.state !== "open";
    table.parentElement.hidden = store.symbols.size === 0;
  }

  function move(by) {
    const links = [...body.querySelectorAll("a[data-open]")];
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    const to = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by));
    links[to].focus();
    links[to].closest("tr").scrollIntoView({ block: "nearest" });
  }

  probe.wall = () => Object.fromEntries([...rows.values()].map((row) => [row.state.symbol, {
    token: row.state.token, seq: row.state.seq, spark: row.drawn ?? null,
  }]));

  return {
    title: "Wall",
    element,
    // Reports come four times a second; to paint a hundred rows oftener shows nothing more.
    leastMs: 180,
    key(event) {
      const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 20, PageUp: -20, Home: -1e6, End: 1e6 }[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      move(by);
    },
    restyle() {
      for (const row of rows.values()) row.sparkAt = 0;
    },
    draw(at) {
      if (at - sortedAt > 1000 || store.symbols.size !== rows.size) arrange(at);
      const counts = store.counts(at);
      chips.forEach((chip) => put(chip.number, String(counts[chip.dataset.state])));
      put(sum, `${rows.size} symbols`);
      let budget = 16; // sparklines a frame
      for (const row of rows.values()) {
        if (row.version !== row.state.version) {
          row.version = row.state.version;
          fill(row, at);
        }
        if (!row.agedAt || at - row.agedAt > 150 || row.state.version !== row.agedVersion) {
          row.agedAt = at;
          row.agedVersion = row.state.version;
          age_(row, at);
        }
        if (budget && row.seen && at - row.sparkAt > 1000) {
          row.sparkAt = at;
          budget -= 1;
          drawSpark(row, at);
        }
      }
    },
    close() {
      onScreen.disconnect();
      removeEventListener("resize", measureAgain);
      delete probe.wall;
    },
  };
}
