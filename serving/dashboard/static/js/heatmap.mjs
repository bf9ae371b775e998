// Resting liquidity over time: one column a bucket, price upwards, size as colour.

import { fit, hatch, palette } from "./dom.mjs";
import { clock, known, number, price, priceDigits, qty } from "./format.mjs";
import { logShare, niceStep, upTo } from "./model.mjs";
import { COLUMN } from "./rings.mjs";

export const AXIS = 76;
const STRIPS = { wide: 84, narrow: 44 };

/** Widths of plot, axis and profile strip; `desk.css` leaves as much beside the price pane. */
export function widths(width) {
  const strip = width < 600 ? STRIPS.narrow : STRIPS.wide;
  return { plot: Math.max(50, width - AXIS - strip), strip };
}

const DECADES = 200; // least shown size: the largest one divided by this
const BUBBLES = 260; // the largest ones of the window

// From nothing to the largest: told apart by brightness alone, so also without colours.
const RAMP = {
  dark: [[13, 18, 25], [20, 38, 66], [38, 72, 110], [74, 112, 126], [132, 146, 121], [196, 183, 106], [255, 226, 120]],
  light: [[255, 255, 255], [226, 236, 244], [183, 211, 230], [124, 178, 210], [66, 134, 184], [24, 86, 145], [8, 40, 92]],
};

function lookup(stops) {
  const table = new Uint32Array(256);
  for (let n = 0; n < 256; n += 1) {
    const at = (n / 255) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(at));
    const [r, g, b] = stops[low].map((value, k) => Math.round(value + (stops[low + 1][k] - value) * (at - low)));
    table[n] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}

export class Heatmap {
  constructor(canvas, detail) {
    this.canvas = canvas;
    this.detail = detail;
    this.image = document.createElement("canvas");
    this.low = NaN;
    this.high = NaN;
    this.most = 0;
    this.pointer = null;
    this.drawn = {};
    canvas.addEventListener("pointermove", (event) => { this.pointer = { x: event.offsetX, y: event.offsetY }; });
    canvas.addEventListener("pointerleave", () => { this.pointer = null; });
  }

  restyle() {
    this.table = null;
  }

  /** Prices shown: those of the window, and some of the book around them; moved only when it has to. */
  range(first, last) {
    const { books } = this.detail;
    let low = Infinity;
    let high = -Infinity;
    let newest = -1;
    for (let bucket = first; bucket <= last; bucket += 1) {
      const at = books.find(bucket);
      if (at < 0 || books.flag[at] !== COLUMN.GOOD) continue;
      const { bid, ask } = books.best(at);
      if (bid < low) low = bid;
      if (ask > high) high = ask;
      newest = at;
    }
    if (newest < 0) return false;
    const base = newest * books.levels * 2;
    const { bid, ask } = books.best(newest);
    const reach = (from, count, best) => (count ? Math.abs(books.price[from + Math.min(count - 1, 19)] - best) : 0);
    const tick = this.detail.tick || Math.max(1e-8, (high - low) / 200);
    const pad = Math.max(tick * 8, reach(base, books.bids[newest], bid), reach(base + books.levels, books.asks[newest], ask));
    const least = Math.min(pad, Math.max(tick * 24, (high - low) * 1.2));
    low -= least;
    high += least;
    const span = this.high - this.low;
    if (!(low >= this.low - span * 0.02 && high <= this.high + span * 0.02 && high - low > span * 0.6)) {
      const room = (high - low) * 0.04;
      this.low = low - room;
      this.high = high + room;
    }
    return true;
  }

