// Live samples: what the hub sends, frame by frame, as it is on the wire or decoded.

import { h, put } from "./dom.mjs";
import { clock, count } from "./format.mjs";

const KEPT = 200;
const SHOWN_CHARS = 20_000;
const CHANNELS = ["reports.fast", "reports.slow", "ticks", "book", "trades", "klines", "merged", "anomalies", "status"];

export function open(app) {
  const frames = [];
  let waiting = [];
  let paused = false;
  let dropped = 0;
  let total = 0;
  let chosen = null;
  let redo = true;
  let raw = false;

  const channel = h("select", { onchange: subscribe }, CHANNELS.map((name) => h("option", { value: name }, name)));
  const symbol = h("input", { list: "symbols", value: [...app.store.symbols.keys()].sort()[0] ?? "BTCUSDT", spellcheck: "false", maxlength: "32", onchange: subscribe });
  const rate = h("select", { onchange: subscribe }, [["", "all"], ["4", "4/s"], ["1", "1/s"]].map(([value, text]) => h("option", { value }, text)));
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => setPaused(!paused) }, "Pause");
  const step = h("button", { type: "button", disabled: true, onclick: stepOne }, "Step");
  const mode = h("button", { type: "button", "aria-pressed": "false", onclick: () => { raw = !raw; mode.setAttribute("aria-pressed", String(raw)); redo = true; app.redraw(); } }, "Raw");
  const clear = h("button", { type: "button", onclick: () => { frames.length = 0; waiting = []; chosen = null; redo = true; app.redraw(); } }, "Clear");
  const sum = h("span.quiet.num");
  const note = h("span.quiet");
  const list = h("tbody");
  const detail = h("pre.code", { tabindex: "0", "aria-label": "Frame" });
  const head = h("h2", {}, "Frame");
  const element = h("section.page", {}, h("div.strip", {}, h("h1", {}, "Live samples"), h("label", {}, "Channel ", channel), h("label", {}, "Symbol ", symbol), h("label", {}, "Rate ", rate),
    pause, step, mode, clear, sum, note),
    h("div.samples", {}, h("div.panel.scroll", { tabindex: "0", role: "region", "aria-label": "Frames, newest first" }, h("table.plain", {}, h("thead", {}, h("tr", {}, ["Heard", "Type", "Symbol", "Order", "Size"].map((text, n) => h("th", { scope: "col", class: n > 2 ? "num" : null }, text)))), list)),
      h("div.panel.pad", {}, head, detail)));

  function setPaused(value) {
    paused = value;
    pause.setAttribute("aria-pressed", String(paused));
    put(pause, paused ? "Go on" : "Pause");
    step.disabled = !paused;
    if (!paused) {
      for (const one of waiting) keep(one);
      waiting = [];
    }
    redo = true;
    app.redraw();
  }

  function stepOne() {
    const one = waiting.shift();
    if (one) keep(one);
    chosen = frames[0] ?? null;
    redo = true;
    app.redraw();
  }

  function keep(one) {
    frames.unshift(one);
    if (frames.length > KEPT) frames.length = KEPT;
    redo = true;
  }

  function subscribe() {
    const wanted = { channels: [channel.value], symbols: [symbol.value.trim().toUpperCase() || "*"] };
    if (rate.value) wanted.max_hz = Number(rate.value);
    put(note, "");
    // An own subscription, also where another page's has the same: what it sends is shown here.
    app.hub.want("samples", wanted);
    frames.length = 0;
    waiting = [];
    redo = true;
    app.redraw();
  }

  function hear(type, frame) {
    if (type === "error" && String(frame.id ?? "").startsWith("samples#")) put(note, `${frame.code}: ${frame.message}`);
    if (type !== "frame" || frame.channel !== channel.value) return;
    const wanted = symbol.value.trim().toUpperCase();
    if (wanted && wanted !== "*" && frame.symbol !== wanted && frame.symbol !== "*") return;
    total += 1;
    const text = JSON.stringify(frame);
    const one = { n: total, at: app.store.serverNow(app.now()), text, type: frame.type, symbol: frame.symbol, order: frame.seq !== undefined ? `${frame.token}.${frame.seq}` : frame.cursor ?? "" };
    if (paused) {
      waiting.push(one);
      if (waiting.length > KEPT) { waiting.shift(); dropped += 1; }
    } else {
      keep(one);
    }
    app.redraw();
  }

  function row(one) {
    const button = h("button.linkish", { type: "button", onclick: () => { chosen = one; setPaused(true); } }, clock(one.at, true));
    return h("tr", { "data-n": one.n, "aria-selected": chosen === one ? "true" : null }, h("td.num", {}, button), h("td", {}, one.type), h("td", {}, one.symbol), h("td.num", {}, one.order), h("td.num", {}, `${count(one.text.length)} B`));
  }

  subscribe();
  app.probe.topics = () => ({ kept: frames.length, waiting: waiting.length, paused, total, dropped });

  let drawnAt = 0;
  return {
    title: "Live samples",
    element,
    hear,
    draw(at) {
      put(sum, `${count(total)} heard · ${frames.length} of ${KEPT} kept${paused ? ` · ${waiting.length} waiting` : ""}${dropped ? ` · ${dropped} skipped` : ""}`);
      if (!redo || (at - drawnAt < 250 && !paused)) return;
      drawnAt = at;
      redo = false;
      list.replaceChildren(...frames.slice(0, 60).map(row));
      const one = chosen ?? frames[0];
      put(head, one ? `Frame ${one.type} ${one.order}` : "Frame");
      const text = one ? (raw ? one.text : JSON.stringify(JSON.parse(one.text), null, 2)) : "Nothing heard on this channel yet. Event channels need NT_ENABLE_STREAMS=true at the workers.";
      put(detail, text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}\n… ${count(text.length - SHOWN_CHARS)} more characters` : text);
    },
    close() {
      app.hub.unwant("samples");
      delete app.probe.topics;
    },
  };
}
