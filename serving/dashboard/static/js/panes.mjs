// The panes beside the map: price, flow, cumulative depth.

import { fit, hatch, palette } from "./dom.mjs";
import { clock, known, price, priceDigits, qty, signed, signedQty } from "./format.mjs";
import { AXIS, widths } from "./heatmap.mjs";
import { cumulative } from "./model.mjs";

/** Candles of the mid on the chart library; seconds in which nothing was heard stay empty. */
export class PricePane {
  constructor(library, box, detail) {
    this.library = library;
    this.detail = detail;
    this.lines = [];
    this.chart = library.createChart(box, {
      autoSize: true,
      handleScroll: false,
      handleScale: false,
      kineticScroll: { mouse: false, touch: false },
      timeScale: { timeVisible: true, secondsVisible: true, rightOffset: 0, fixLeftEdge: true, fixRightEdge: true, borderVisible: false, visible: false },
      rightPriceScale: { minimumWidth: AXIS, borderVisible: false, scaleMargins: { top: 0.12, bottom: 0.12 } },
      layout: { attributionLogo: true, fontSize: 11, background: { type: "solid", color: "transparent" } },
      crosshair: { mode: 0 },
    });
    this.candles = this.chart.addSeries(library.CandlestickSeries, { priceLineVisible: false, borderVisible: true });
    this.vwap = this.chart.addSeries(library.LineSeries, { lineWidth: 1, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false, lineStyle: 0 });
    this.restyle();
    this.drawn = {};
  }

  restyle() {
    const colours = palette();
    this.chart.applyOptions({
      layout: { textColor: colours.muted, background: { type: "solid", color: colours.panel } },
      grid: { vertLines: { color: colours.grid }, horzLines: { color: colours.grid } },
    });
    this.candles.applyOptions({ upColor: colours.panel, borderUpColor: colours.buy, wickUpColor: colours.buy, downColor: colours.sell, borderDownColor: colours.sell, wickDownColor: colours.sell });
    this.vwap.applyOptions({ color: colours.poc });
  }

  draw(nowMs, windowMs) {
    const { bars, trades } = this.detail;
    const step = Math.max(1, Math.round(windowMs / 1000 / 120));
    const last = Math.floor(nowMs / 1000);
    const first = Math.ceil((last - windowMs / 1000) / step) * step;
    const data = [];
    const mean = [];
    let n = bars.from("t", first);
    let k = 0;
    let value = 0;
    let volume = 0;
    let filled = 0;
    let before = null;
    const digits = priceDigits(bars.last("close"));
    for (let t = first; t <= last; t += step) {
      let bar = null;
      for (; n < bars.length && bars.get("t", n) < t + step; n += 1) {
        const [open, high, low, close] = ["open", "high", "low", "close"].map((name) => bars.get(name, n));
        if (!bar) bar = { time: t, open, high, low, close };
        else { bar.high = Math.max(bar.high, high); bar.low = Math.min(bar.low, low); bar.close = close; }
      }
      for (; k < trades.length && trades.get("t", k) < (t + step) * 1000; k += 1) {
        value += trades.get("price", k) * trades.get("qty", k);
        volume += trades.get("qty", k);
      }
      if (bar) filled += 1;
      data.push(bar ?? { time: t });
      // The library draws a line on to the next value, however far: no line leaves the last one.
      if (!bar && before) before.color = "transparent";
      before = bar && volume ? { time: t, value: value / volume } : null;
      mean.push(before ?? { time: t });
    }
    if (digits !== this.digits && bars.length) {
      this.digits = digits;
      const priceFormat = { type: "custom", minMove: 10 ** -digits, formatter: (value) => price(value, digits) };
      this.candles.applyOptions({ priceFormat });
      this.vwap.applyOptions({ priceFormat });
    }
    this.candles.setData(data);
    this.vwap.setData(mean);
    this.chart.timeScale().fitContent();
    this.drawn = { bars: filled, empty: data.length - filled, close: bars.length ? bars.last("close") : null, vwap: volume ? value / volume : null };
  }