  draw(nowMs, windowMs, levels) {
    const { context: c, width, height } = fit(this.canvas);
    const colours = palette();
    const { books, trades } = this.detail;
    if (!this.table) this.table = lookup(RAMP[colours.theme] ?? RAMP.dark);
    const { plot, strip } = widths(width);
    const count = Math.round(windowMs / books.columnMs);
    const last = books.bucketOf(nowMs);
    const first = last - count + 1;
    const step = plot / count;
    c.clearRect(0, 0, width, height);
    c.fillStyle = colours.panel;
    c.fillRect(0, 0, width, height);
    const any = this.range(first, last);
    const drawn = { columns: 0, hatched: [], gaps: 0, cells: 0, bubbles: 0, maxCell: null, bestBid: null, bestAsk: null, bestBidY: null, bestAskY: null, low: this.low, high: this.high, windowMs, nowMs };
    this.drawn = drawn;
    if (!any && !known(this.low)) {
      this.hatched(c, first, last, step, height, drawn, colours);
      c.fillStyle = colours.muted;
      c.font = "13px system-ui";
      c.textAlign = "center";
      c.fillText("No book yet", plot / 2, height / 2);
      return;
    }
    const tick = this.detail.tick || (this.high - this.low) / 200;
    const bin = tick * Math.max(1, Math.ceil((this.high - this.low) / tick / (height / 3)));
    const bottom = Math.floor(this.low / bin);
    const rows = Math.max(1, Math.ceil(this.high / bin) - bottom);
    this.y = (value) => height - ((value / bin - bottom + 0.5) / rows) * height;
    const x = (ms) => plot - ((last + 1) * books.columnMs - ms) / books.columnMs * step;
    this.cells(c, { first, last, count, rows, bin, bottom, plot, height, drawn });
    this.hatched(c, first, last, step, height, drawn, colours);
    this.lines(c, first, last, step, colours, drawn);
    this.unseen(c, first, last, step, height, colours);
    this.bubbles(c, x, nowMs - windowMs, trades, colours, drawn);
    this.strip(c, { plot, strip, nowMs, windowMs, bin, height, rows, levels, colours, drawn });
    this.axes(c, { plot, width, height, x, nowMs, windowMs, colours });
    drawn.bin = bin;
    drawn.rows = rows;
  }

  cells(c, { first, last, count, rows, bin, bottom, plot, height, drawn }) {
    const { books } = this.detail;
    if (this.image.width !== count || this.image.height !== rows) {
      this.image.width = count;
      this.image.height = rows;
      this.pixels = null;
    }
    const into = this.image.getContext("2d");
    if (!this.pixels) {
      this.pixels = into.createImageData(count, rows);
      this.words = new Uint32Array(this.pixels.data.buffer);
      this.sums = new Float32Array(count * rows);
    }
    const { sums, words } = this;
    sums.fill(0);
    let most = 0;
    for (let bucket = first; bucket <= last; bucket += 1) {
      const at = books.find(bucket);
      if (at < 0 || books.flag[at] !== COLUMN.GOOD) continue;
      drawn.columns += 1;
      const column = bucket - first;
      const base = at * books.levels * 2;
      for (let side = 0; side < 2; side += 1) {
        const levels = side ? books.asks[at] : books.bids[at];
        for (let k = 0; k < levels; k += 1) {
          const cell = base + side * books.levels + k;
          const row = Math.round(books.price[cell] / bin) - bottom;
          if (row < 0 || row >= rows) continue;
          const where = (rows - 1 - row) * count + column;
          sums[where] += books.size[cell];
          drawn.cells += 1;
          if (sums[where] > most) {
            most = sums[where];
            drawn.maxCell = { price: (row + bottom) * bin, size: most, side: side ? "ask" : "bid" };
          }
        }
      }
    }
    // The scale ends where all but the largest few are: one huge order would leave the rest pale.
    // It falls slowly and rises at once, for colours should mean the same from frame to frame.
    this.most = Math.max(this.most * 0.995, upTo(sums, most, 0.993));
    const least = this.most / DECADES;
    for (let n = 0; n < sums.length; n += 1) {
      words[n] = sums[n] > 0 ? this.table[Math.round(logShare(sums[n], least, this.most) * 255)] : 0;
    }
    into.putImageData(this.pixels, 0, 0);
    c.imageSmoothingEnabled = false;
    c.drawImage(this.image, 0, 0, count, rows, 0, 0, plot, height);
    drawn.scale = { least, most: this.most };
  }

