// One symbol: its price over the book's map, the flow, the ladder, findings and the report itself.

import * as library from "../vendor/lightweight-charts.mjs";
import { Detail } from "./detail.mjs";
import { attr, copy, h, put, tableView } from "./dom.mjs";
import { NONE, age, arrow, clock, known, number, price, qty, signed, signedQty } from "./format.mjs";
import { Heatmap } from "./heatmap.mjs";
import { Ladder, Tape } from "./ladder.mjs";
import { DepthPane, FlowPane, PricePane } from "./panes.mjs";
import { ReportView } from "./report_view.mjs";
import { snippets } from "./snippets.mjs";

const WINDOWS = [[60_000, "1 m"], [120_000, "2 m"], [300_000, "5 m"], [600_000, "10 m"]];
const SYMBOL = /^[A-Z0-9][A-Z0-9._-]{0,31}$/;
const SLOW_MS = 500;

export function open(app, symbol) {
  if (!SYMBOL.test(symbol)) {
    return { title: "No such symbol", element: h("section.page", {}, h("div.empty", {}, h("h1", {}, "This can't be a symbol"), h("p", {}, "Symbols are 1 to 32 capital letters, digits, dots, dashes or underscores, such as BTCUSDT."), h("p", {}, h("a", { href: "/" }, "To the wall")))), draw() {}, close() {} };
  }
  const { store, probe } = app;
  const state = store.of(symbol);
  const detail = new Detail(symbol);
  let windowMs = 120_000;

  // --- head ---
  const figures = {};
  const figure = (key, label) => {
    const value = h("dd.num", { "data-f": key }, NONE);
    figures[key] = value;
    return h("div", {}, h("dt", {}, label), value);
  };
  const mid = h("span.mid.num", { "data-f": "mid_price" }, NONE);
  const shape = h("span.shape", { "aria-hidden": "true" });
  const chip = h("span.chip");
  const venue = h("span.quiet");
  const synthetic = h("span.tag", { hidden: true }, "simulated");
  const head = h("header.head", {}, h("div.title", {}, h("h1", {}, symbol), venue, synthetic, chip),
    h("div.now", {}, shape, mid),
    h("dl.figures", {}, figure("change", "1 min"), figure("day", "24 h"), figure("spread_bps", "Spread bps"), figure("micro_price", "Micro price"), figure("imbalance", "Imbalance"), figure("last_price", "Last"),
      figure("orders", "Trades/s"), figure("net", "Net 30 s"), figure("score", "Health"), figure("age", "Data age"), figure("order", "Token.seq"), figure("writer", "Writer"), figure("watching", "Watching")));

  // --- panes ---
  const priceBox = h("div.pricebox", { role: "group", "aria-label": "Candles of the mid price, with the volume-weighted price" });
  const map = h("canvas.map", { role: "img", "aria-label": "Resting sizes by price over time; circles are buys, diamonds sells; hatched where there is no data" });
  const legend = h("canvas.legend", { role: "img", "aria-label": "Colour scale of sizes, logarithmic" });
  const flow = h("canvas.flow", { role: "img", "aria-label": "Signed volume and its sum, and the imbalance of the book" });
  const curve = h("canvas.curve", { role: "img", "aria-label": "Cumulative depth by distance from mid" });
  const ladder = new Ladder(12);
  const tape = new Tape(22);
  const view = new ReportView(app.base);
  const heat = new Heatmap(map, detail);
  const flowPane = new FlowPane(flow, detail);
  const depthPane = new DepthPane(curve, detail);
  let pricePane = null;
  const sampled = h("span.quiet");
  const findings = h("ul.findings");
  const windows = h("div.switch", { role: "group", "aria-label": "Time shown" }, WINDOWS.map(([ms, text]) => h("button", {
    type: "button", "aria-pressed": String(ms === windowMs), onclick: (event) => {
      windowMs = ms;
      for (const other of windows.children) other.setAttribute("aria-pressed", String(other === event.currentTarget));
      app.redraw();
    },
  }, text)));
  const texts = snippets(location.origin, symbol);
  const copies = h("div.switch", { role: "group", "aria-label": "Copy as" }, [["curl", texts.curl], ["MCP", texts.mcpCall], ["Python", texts.python]].map(([name, text]) => {
    const button = h("button", { type: "button", "data-copy": text, onclick: () => copy(text, button) }, name);
    return button;
  }));
  const tables = [
    tableView("Price", ["Time", "Open", "High", "Low", "Close"], () => pricePane?.rows() ?? []),
    tableView("Depth", ["Side", "Price", "Size"], () => heat.rows()),
    tableView("Flow", ["Time", "Imbalance", "Net 30 s"], () => flowPane.rows()),
    tableView("Cumulative depth", ["Side", "Price", "Sum"], () => depthPane.rows()),
  ];
  const absent = h("div.notice", { hidden: true }, "");
  const element = h("section.page.symbol", {}, head, absent,
    h("div.desk", {},
      h("div.charts.panel", {},
        h("header.row", {}, h("h2", {}, "Price"), h("span.keyline", {}, h("i.k-vwap", { "aria-hidden": "true" }), "VWAP of what is shown"), windows), priceBox,
        h("header.row", {}, h("h2", {}, "Depth"), h("span.keyline", {}, h("i.k-buy", { "aria-hidden": "true" }), "● buys, bid"), h("span.keyline", {}, h("i.k-sell", { "aria-hidden": "true" }), "◆ sells, ask"), h("span.keyline", {}, h("i.k-gap", { "aria-hidden": "true" }), "no data"), legend), map,
        h("header.row", {}, h("h2", {}, "Flow"), h("span.keyline", {}, "bars: bought − sold, line: CVD of the trades heard; below: imbalance")), flow,
        h("footer.row.tables", {}, tables)),
      h("div.side", {},
        h("div.panel", {}, h("header.row", {}, h("h2", {}, "Ladder")), ladder.element),
        h("div.panel", {}, h("header.row", {}, h("h2", {}, "Cumulative depth")), curve),
        h("div.panel.tapepanel", {}, h("header.row", {}, h("h2", {}, "Tape"), sampled), tape.element)),
      h("div.panel.found", {}, h("header.row", {}, h("h2", {}, "Findings")), findings),
      h("div.panel.whole", {}, h("header.row", {}, h("h2", {}, "Report"), h("span.quiet", {}, "copy as"), copies), view.element)));

  app.hub.want(`symbol:${symbol}`, { channels: ["reports.fast", "ticks", "trades"], symbols: [symbol] });
  app.hub.want(`book:${symbol}`, { channels: ["book"], symbols: [symbol], depth: 50, max_hz: 10 });

  function fillHead(at) {
    const report = state.report;
    const is = state.state(at);
    put(chip, is);
    attr(chip, "data-state", is);
    attr(element, "data-state", is);
    attr(element, "data-token", String(state.token));
    attr(element, "data-seq", String(state.seq));
    put(figures.age, age(state.dataAge(at)));
    const { pct, spanMs } = state.change(at);
    put(shape, pct === null ? "" : arrow(pct));
    attr(head, "data-sign", pct > 0 ? "up" : pct < 0 ? "down" : "flat");
    put(figures.change, signed(pct, 3, " %"));
    attr(figures.change, "title", pct !== null && spanMs < 58_000 ? `Over ${age(spanMs)}: that is all this page has heard` : null);
    put(figures.watching, known(state.subscribers) ? String(state.subscribers) : NONE);
    if (!report) return;
    put(venue, report.venue);
    synthetic.hidden = !report.synthetic;
    put(mid, price(report.mid_price));
    put(figures.day, signed(report.change_24h_pct, 2, " %"));
    put(figures.spread_bps, number(report.spread_bps, 2));
    put(figures.micro_price, price(report.micro_price));
    put(figures.imbalance, signed(report.depth?.imbalance, 3));
    put(figures.last_price, price(report.last_price));
    put(figures.orders, number(report.flow.orders_per_sec, 1));
    put(figures.net, signedQty(report.flow.net_flow));
    put(figures.score, number(report.health.score, 1));
    put(figures.order, `${state.token}.${state.seq}`);
    put(figures.writer, report.writer.nodeId);
  }

  let found = "";
  function fillFindings(report) {
    if (!report) return;
    const text = JSON.stringify([report.anomalies, report.liquidity, report.gaps, report.ingestion.book, report.ingestion.reason, report.heavy]);
    if (text === found) return;
    found = text;
    const items = [];
    const item = (severity, kind, note) => items.push(h("li", { "data-severity": severity }, h("span.sev", {}, severity), h("b", {}, kind), " ", note));
    for (const one of report.anomalies ?? []) item(one.severity, one.type.replaceAll("_", " "), one.note);
    for (const wall of (report.liquidity?.walls ?? []).slice(0, 6)) item(wall.severity, `${wall.side} wall`, `${qty(wall.qty)} at ${price(wall.price)}`);
    for (const one of (report.liquidity?.vacuums ?? []).slice(0, 4)) item(one.severity, `${one.side} vacuum`, `${one.levels} thin levels, ${price(one.from)} to ${price(one.to)}`);
    if (report.ingestion.book !== "ok") item("high", `book ${report.ingestion.book}`, report.ingestion.reason);
    if (report.gaps.count) item("low", "gaps", `${report.gaps.count} in 30 min, the last at ${clock(report.gaps.last_at_ms)}`);
    if (report.heavy) item("low", "long lists", "left out of the report for their size; they are in its heavy part");
    if (!items.length) items.push(h("li.quiet", {}, report.anomalies === null ? "The slow part has not been computed yet." : "Nothing found."));
    findings.replaceChildren(...items);
  }

  let slowAt = -Infinity;
  return {
    title: symbol,
    element,
    opened() {
      pricePane = new PricePane(library, priceBox, detail);
    },
    restyle() {
      heat.restyle();
      pricePane?.restyle();
    },
    key(event) {
      if (event.key === "Escape") app.navigate("/");
      const n = Number(event.key);
      if (n >= 1 && n <= WINDOWS.length && !event.ctrlKey && !event.metaKey) windows.children[n - 1].click();
    },
    hear(type, frame, at) {
      if (frame?.symbol !== symbol) return;
      const ms = store.serverNow(at);
      if (type === "state") {
        if (frame.channel === "reports.fast") {
          if (frame.token === state.token && frame.seq === state.seq) detail.takeReport(state.report, ms, !frame.read?.stale);
        } else if (frame.channel === "ticks") {
          detail.takeTick(frame.data);
        } else if (frame.channel === "book") {
          detail.takeBook(frame.data, ms, !frame.read?.stale);
        }
      } else if (type === "events" && frame.channel === "trades") {
        detail.takeTrades(frame.data);
      }
    },
    draw(at) {
      const ms = store.serverNow(at);
      detail.advance(ms);
      fillHead(at);
      heat.draw(ms, windowMs, state.report?.liquidity?.volume_profile);
      flowPane.draw(ms, windowMs);
      ladder.draw(detail);
      depthPane.draw();
      tape.draw(detail);
      view.draw(state.report);
      fillFindings(state.report);
      if (at - slowAt > SLOW_MS) {
        slowAt = at;
        pricePane?.draw(ms, windowMs);
        heat.legend(legend);
        for (const one of tables) one.update();
        put(sampled, detail.hasTape ? "" : "sampled from ticks");
        absent.hidden = Boolean(state.report) || app.hub.state !== "open";
        if (!state.report) put(absent, `Nobody has written a report of ${symbol} yet. It appears here with the first one.`);
      }
      probe.heatmap = heat.drawn;
      probe.flow = flowPane.drawn;
      probe.curve = depthPane.drawn;
      probe.ladder = ladder.drawn;
      probe.price = pricePane?.drawn;
    },
    close() {
      app.hub.unwant(`symbol:${symbol}`);
      app.hub.unwant(`book:${symbol}`);
      pricePane?.close();
      for (const name of ["heatmap", "flow", "curve", "ladder", "price"]) delete probe[name];
    },
  };
}