  rows() {
    const { bars } = this.detail;
    const out = [];
    for (let n = bars.length - 1; n >= Math.max(0, bars.length - 30); n -= 1) out.push([clock(bars.get("t", n) * 1000), ...["open", "high", "low", "close"].map((name) => price(bars.get(name, n)))]);
    return out;
  }

  close() {
    this.chart.remove();
  }
}

/** Signed volume a column and its sum since the page was opened; imbalance of the book below. */
export class FlowPane {
  constructor(canvas, detail) {
    this.canvas = canvas;
    this.detail = detail;
    this.drawn = {};
  }

  draw(nowMs, windowMs) {
    const { context: c, width, height } = fit(this.canvas);
    const colours = palette();
    const { trades, points, books } = this.detail;
    const { plot } = widths(width);
    const end = (books.bucketOf(nowMs) + 1) * books.columnMs;
    const from = end - windowMs;
    const x = (ms) => plot - ((end - ms) / windowMs) * plot;
    const split = Math.round(height * 0.58);
    c.fillStyle = colours.panel;
    c.fillRect(0, 0, width, height);
    const bucketMs = windowMs / 120;
    const buckets = new Float64Array(121);
    let cvd = 0;
    let most = 0;
    const line = [];
    for (let n = 0; n < trades.length; n += 1) {
      const t = trades.get("t", n);
      const size = trades.get("qty", n) * (trades.get("buy", n) ? 1 : -1);
      cvd += size;
      if (t < from) continue;
      const at = Math.min(120, Math.max(0, Math.floor((t - from) / bucketMs)));
      buckets[at] += size;
      line.push(t, cvd);
    }
    for (const value of buckets) most = Math.max(most, Math.abs(value));
    const middle = split / 2;
    c.globalAlpha = 0.55;
    buckets.forEach((value, n) => {
      if (!value) return;
      const high = (Math.abs(value) / most) * (middle - 4);
      c.fillStyle = value > 0 ? colours.buy : colours.sell;
      c.fillRect(x(from + n * bucketMs), value > 0 ? middle - high : middle, Math.max(1, plot / 120 - 1), high);
    });
    c.globalAlpha = 1;
    let low = Infinity;
    let high = -Infinity;
    for (let n = 1; n < line.length; n += 2) { low = Math.min(low, line[n]); high = Math.max(high, line[n]); }
    c.strokeStyle = colours.text;
    c.lineWidth = 1.25;
    c.beginPath();
    for (let n = 0; n < line.length; n += 2) {
      const y = high === low ? middle : split - 6 - ((line[n + 1] - low) / (high - low)) * (split - 12);
      if (n) c.lineTo(x(line[n]), y);
      else c.moveTo(x(line[n]), y);
    }
    c.stroke();
    const zero = split + (height - split) / 2;
    c.strokeStyle = colours.line;
    c.beginPath();
    c.moveTo(0, split + 0.5);
    c.lineTo(width, split + 0.5);
    c.moveTo(0, zero);
    c.lineTo(plot, zero);
    c.stroke();
    const half = (height - split) / 2 - 3;
    let before = null;
    let shown = 0;
    const areas = { buy: new Path2D(), sell: new Path2D() };
    for (let n = points.from("t", from); n < points.length; n += 1) {
      const t = points.get("t", n);
      const value = points.get("imbalance", n);
      if (known(value) && before && known(before.value) && t - before.t < 1500) {
        const left = x(before.t);
        areas[before.value >= 0 ? "buy" : "sell"].rect(left, before.value >= 0 ? zero - before.value * half : zero, Math.max(0.5, x(t) - left), Math.abs(before.value) * half);
        shown += 1;
      }
      before = { t, value };
    }
    c.fillStyle = colours.buy;
    c.fill(areas.buy);
    c.fillStyle = colours.sell;
    c.fill(areas.sell);
    this.gaps(c, { books, from, end, x, height, colours });
    c.strokeStyle = colours.line;
    c.strokeRect(plot + 0.5, -1, width, height + 2);
    c.font = "11px ui-monospace, monospace";
    c.textAlign = "left";
    c.textBaseline = "middle";
    c.fillStyle = colours.muted;
    const label = (text, value, y) => { c.fillText(text, plot + 6, y); c.textAlign = "right"; c.fillText(value, width - 8, y); c.textAlign = "left"; };
    label("CVD", signedQty(cvd), split * 0.3);
    label("net 30 s", signedQty(this.detail.report?.flow?.net_flow), split * 0.7);
    label("imbalance", signed(this.detail.report?.depth?.imbalance, 2), zero);
    this.drawn = { cvd, trades: trades.length, bars: buckets.filter(Boolean).length, imbalance: shown };
  }