  hatched(c, first, last, step, height, drawn, colours) {
    const { books } = this.detail;
    let run = null;
    const close = () => {
      if (!run) return;
      const left = (run.from - first) * step;
      const wide = (run.to - run.from + 1) * step;
      c.save();
      c.fillStyle = colours.panel;
      c.fillRect(left, 0, wide, height);
      c.fillStyle = hatch(c, run.flag === COLUMN.GAP ? colours.hatch : colours.line);
      c.fillRect(left, 0, wide, height);
      c.restore();
      drawn.hatched.push({ from_ms: run.from * books.columnMs, to_ms: (run.to + 1) * books.columnMs, kind: run.flag === COLUMN.GAP ? "gap" : "silent", reason: run.reason });
      run = null;
    };
    for (let bucket = first; bucket <= last; bucket += 1) {
      const at = books.find(bucket);
      const flag = at < 0 ? COLUMN.EMPTY : books.flag[at];
      if (flag !== COLUMN.GAP && flag !== COLUMN.SILENT) { close(); continue; }
      if (flag === COLUMN.GAP) drawn.gaps += 1;
      if (run && run.flag === flag) run.to = bucket;
      else { close(); run = { from: bucket, to: bucket, flag, reason: books.reason[at] }; }
    }
    close();
  }

  /** What was before the page was opened is neither a gap nor an empty book. */
  unseen(c, first, last, step, height, colours) {
    const { books } = this.detail;
    let bucket = first;
    while (bucket <= last && books.find(bucket) < 0) bucket += 1;
    const wide = (bucket - first) * step;
    if (wide < 180) return;
    c.fillStyle = colours.muted;
    c.font = "12px system-ui";
    c.textAlign = "right";
    c.textBaseline = "middle";
    c.fillText(`opened at ${clock(bucket * books.columnMs)}`, wide - 12, 18);
    c.strokeStyle = colours.line;
    c.beginPath();
    c.moveTo(wide - 0.5, 0);
    c.lineTo(wide - 0.5, height);
    c.stroke();
  }

  lines(c, first, last, step, colours, drawn) {
    const { books } = this.detail;
    for (const [side, colour] of [["bid", colours.buy], ["ask", colours.sell]]) {
      c.strokeStyle = colour;
      c.lineWidth = 1.5;
      c.beginPath();
      let pen = false;
      for (let bucket = first; bucket <= last; bucket += 1) {
        const at = books.find(bucket);
        if (at < 0 || books.flag[at] !== COLUMN.GOOD) { pen = false; continue; }
        const best = books.best(at)[side];
        if (!known(best)) { pen = false; continue; }
        const left = (bucket - first) * step;
        const y = this.y(best);
        if (pen) c.lineTo(left, y);
        else c.moveTo(left, y);
        c.lineTo(left + step, y);
        pen = true;
        drawn[side === "bid" ? "bestBid" : "bestAsk"] = best;
        drawn[side === "bid" ? "bestBidY" : "bestAskY"] = y;
      }
      c.stroke();
    }
  }

  bubbles(c, x, fromMs, trades, colours, drawn) {
    let most = 0;
    const first = trades.from("t", fromMs);
    const sizes = new Float64Array(trades.length - first);
    for (let n = first; n < trades.length; n += 1) sizes[n - first] = trades.get("qty", n);
    sizes.sort();
    most = sizes[sizes.length - 1] ?? 0;
    const least = sizes.length > BUBBLES ? sizes[sizes.length - BUBBLES] : 0;
    drawn.leastBubble = least;
    c.lineWidth = 1;
    for (let n = first; n < trades.length; n += 1) {
      if (trades.get("qty", n) < least) continue;
      const left = x(trades.get("t", n));
      const y = this.y(trades.get("price", n));
      if (left < 0 || y < 0 || y > this.canvas.clientHeight) continue;
      const radius = 2 + 9 * Math.sqrt(trades.get("qty", n) / most);
      const buy = trades.get("buy", n) === 1;
      c.beginPath();
      if (buy) {
        c.arc(left, y, radius, 0, 7);
      } else {
        c.moveTo(left, y - radius);
        c.lineTo(left + radius, y);
        c.lineTo(left, y + radius);
        c.lineTo(left - radius, y);
        c.closePath();
      }
      c.globalAlpha = 0.5;
      c.fillStyle = buy ? colours.buy : colours.sell;
      c.fill();
      c.globalAlpha = 0.95;
      c.strokeStyle = colours.bg;
      c.stroke();
      drawn.bubbles += 1;
    }
    c.globalAlpha = 1;
  }

