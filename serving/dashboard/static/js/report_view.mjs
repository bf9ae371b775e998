// The report, field by field, as it is in the JSON, with what each means.

import { h, put } from "./dom.mjs";
import { leaves } from "./model.mjs";

let glossary = null;

/** Terms by field; fetched once, with the page's own files. */
async function terms(base) {
  glossary ??= fetch(`${base}/glossary.json`)
    .then((answer) => (answer.ok ? answer.json() : []))
    .then((list) => new Map(list.map((term) => [term.field, term])));
  return glossary;
}

/** The term of a path, or of the nearest field around it; a step may be any key. */
export function explain(known, path) {
  const steps = path.split(".");
  while (steps.length) {
    const exact = known.get(steps.join("."));
    if (exact) return exact;
    for (const [field, term] of known) {
      const parts = field.split(".");
      if (parts.length === steps.length && parts.every((part, n) => part === "*" || part === steps[n])) return term;
    }
    steps.pop();
  }
  return null;
}

const isSlow = (path) => path.startsWith("liquidity") || path.startsWith("anomalies");

export class ReportView {
  constructor(base) {
    this.rows = new Map();
    this.known = null;
    this.help = h("p.help", { "aria-live": "polite" }, "Point at a field, or move to it with Tab, to read what it means.");
    this.fast = h("dl.fields", { "data-cycle": "fast" });
    this.slow = h("dl.fields", { "data-cycle": "slow" });
    this.element = h("div.report", {}, this.help,
      h("div.cycles", {}, h("div", {}, h("h3", {}, "Fast, four times a second"), this.fast), h("div", {}, h("h3", {}, "Slow, every two seconds"), this.slow)));
    this.element.addEventListener("focusin", (event) => this.tell(event.target));
    this.element.addEventListener("pointerover", (event) => this.tell(event.target));
    terms(base).then((known) => { this.known = known; }, () => {});
    this.order = "";
  }

  tell(target) {
    const path = target.closest?.("[data-term]")?.dataset.term;
    if (!path || !this.known) return;
    const term = explain(this.known, path);
    if (!term) {
      put(this.help, `${path}: not in the glossary.`);
      return;
    }
    put(this.help, `${path} (${term.type}): ${term.meaning}.${term.null_when ? ` Null: ${term.null_when}.` : ""}`);
  }

  draw(report) {
    if (!report) return;
    const all = leaves(report);
    const order = all.map(([path]) => path).join();
    if (order !== this.order) {
      this.order = order;
      this.fast.replaceChildren();
      this.slow.replaceChildren();
      this.rows.clear();
      for (const [path] of all) {
        const value = h("dd.num", { "data-path": path });
        (isSlow(path) ? this.slow : this.fast).append(h("div", { "data-term": path }, h("dt", { tabindex: "0" }, path), value));
        this.rows.set(path, value);
      }
    }
    for (const [path, value] of all) {
      const cell = this.rows.get(path);
      put(cell, JSON.stringify(value));
      if (value === null) cell.classList.add("null");
      else cell.classList.remove("null");
    }
  }
}
