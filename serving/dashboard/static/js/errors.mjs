// Errors in the page go to the server's log: few, short, and without what an address may carry.

const MOST = 20;
let sent = 0;

export function report(kind, message, { source = "", line = 0, column = 0, stack = "" } = {}) {
  if ((sent += 1) > MOST) return;
  const body = JSON.stringify({
    kind,
    message: String(message).slice(0, 400),
    source: String(source).slice(0, 300),
    line: Number(line) || 0,
    column: Number(column) || 0,
    stack: String(stack ?? "").slice(0, 1500),
    page: location.pathname,
  });
  fetch("/errors", { method: "POST", headers: { "Content-Type": "application/json" }, body, keepalive: true }).catch(() => {});
}

export function watchErrors() {
  addEventListener("error", (event) => {
    if (event.message) report("error", event.message, { source: event.filename, line: event.lineno, column: event.colno, stack: event.error?.stack });
  });
  addEventListener("unhandledrejection", (event) => {
    report("rejection", event.reason?.message ?? event.reason, { stack: event.reason?.stack });
  });
  addEventListener("securitypolicyviolation", (event) => {
    report("csp", `${event.violatedDirective}: ${event.blockedURI}`, { source: event.sourceFile, line: event.lineNumber, column: event.columnNumber });
  });
}