  /** Volume by price beside the map, and the value area of the report's half hour. */
  strip(c, { plot, strip, nowMs, windowMs, bin, height, rows, levels, colours, drawn }) {
    const left = plot + AXIS;
    c.fillStyle = colours.bg;
    c.fillRect(left, 0, strip, height);
    const { y } = this;
    if (levels) {
      const top = Math.max(0, y(levels.VAH));
      const bottom = Math.min(height, y(levels.VAL));
      if (bottom > top) {
        c.fillStyle = colours.area;
        c.fillRect(left, top, strip, bottom - top);
      }
    }
    const thick = Math.max(2, bin * Math.max(1, Math.ceil(rows / 90)));
    const wide = thick > 2 ? thick : bin;
    const profile = this.detail.profileSince(nowMs - windowMs, wide);
    let most = 0;
    for (const [buy, sell] of profile.bins.values()) most = Math.max(most, buy + sell);
    const high = Math.max(1.5, (height / rows) * (wide / bin) - 1);
    for (const [key, [buy, sell]] of profile.bins) {
      const at = y(key * wide) - high / 2;
      const scale = (strip - 8) / most;
      c.fillStyle = colours.buy;
      c.fillRect(left + 2, at, buy * scale, high);
      c.fillStyle = colours.sell;
      c.fillRect(left + 2 + buy * scale, at, sell * scale, high);
    }
    drawn.profile = { bins: profile.bins.size, most };
    if (!levels) return;
    c.font = "600 10px system-ui";
    c.textAlign = "left";
    c.textBaseline = "bottom";
    const marks = { VAH: levels.VAH, POC: levels.POC, VAL: levels.VAL };
    drawn.marks = {};
    let above = -Infinity;
    for (const [name, value] of Object.entries(marks)) {
      const at = y(value);
      drawn.marks[name] = { price: value, y: at };
      if (at < 0 || at > height) continue;
      c.strokeStyle = colours.poc;
      c.setLineDash(name === "POC" ? [] : [4, 3]);
      c.lineWidth = name === "POC" ? 1.5 : 1;
      c.beginPath();
      c.moveTo(0, at);
      c.lineTo(left + strip, at);
      c.globalAlpha = name === "POC" ? 0.8 : 0.5;
      c.stroke();
      c.globalAlpha = 1;
      const text = Math.max(at - 1, above + 11);
      above = text;
      const wide = c.measureText(name).width + 6;
      c.fillStyle = colours.bg;
      c.globalAlpha = 0.8;
      c.fillRect(left + strip - wide, Math.max(11, text) - 12, wide, 12);
      c.globalAlpha = 1;
      c.fillStyle = colours.poc;
      c.fillText(name, left + strip - wide + 3, Math.max(11, text));
    }
    c.setLineDash([]);
  }

  axes(c, { plot, width, height, x, nowMs, windowMs, colours }) {
    const left = plot;
    c.fillStyle = colours.panel;
    c.fillRect(left, 0, AXIS, height);
    c.strokeStyle = colours.line;
    c.beginPath();
    c.moveTo(left + 0.5, 0);
    c.lineTo(left + 0.5, height);
    c.stroke();
    c.font = "11px ui-monospace, monospace";
    c.textBaseline = "middle";
    c.textAlign = "left";
    c.fillStyle = colours.muted;
    const digits = priceDigits(this.high);
    const steps = niceStep(this.high - this.low, Math.max(3, height / 48));
    for (let at = Math.ceil(this.low / steps) * steps; at < this.high; at += steps) {
      const y = this.y(at);
      if (y < 8 || y > height - 8) continue;
      c.fillText(price(at, digits), left + 6, y);
    }
    const mid = this.detail.report?.mid_price;
    if (known(mid) && this.y(mid) > 0 && this.y(mid) < height) {
      c.fillStyle = colours.accent;
      c.fillRect(left + 1, this.y(mid) - 8, AXIS, 16);
      c.fillStyle = colours.bg;
      c.fillText(price(mid, digits), left + 6, this.y(mid));
    }
    const every = niceStep(windowMs / 1000, Math.max(2, plot / 110)) * 1000;
    c.textAlign = "center";
    c.textBaseline = "bottom";
    for (let at = Math.ceil((nowMs - windowMs) / every) * every; at < nowMs; at += every) {
      const where = x(at);
      if (where < 28 || where > plot - 28) continue;
      const text = clock(at);
      c.fillStyle = colours.panel;
      c.globalAlpha = 0.75;
      c.fillRect(where - 27, height - 15, 54, 15);
      c.globalAlpha = 1;
      c.fillStyle = colours.muted;
      c.fillText(text, where, height - 2);
    }
    if (this.pointer && this.pointer.x < plot) this.crosshair(c, plot, height, nowMs, windowMs, colours, digits);
  }