  gaps(c, { books, from, end, x, height, colours }) {
    for (let bucket = books.bucketOf(from); bucket * books.columnMs < end; bucket += 1) {
      const at = books.find(bucket);
      if (at < 0 || books.flag[at] < 2) continue;
      const left = x(bucket * books.columnMs);
      c.fillStyle = hatch(c, books.flag[at] === 2 ? colours.hatch : colours.line);
      c.fillRect(left, 0, x((bucket + 1) * books.columnMs) - left, height);
    }
  }

  rows() {
    const { points } = this.detail;
    const out = [];
    for (let n = points.length - 1; n >= Math.max(0, points.length - 30); n -= 1) out.push([clock(points.get("t", n), true), signed(points.get("imbalance", n), 4), signed(points.get("net", n), 4)]);
    return out;
  }
}

/** Cumulative size by distance from mid. */
export class DepthPane {
  constructor(canvas, detail) {
    this.canvas = canvas;
    this.detail = detail;
    this.drawn = {};
  }

  draw() {
    const { context: c, width, height } = fit(this.canvas);
    const colours = palette();
    c.clearRect(0, 0, width, height);
    const book = this.detail.book;
    if (!book) {
      c.fillStyle = hatch(c, colours.hatch);
      c.fillRect(0, 0, width, height);
      this.drawn = { bids: 0, asks: 0 };
      return;
    }
    const bids = cumulative(book.bids);
    const asks = cumulative(book.asks);
    const mid = (book.bids[0][0] + book.asks[0][0]) / 2;
    const reach = Math.max(mid - bids[bids.length - 1][0], asks[asks.length - 1][0] - mid);
    const most = Math.max(bids[bids.length - 1][1], asks[asks.length - 1][1]);
    const floor = height - 16;
    const x = (value) => width / 2 + ((value - mid) / reach) * (width / 2);
    const y = (sum) => floor - (sum / most) * (floor - 8);
    for (const [levels, colour, edge] of [[bids, colours.buy, 0], [asks, colours.sell, width]]) {
      c.beginPath();
      c.moveTo(x(levels[0][0]), floor);
      let sum = 0;
      for (const [at, upTo] of levels) {
        c.lineTo(x(at), y(sum));
        c.lineTo(x(at), y(upTo));
        sum = upTo;
      }
      c.lineTo(edge, y(sum));
      c.strokeStyle = colour;
      c.lineWidth = 1.5;
      c.stroke();
      c.lineTo(edge, floor);
      c.closePath();
      c.globalAlpha = 0.18;
      c.fillStyle = colour;
      c.fill();
      c.globalAlpha = 1;
    }
    c.font = "11px ui-monospace, monospace";
    c.fillStyle = colours.muted;
    c.textBaseline = "bottom";
    c.textAlign = "left";
    c.fillText(`${qty(bids[bids.length - 1][1])} bid`, 4, height - 2);
    c.textAlign = "right";
    c.fillText(`ask ${qty(asks[asks.length - 1][1])}`, width - 4, height - 2);
    c.textAlign = "center";
    c.fillText(price(mid), width / 2, height - 2);
    this.drawn = { bids: bids.length, asks: asks.length, bidTotal: bids[bids.length - 1][1], askTotal: asks[asks.length - 1][1], mid };
  }

  rows() {
    const book = this.detail.book;
    if (!book) return [["no book", "", ""]];
    return [...cumulative(book.bids).map(([at, sum]) => ["bid", price(at), qty(sum)]), ...cumulative(book.asks).map(([at, sum]) => ["ask", price(at), qty(sum)])];
  }
}
