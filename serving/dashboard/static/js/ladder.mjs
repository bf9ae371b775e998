// The ladder: asks above, bids below, sizes as bars; and the tape of trades.

import { attr, h, put } from "./dom.mjs";
import { NONE, clock, known, number, price, priceDigits, qty } from "./format.mjs";

export class Ladder {
  constructor(rows) {
    this.rows = rows;
    const line = (side) => {
      const cells = { cum: h("td.num.quiet"), qty: h("td.num"), price: h("td.num.price"), mark: h("td.mark") };
      const bar = h("i", { "aria-hidden": "true" });
      cells.qty.append(bar, h("span"));
      return { cells, bar, size: cells.qty.lastChild, element: h("tr", { "data-side": side }, cells.mark, cells.price, cells.qty, cells.cum) };
    };
    this.asks = Array.from({ length: rows }, () => line("ask"));
    this.bids = Array.from({ length: rows }, () => line("bid"));
    this.between = h("td", { colspan: "4" });
    this.element = h("table.ladder", {}, h("caption.hidden", {}, "Order book, best levels"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span.hidden", {}, "Mark")), ["Price", "Size", "Sum"].map((text) => h("th.num", { scope: "col" }, text)))),
      h("tbody", {}, [...this.asks].reverse().map((one) => one.element), h("tr.between", {}, this.between), this.bids.map((one) => one.element)));
    this.drawn = {};
  }

  draw(detail) {
    const { book, report } = detail;
    const walls = new Map((report?.liquidity?.walls ?? []).map((wall) => [wall.price, wall]));
    const bids = book?.bids ?? [];
    const asks = book?.asks ?? [];
    const digits = Math.max(priceDigits(bids[0]?.[0]), 0);
    let most = 0;
    for (const side of [bids, asks]) for (const [, size] of side.slice(0, this.rows)) most = Math.max(most, size);
    for (const [lines, levels] of [[this.asks, asks], [this.bids, bids]]) {
      let sum = 0;
      lines.forEach((line, n) => {
        const level = levels[n];
        sum += level?.[1] ?? 0;
        put(line.cells.price, level ? price(level[0], digits) : NONE);
        put(line.size, level ? qty(level[1]) : NONE);
        put(line.cells.cum, level ? qty(sum) : "");
        line.bar.style.transform = `scaleX(${level && most ? (level[1] / most).toFixed(3) : 0})`;
        const wall = level && walls.get(level[0]);
        put(line.cells.mark, wall ? "W" : "");
        attr(line.cells.mark, "title", wall ? `Wall, ${wall.severity}` : null);
        attr(line.element, "data-wall", wall ? wall.severity : null);
      });
    }
    const spread = bids.length && asks.length ? asks[0][0] - bids[0][0] : null;
    put(this.between, known(spread) ? `spread ${number(spread, digits)} · ${number(report?.spread_bps, 2)} bps` : detail.wrong || "no book");
    this.drawn = { bids: Math.min(bids.length, this.rows), asks: Math.min(asks.length, this.rows), of: book?.of ?? "" };
  }
}

export class Tape {
  constructor(rows) {
    this.lines = Array.from({ length: rows }, () => {
      const cells = [h("td.num.quiet"), h("td.side"), h("td.num"), h("td.num")];
      return { cells, element: h("tr", {}, cells) };
    });
    this.element = h("table.tape", {}, h("caption.hidden", {}, "Trades, newest first"), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), h("th", { scope: "col" }, h("span.hidden", {}, "Side")), ["Price", "Size"].map((text) => h("th.num", { scope: "col" }, text)))), h("tbody", {}, this.lines.map((one) => one.element)));
  }

  draw({ trades }) {
    this.lines.forEach((line, k) => {
      const n = trades.length - 1 - k;
      attr(line.element, "hidden", n < 0 ? "" : null);
      if (n < 0) return;
      const buy = trades.get("buy", n) === 1;
      attr(line.element, "data-side", buy ? "buy" : "sell");
      put(line.cells[0], clock(trades.get("t", n)));
      put(line.cells[1], buy ? "▲ buy" : "▼ sell");
      put(line.cells[2], price(trades.get("price", n)));
      put(line.cells[3], qty(trades.get("qty", n)));
    });
  }
}
