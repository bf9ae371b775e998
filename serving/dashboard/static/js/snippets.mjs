// What to paste elsewhere to read the same. Pure.

export function snippets(origin, symbol) {
  const ws = origin.replace(/^http/, "ws");
  const url = `${origin}/get_report?symbol=${encodeURIComponent(symbol)}`;
  return {
    curl: `curl -si '${url}'`,
    python: [
      "import json, urllib.request",
      "",
      `with urllib.request.urlopen("${url}") as answer:`,
      "    report = json.load(answer)",
      '    age_ms = answer.headers["X-Data-Age-Ms"]',
      'print(report and report["mid_price"], "is", age_ms, "ms old")',
    ].join("\n"),
    websocket: [
      `const socket = new WebSocket("${ws}/ws");`,
      "socket.onopen = () => socket.send(JSON.stringify({",
      `  op: "subscribe", id: "1", channels: ["reports.fast"], symbols: ["${symbol}"],`,
      "}));",
      "socket.onmessage = ({ data }) => console.log(JSON.parse(data));",
    ].join("\n"),
    mcpHttp: JSON.stringify({ mcpServers: { tapeline: { type: "http", url: `${origin}/mcp` } } }, null, 2),
    mcpStdio: JSON.stringify({ mcpServers: { tapeline: { command: "tapeline", args: ["mcp"], env: { REDIS_URL: "redis://127.0.0.1:6379/0" } } } }, null, 2),
    mcpCall: JSON.stringify({ method: "tools/call", params: { name: "get_report", arguments: { symbol } } }, null, 2),
  };
}
