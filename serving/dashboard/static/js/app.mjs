// The frame around all pages: connection, banner, theme, keys, and which page is shown.

import { attr, forgetPalette, h, put } from "./dom.mjs";
import { report, watchErrors } from "./errors.mjs";
import { age, clock, count } from "./format.mjs";
import { HubClient } from "./hub.mjs";
import { Store, troubles } from "./model.mjs";

watchErrors();

const base = document.querySelector("meta[name=base]").content;
const now = () => performance.now();
const KEY = "tapeline.key";
let keyInMemory = "";

export const app = {
  base,
  now,
  store: new Store(),
  probe: {},
  key: () => keyInMemory || readKey(),
  setKey,
  get,
  navigate,
  redraw: requestDraw,
};
window.__probe = app.probe;

function readKey() {
  try { return sessionStorage.getItem(KEY) ?? ""; } catch { return ""; }
}

/** Keeps a key in memory, or for this tab where asked; a new connection uses it. */
function setKey(key, forTab) {
  keyInMemory = key;
  try {
    if (key && forTab) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch { /* memory it is */ }
  app.hub.restart();
}

/** A GET of the public interface, with the key in a header. */
async function get(path, { timeoutMs = 3000, headers = {} } = {}) {
  const key = app.key();
  const answer = await fetch(path, {
    headers: { Accept: "application/json", ...(key ? { "X-API-Key": key } : {}), ...headers },
    signal: AbortSignal.timeout(timeoutMs),
  });
  return answer;
}

app.hub = new HubClient({
  connect: () => new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`),
  now,
  later: (fn, ms) => setTimeout(fn, ms),
  cancel: (id) => clearTimeout(id),
  key: () => app.key(),
});

// --- pages ---

const PAGES = {
  wall: () => import("./wall.mjs"),
  symbol: () => import("./symbol.mjs"),
  status: () => import("./status.mjs"),
  topics: () => import("./topics.mjs"),
  connect: () => import("./connect.mjs"),
};

function route(path) {
  const symbol = /^\/s\/([^/]+)$/.exec(path);
  if (symbol) return { name: "symbol", symbol: decodeURIComponent(symbol[1]) };
  return { name: { "/": "wall", "/status-ui": "status", "/topics": "topics", "/connect": "connect" }[path] ?? "wall" };
}

let view = null;
let shown = 0;

async function show() {
  const mine = (shown += 1);
  const { name, symbol } = route(location.pathname);
  for (const link of document.querySelectorAll("[data-nav]")) {
    attr(link, "aria-current", link.dataset.nav === name ? "page" : null);
  }
  const page = await PAGES[name]();
  if (mine !== shown) return;
  view?.close();
  view = page.open(app, symbol);
  app.probe.page = name;
  document.body.dataset.page = name;
  document.title = `${view.title} · Tapeline`;
  document.getElementById("main").replaceChildren(view.element);
  view.opened?.();
  // The wall's table goes on filling behind the other pages, at a lower rate.
  app.hub.want("wall", { channels: ["reports.fast"], symbols: ["*"], max_hz: name === "wall" ? 4 : 2 });
  requestDraw();
}

function navigate(path) {
  if (path !== location.pathname) history.pushState(null, "", path);
  scrollTo(0, 0);
  show().catch((error) => report("error", error.message, { stack: error.stack }));
}

addEventListener("popstate", () => navigate(location.pathname));
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || link.target) return;
  const to = new URL(link.href);
  if (to.origin !== location.origin || !isPage(to.pathname) || to.hash) return;
  event.preventDefault();
  navigate(to.pathname);
});
const isPage = (path) => ["/", "/status-ui", "/topics", "/connect"].includes(path) || path.startsWith("/s/");

// --- drawing: when something changed, and four times a second for what ages ---

const LEAST_MS = 60; // between two draws, unless the page asks for less
let asked = false;
let drawnAt = 0;

function requestDraw() {
  if (asked) return;
  asked = true;
  const wait = Math.max(0, drawnAt + (view?.leastMs ?? LEAST_MS) - now());
  setTimeout(() => requestAnimationFrame(draw), wait);
}

function draw() {
  asked = false;
  drawnAt = now();
  frameBar(drawnAt);
  view?.draw(drawnAt);
}

// A page that is not seen gets no animation frames; what it hears is kept all the same.
setInterval(requestDraw, 250);

// --- bar and banner ---

const link = document.getElementById("link");
const banner = document.getElementById("banner");
const say = document.getElementById("say");
const rate = { at: now(), frames: 0, shown: 0 };
let saidAt = -Infinity;
let said = "";

function frameBar(at) {
  const { hub, store } = app;
  const open = hub.state === "open";
  const words = { open: "live", connecting: "connecting", lost: "reconnecting", refused: "key needed", idle: "idle" };
  attr(link, "data-state", open && store.source.redis === "down" ? "degraded" : hub.state);
  put(link.lastElementChild, open && store.source.redis === "down" ? "no store" : words[hub.state]);
  if (at - rate.at >= 1000) {
    rate.shown = ((hub.stats.frames - rate.frames) * 1000) / (at - rate.at);
    rate.at = at;
    rate.frames = hub.stats.frames;
  }
  put(document.getElementById("rate"), `${count(Math.round(rate.shown))}/s · ${count(hub.stats.dropped)} replaced`);
  put(document.getElementById("clock"), store.hasOffset ? clock(store.serverNow(at)) : "");
  const found = troubles({ connection: { state: hub.state, since: hub.since, silence: hub.silence() }, store, now: at });
  showBanner(found, at);
}

function showBanner(found, at) {
  const ids = found.map((one) => one.id).join();
  if (banner.ids !== ids) {
    banner.ids = ids;
    banner.replaceChildren(...found.map((one) => {
      const since = h("span.num", {});
      const row = h("p", { "data-id": one.id, "data-level": one.level }, h("b", {}, one.level === "bad" ? "■ " : "▲ "), h("span", {}, ""), " ", since);
      if (one.action === "key") row.append(h("a", { href: "/connect" }, "Enter a key"));
      row.since = since;
      return row;
    }));
  }
  found.forEach((one, n) => {
    const row = banner.children[n];
    put(row.children[1], one.text);
    put(row.since, one.since === undefined ? "" : `since ${age(at - one.since)}`);
  });
  app.probe.banner = found.map(({ id, text }) => ({ id, text }));
  document.body.classList.toggle("away", found.some((one) => one.level === "bad"));
  // Screen readers hear a change of it, at most once in five seconds.
  const text = found.length ? found.map((one) => one.text).join(" ") : said ? "All is well again." : "";
  if (text !== said && at - saidAt > 5000 && (found.length || said !== "All is well again.")) {
    said = text;
    saidAt = at;
    say.textContent = text;
  }
}

// --- what comes ---

let known = 0;
app.hub.on((type, frame) => {
  const at = now();
  const symbol = app.store.take(type, frame, at);
  if (type === "hello") {
    app.store.source = { redis: "up", since: at };
    put(document.getElementById("version"), String(frame.server ?? "").replace(/^tapeline /, ""));
  }
  view?.hear?.(type, frame, at);
  if (symbol || type === "connection" || type === "source" || type === "events") requestDraw();
  if (app.store.symbols.size !== known) {
    known = app.store.symbols.size;
    document.getElementById("symbols").replaceChildren(...[...app.store.symbols.keys()].sort().map((value) => h("option", { value })));
  }
});
addEventListener("online", () => { if (app.hub.state !== "open") app.hub.restart(); });
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && app.hub.state === "lost") app.hub.restart();
});

app.probe.report = (symbol) => {
  const state = app.store.symbols.get(symbol);
  return state && { token: state.token, seq: state.seq, data: state.report, state: state.state(now()) };
};
app.probe.stats = () => ({ ...app.hub.stats, state: app.hub.state, nodes: document.getElementsByTagName("*").length });

// --- theme, jump ---

document.getElementById("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("tapeline.theme", theme); } catch { /* for this page only */ }
  setTheme(theme);
});
matchMedia("(prefers-color-scheme: light)").addEventListener("change", (event) => {
  let chosen = null;
  try { chosen = localStorage.getItem("tapeline.theme"); } catch { /* none */ }
  if (!chosen) setTheme(event.matches ? "light" : "dark");
});
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  forgetPalette();
  view?.restyle?.();
  requestDraw();
}

const jump = document.getElementById("jump-to");
document.getElementById("jump").addEventListener("submit", (event) => {
  event.preventDefault();
  const symbol = jump.value.trim().toUpperCase();
  if (!symbol) return;
  jump.value = "";
  jump.blur();
  navigate(`/s/${encodeURIComponent(symbol)}`);
});
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    jump.focus();
  } else if (event.key === "Escape" && typing) {
    event.target.blur();
  } else if (!typing) {
    view?.key?.(event);
  }
});

app.hub.start();
show().catch((error) => report("error", error.message, { stack: error.stack }));
