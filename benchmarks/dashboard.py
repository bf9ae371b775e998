"""What the dashboard costs the browser: how long it blocks the page, and what it keeps.

    python -m benchmarks dashboard [wall|symbol ...] [--seconds 60] [--symbols 100] [--hz 4] [--json]

A real store, ``tapeline serve``, a writer through the publish script, and Debian's Chromium without
a window. ``wall``: the first page. ``symbol``: one symbol's page, with all its canvases. The page
is left to itself for a while; then its long tasks (over 50 ms, as the browser counts them), the
growth of its heap between two collections, its nodes and its frames are read.

The share of time in long tasks is given beside their 95th percentile, which is over the long tasks
alone: a page without any has none. Everything shares the machine's cores, the writer too, and a
task that waits for one is a long one; ``main_thread_cpu`` is what the page's thread really used.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import described, machine, versions
from tests.support import browsers
from tests.support.browsers import Watched
from tests.support.desk_stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession

SCENARIOS = {"wall": "/", "symbol": "/s/BTCUSDT"}
GOAL_TASK_MS = 50.0
GOAL_HEAP_MB = 10.0
WARM_S = 5.0

OBSERVE = """() => {
  window.__long = [];
  window.__frames = 0;
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) window.__long.push(entry.duration);
  }).observe({type: 'longtask'});
  const count = () => { window.__frames += 1; requestAnimationFrame(count); };
  requestAnimationFrame(count);
}"""


def heap_mb(page: Watched) -> float:
    """What the page's heap holds after a collection."""
    session = page.page.context.new_cdp_session(page.page)
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return float(used) / 2**20


def used_s(session: CDPSession) -> float:
    """Processor time of the page's thread in tasks, since its performance is watched."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def percentile(values: list[float], share: float) -> float:
    """0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def looked_at(page: Watched, path: str, seconds: float, symbols: int) -> dict[str, Any]:
    """One page, left to itself."""
    page.go(path)
    rows = f"Object.keys(window.__probe.wall?.() ?? {{}}).length >= {symbols}"
    page.wait(rows if path == "/" else "window.__probe.heatmap?.columns > 2", 60)
    page.page.wait_for_timeout(WARM_S * 1000)
    before_mb, stats = heap_mb(page), page.probe("stats()")
    session = page.page.context.new_cdp_session(page.page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before_s = used_s(session)
    page.page.evaluate(OBSERVE)
    page.page.wait_for_timeout(seconds * 1000)
    long_ms = [float(ms) for ms in page.page.evaluate("() => window.__long")]
    took_s = used_s(session) - before_s
    session.detach()
    frames, after = page.page.evaluate("() => window.__frames"), page.probe("stats()")
    return {
        "seconds": seconds,
        "long_tasks": len(long_ms),
        "long_task_p95_ms": round(percentile(long_ms, 0.95), 1),
        "long_task_max_ms": round(max(long_ms, default=0.0), 1),
        "main_thread_cpu": round(took_s / seconds, 3),
        "blocked_share": round(sum(long_ms) / 1000 / seconds, 4),
        "heap_before_mb": round(before_mb, 2),
        "heap_growth_mb": round(heap_mb(page) - before_mb, 2),
        "nodes_before": stats["nodes"],
        "nodes_after": after["nodes"],
        "drawn_per_s": round(frames / seconds, 1),
        "frames_per_s": round((after["frames"] - stats["frames"]) / seconds, 1),
        "mb_per_s": round((after["bytes"] - stats["bytes"]) / seconds / 2**20, 2),
        "replaced": after["dropped"] - stats["dropped"],
    }


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """All scenarios that were asked for."""
    found: dict[str, Any] = {"machine": machine(), "versions": versions()}
    found["symbols"], found["hz"] = args.symbols, args.hz
    with tempfile.TemporaryDirectory(prefix="tapeline-desk-") as folder:
        stack = Stack(Path(folder), args.symbols, args.hz)
        try:
            stack.start()
            with browsers.browser() as browser:
                found["browser"] = browser.version
                for name in args.scenario or SCENARIOS:
                    with browsers.watched(browser, stack.url) as page:
                        found[name] = looked_at(page, SCENARIOS[name], args.seconds, args.symbols)
                    print(f"{name}: {json.dumps(found[name])}", file=sys.stderr)
        finally:
            stack.stop()
    return found


def reached(found: dict[str, Any]) -> bool:
    """Whether the goals are."""
    return all(
        found[name]["long_task_p95_ms"] < GOAL_TASK_MS
        and found[name]["heap_growth_mb"] < GOAL_HEAP_MB
        for name in SCENARIOS
        if name in found
    )


def main(argv: list[str] | None = None) -> int:
    """Measure, and print; 1 where a goal is not reached, 2 without a browser."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS])
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--symbols", type=int, default=100)
    options.add_argument("--hz", type=float, default=4.0)
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    reason = browsers.unavailable()
    if reason:
        print(f"dashboard: {reason}", file=sys.stderr)
        return 2
    found = measured(args)
    print(described(found["machine"]), file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    return 0 if reached(found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
