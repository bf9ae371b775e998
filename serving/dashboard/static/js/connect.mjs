// How to read the same data from elsewhere, and which key this page uses.

import { copy, h } from "./dom.mjs";
import { snippets } from "./snippets.mjs";

export function open(app) {
  const origin = location.origin;
  const symbol = [...app.store.symbols.keys()].sort()[0] ?? "BTCUSDT";
  const field = h("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false", maxlength: "200", placeholder: "tl_…" });
  const forTab = h("input", { type: "checkbox", id: "for-tab" });
  const said = h("p.quiet", { role: "status" }, app.key() ? "A key is in use." : "No key is in use: on loopback none is needed, unless the server asks for one.");
  const form = h("form.keys", {
    onsubmit: (event) => {
      event.preventDefault();
      app.setKey(field.value.trim(), forTab.checked);
      said.textContent = field.value ? "The connection is made anew with this key." : "The key is forgotten.";
      field.value = "";
    },
  }, h("label", { for: "key" }, "Key"), field, h("label.check", { for: "for-tab" }, forTab, " keep it for this tab"),
  h("button", { type: "submit" }, "Use"), h("button", { type: "button", onclick: () => { app.setKey("", false); said.textContent = "The key is forgotten."; } }, "Forget"));

  const block = (title, text, about) => {
    const button = h("button", { type: "button", onclick: () => copy(text, button) }, "Copy");
    return h("article.panel.pad", {}, h("header.row", {}, h("h3", {}, title), button), about ? h("p.quiet", {}, about) : null, h("pre.code", { tabindex: "0", "aria-label": title }, text));
  };
  const all = snippets(origin, symbol);
  const link = (href, text, about) => h("li", {}, h("a", { href, target: "_blank", rel: "noopener" }, text), h("span.quiet", {}, ` ${about}`));

  const element = h("section.page", {}, h("div.strip", {}, h("h1", {}, "Connect")),
    h("div.cards", {},
      h("article.panel.pad", {}, h("h2", {}, "Key"), h("p", {}, "A key is sent in a header or in the first message of the connection, never in an address. This page keeps it in memory, or until the tab is closed."), form, said,
        h("p.quiet", {}, "Keys are made where the server runs: ", h("code", {}, "tapeline keys create --name desk --scope reports:read,ticks:read,status:read"))),
      h("article.panel.pad", {}, h("h2", {}, "Contracts"), h("ul.links", {},
        link("/openapi.json", "OpenAPI 3.1", "every HTTP route"), link("/openapi-3.0.json", "OpenAPI 3.0.3", "for tools that want it"),
        link("/asyncapi.json", "AsyncAPI 3", "the frames of /ws"), link("/metrics", "Metrics", "of this reader, for Prometheus"), link("/health", "Health", "whether it answers, and Redis")),
      h("p.quiet", {}, "This dashboard uses nothing else: whatever it shows, you can read."))),
    h("h2", {}, "Ask for a report"),
    h("div.cards", {}, block("curl", all.curl), block("Python", all.python), block("WebSocket", all.websocket, "Subscribe, take the snapshot, then updates; prev_token and prev_seq show a break.")),
    h("h2", {}, "Connect an agent"),
    h("div.cards", {}, block("MCP over HTTP", all.mcpHttp, "For hosts that speak streamable HTTP."), block("MCP on stdio", all.mcpStdio, "For hosts that start their servers; it reads the same Redis."), block("A tool call", all.mcpCall)),
    h("h2", {}, "About"),
    h("article.panel.pad", {}, h("p", {}, "Charts: TradingView Lightweight Charts™, Copyright © 2026 TradingView, Inc. ", h("a", { href: "https://www.tradingview.com/", target: "_blank", rel: "noopener noreferrer" }, "tradingview.com"), ", under the Apache License 2.0: ",
      h("a", { href: `${app.base}/vendor/NOTICE.txt`, target: "_blank" }, "notice"), ", ", h("a", { href: `${app.base}/vendor/lightweight-charts.LICENSE.txt`, target: "_blank" }, "licence"), "."),
    h("p.quiet", {}, "Nothing is fetched from anywhere but this server.")));
  return { title: "Connect", element, draw() {}, close() {} };
}
