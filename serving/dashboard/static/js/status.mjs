// The chain: feed, topic, workers, Redis, reader. What is wrong, where, and what to do.

import { attr, h, put } from "./dom.mjs";
import { NONE, age, bytes, count, known } from "./format.mjs";

const NAMES = { feed: "Feed", topic: "Topic", workers: "Workers", redis: "Redis", reader: "Reader" };
const EVERY_MS = 1000;

let runbooks = null;

/** The runbook's section on what is wrong, in place: who has to act is not sent elsewhere. */
function advice(base) {
  const where = h("p.quiet");
  const text = h("pre.code", { tabindex: "0", "aria-label": "Runbook" });
  const element = h("details.fix", { hidden: true }, h("summary", {}, "What to do"), where, text);
  let shown = "";
  const load = async () => {
    if (!element.open || text.of === shown) return;
    text.of = shown;
    runbooks ??= fetch(`${base}/runbooks.json`).then((answer) => (answer.ok ? answer.json() : {}), () => ({}));
    const found = (await runbooks)[shown.split("#")[1]];
    text.hidden = !found;
    put(text, found ?? "");
  };
  element.addEventListener("toggle", load);
  return {
    element,
    show(runbook) {
      shown = runbook || "";
      element.hidden = !shown;
      put(where, shown);
      load();
    },
  };
}