  crosshair(c, plot, height, nowMs, windowMs, colours, digits) {
    const { books } = this.detail;
    const { x, y } = this.pointer;
    const last = books.bucketOf(nowMs);
    const count = Math.round(windowMs / books.columnMs);
    const bucket = last - count + 1 + Math.floor((x / plot) * count);
    const at = books.find(bucket);
    const value = this.low + ((height - y) / height) * (this.high - this.low);
    let text = `${clock(bucket * books.columnMs)}  ${price(value, digits)}`;
    if (at >= 0 && books.flag[at] === COLUMN.GOOD) {
      const base = at * books.levels * 2;
      let nearest = Infinity;
      let size = 0;
      for (let k = 0; k < books.levels * 2; k += 1) {
        if (k < books.levels ? k >= books.bids[at] : k - books.levels >= books.asks[at]) continue;
        const far = Math.abs(books.price[base + k] - value);
        if (far < nearest) { nearest = far; size = books.size[base + k]; }
      }
      if (nearest < (this.high - this.low) / 60) text += `  ${qty(size)}`;
    } else if (at >= 0 && books.reason[at]) {
      text += `  ${books.reason[at]}`;
    }
    c.strokeStyle = colours.muted;
    c.setLineDash([2, 3]);
    c.beginPath();
    c.moveTo(x, 0);
    c.lineTo(x, height);
    c.moveTo(0, y);
    c.lineTo(plot, y);
    c.stroke();
    c.setLineDash([]);
    c.font = "11px ui-monospace, monospace";
    const wide = c.measureText(text).width + 12;
    c.fillStyle = colours.bg;
    c.globalAlpha = 0.92;
    c.fillRect(8, 8, wide, 20);
    c.globalAlpha = 1;
    c.fillStyle = colours.text;
    c.textAlign = "left";
    c.textBaseline = "middle";
    c.fillText(text, 14, 18);
  }

  /** The colour scale, with sizes at its ends and between. */
  legend(canvas) {
    const { context: c, width, height } = fit(canvas);
    if (!this.table || !this.most) return;
    const colours = palette();
    c.clearRect(0, 0, width, height);
    for (let n = 0; n < width; n += 1) {
      const word = this.table[Math.round((n / width) * 255)];
      c.fillStyle = `rgb(${word & 255} ${(word >> 8) & 255} ${(word >> 16) & 255})`;
      c.fillRect(n, 0, 1.5, 7);
    }
    c.font = "10px ui-monospace, monospace";
    c.textBaseline = "top";
    c.fillStyle = colours.muted;
    [0, 0.5, 1].forEach((share) => {
      c.textAlign = share === 0 ? "left" : share === 1 ? "right" : "center";
      c.fillText((share === 1 ? "≥ " : share === 0 ? "≤ " : "") + qty((this.most / DECADES) * DECADES ** share), share * width, 10);
    });
  }

  rows() {
    const book = this.detail.book;
    if (!book) return [["no book", this.detail.wrong, ""]];
    return [...book.asks.slice(0, 10).reverse().map(([p, q]) => ["ask", price(p), number(q, 5)]), ...book.bids.slice(0, 10).map(([p, q]) => ["bid", price(p), number(q, 5)])];
  }
}