export function open(app) {
  let status = null;
  let at = 0;
  let failed = "";
  let timer = 0;
  let closed = false;

  const verdict = h("p.verdict", {}, "Looking …");
  const chain = h("ol.chain", { "aria-label": "From the venues to this page" });
  const parts = h("div.parts");
  const symbols = h("tbody");
  const feeds = h("tbody");
  const filter = h("input", { type: "search", placeholder: "Filter symbols, owners, states", "aria-label": "Filter symbols, owners, states", spellcheck: "false", oninput: () => fill() });
  const element = h("section.page", {}, h("div.strip", {}, h("h1", {}, "Status"), verdict),
    chain, parts,
    h("div.strip", {}, h("h2", {}, "Symbols"), h("span.quiet.num.sum"), filter),
    h("div.panel.scrollx", { tabindex: "0", role: "region", "aria-label": "Symbols" }, h("table.plain", {}, h("thead", {}, h("tr", {},
      ["Symbol", "State", "Owner", "Token", "Seq", "Lease", "Report age", "Data age", "Partition", "Offset", "Feeds"].map((text, n) => h("th", { scope: "col", class: n > 2 && n < 10 ? "num" : null }, text)))), symbols)),
    h("div.strip", {}, h("h2", {}, "Feeds")),
    h("div.panel.scrollx", { tabindex: "0", role: "region", "aria-label": "Feeds" }, h("table.plain", {}, h("thead", {}, h("tr", {},
      ["Feed", "State", "Bridge", "Book", "Records/s", "Last record", "Gaps", "Resyncs"].map((text, n) => h("th", { scope: "col", class: n > 3 ? "num" : null }, text)))), feeds)));
  const sum = element.querySelector(".sum");
  const nodes = new Map();

  function stage(name) {
    let made = nodes.get(name);
    if (made) return made;
    const figure = (label, title) => {
      const value = h("dd.num", {}, NONE);
      return { value, row: h("div", { title }, h("dt", {}, label), value) };
    };
    const figures = {
      rate: figure("rate", "A second"),
      lag: figure("lag", "How far behind what it reads"),
      age: figure("age", "Since its newest sign"),
      restarts: figure("restarts", "Seen since the reader started"),
    };
    made = { chip: h("span.chip"), sentence: h("p.sentence"), fix: advice(app.base), figures };
    made.element = h("li.stage", { "data-stage": name }, h("header", {}, h("h2", {}, NAMES[name] ?? name), made.chip),
      h("dl", {}, Object.values(figures).map((one) => one.row)), made.sentence, made.fix.element);
    nodes.set(name, made);
    chain.append(made.element);
    return made;
  }

  function lag(one) {
    if (!known(one.lag)) return NONE;
    return one.lag_unit === "ms" ? age(one.lag) : `${count(one.lag)} ${one.lag_unit}`;
  }

  function fill() {
    if (!status) return;
    put(verdict, status.sentence || { ok: "Everything runs.", degraded: "Something is degraded.", down: "Something is down." }[status.state] || "");
    attr(verdict, "data-state", status.state);
    for (const one of status.chain) {
      const made = stage(one.stage);
      attr(made.element, "data-state", one.state);
      put(made.chip, one.state);
      attr(made.chip, "data-state", one.state);
      put(made.sentence, one.sentence);
      made.fix.show(one.runbook);
      const texts = { rate: known(one.rate_per_s) ? `${count(one.rate_per_s)}/s` : NONE, lag: lag(one), age: age(one.age_ms), restarts: count(one.restarts) };
      const sources = { rate: "rate_per_s", lag: "lag", age: "age_ms", restarts: "restarts" };
      for (const [key, text] of Object.entries(texts)) {
        put(made.figures[key].value, text);
        const why = one.unknown?.[sources[key]];
        if (why) attr(made.figures[key].row, "title", `Not known: ${why}`);
      }
    }
    parts.replaceChildren(...status.chain.flatMap((one) => (one.parts ?? []).map((part) => partCard(one.stage, part))));
    const words = filter.value.trim().toUpperCase();
    const wanted = (status.symbols ?? []).filter((one) => !words || `${one.symbol} ${one.owner} ${one.state}`.toUpperCase().includes(words));
    put(sum, `${(status.symbols ?? []).length}`);
    const cell = (text, className) => h("td", { class: className }, text);
    const chip = (state) => h("td", {}, h("span.chip", { "data-state": state }, state));
    symbols.replaceChildren(...wanted.map((one) => h("tr", { "data-symbol": one.symbol, title: one.sentence || null },
      h("td", {}, h("a", { href: `/s/${encodeURIComponent(one.symbol)}` }, one.symbol)), chip(one.state), cell(one.owner || NONE),
      cell(known(one.token) ? String(one.token) : NONE, "num"), cell(known(one.seq) ? String(one.seq) : NONE, "num"), cell(one.lease_ms ? age(one.lease_ms) : "none", "num"),
      cell(age(one.report_age_ms), "num"), cell(age(one.data_age_ms), "num"), cell(count(one.partition), "num"), cell(count(one.offset), "num"),
      h("td", {}, (one.feeds ?? []).map((feed) => h("span.tag", { "data-state": feed.state }, feed.stream_id))))));
    feeds.replaceChildren(...(status.feeds ?? []).map((one) => h("tr", { title: one.sentence || null }, cell(one.stream_id), chip(one.state), cell(one.bridge || NONE), cell((one.book ?? NONE).replaceAll("_", " ")),
      cell(count(one.records_per_s), "num"), cell(age(one.last_record_age_ms), "num"), cell(count(one.gaps), "num"), cell(count(one.resyncs), "num"))));
    app.probe.status = { at_ms: status.at_ms, state: status.state, stages: Object.fromEntries(status.chain.map((one) => [one.stage, one.state])), symbols: wanted.length };
  }

  function partCard(stageName, part) {
    const facts = [];
    const fact = (label, text) => { if (text !== NONE && text !== "") facts.push(h("div", {}, h("dt", {}, label), h("dd.num", {}, text))); };
    fact("presence", part.presence ?? "");
    fact("pid", part.pid ? String(part.pid) : "");
    fact("up", known(part.up_s) ? age(part.up_s * 1000) : "");
    fact("heartbeat", known(part.heartbeat_age_ms) ? age(part.heartbeat_age_ms) : "");
    fact("rate", known(part.rate_per_s) ? `${count(part.rate_per_s)}/s` : "");
    fact("lag", known(part.lag) ? count(part.lag) : "");
    fact("owns", known(part.owned) ? `${count(part.owned)} symbols` : "");
    fact("restarts", known(part.restarts) ? count(part.restarts) : "");
    fact("memory", known(part.used_memory_bytes) ? bytes(part.used_memory_bytes) : "");
    fact("role", part.role ?? "");
    fact("version", part.version ?? "");
    for (const [venue, seen] of Object.entries(part.venues ?? {})) {
      fact(venue, `${seen.connected ? "connected" : "disconnected"} · ${seen.in_sync}/${seen.symbols} in sync · ${count(seen.frames_per_s)}/s`);
    }
    const state = part.state ?? "";
    return h("article.part", { "data-state": state }, h("header", {}, h("h3", {}, `${NAMES[stageName] ?? stageName} ${part.id ?? ""}`), state ? h("span.chip", { "data-state": state }, state) : null),
      h("dl", {}, facts), part.partitions?.length ? h("p.quiet", {}, `${part.partitions.length + (part.partitions_left_out ?? 0)} partitions, worst lag ${count(Math.max(...part.partitions.map((one) => one.lag ?? 0)))}`) : null);
  }

  async function look() {
    try {
      const answer = await app.get("/status");
      if (!answer.ok) throw new Error(answer.status === 404 ? "This server does not tell its status yet." : `The server answered ${answer.status}.`);
      status = await answer.json();
      at = app.now();
      failed = "";
    } catch (error) {
      failed = error.name === "TimeoutError" ? "The server did not answer." : error.message === "Failed to fetch" ? "The server is not to be reached." : error.message;
    }
    if (closed) return;
    fill();
    app.redraw();
    timer = setTimeout(look, EVERY_MS);
  }
  look();

  return {
    title: "Status",
    element,
    draw(now) {
      if (failed) {
        put(verdict, status ? `${failed} What follows is ${age(now - at)} old.` : failed);
        attr(verdict, "data-state", "down");
      }
      element.classList.toggle("old", Boolean(failed));
    },
    close() {
      closed = true;
      clearTimeout(timer);
      delete app.probe.status;
    },
  };
}
