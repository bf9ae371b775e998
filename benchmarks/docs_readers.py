"""What was measured of readers, in Markdown: HTTP, MCP, the hub, the dashboard."""

from __future__ import annotations

from typing import Any

from benchmarks.machine import described
from benchmarks.markdown import rows_of

Result = dict[str, Any]

ROUTES = {"get_report": "`/get_report`", "ticks": "`/ticks/realtime`"}
CASES = {
    "http": "`/get_report`, plain HTTP",
    "mcp_summary": "MCP `get_report`, summary",
    "mcp_full": "MCP `get_report`, full",
    "mcp_legacy_summary": "MCP `get_report`, summary, revision 2025-11-25",
}
PAGES = {"wall": "wall", "symbol": "one symbol's page"}


def _told(found: Result) -> str:
    return f"`{found['command']}`: {described(found['machine'])}."


def readers(found: Result) -> str:
    """HTTP at a steady rate beside a bare application."""
    rows = []
    for name, title in ROUTES.items():
        row = found["http"][name]
        ours, bare = row["tapeline"], row["bare"]
        rows.append(
            (
                title,
                *(f"{ours[key]:g}" for key in ("p50_ms", "p99_ms", "p999_ms")),
                f"{row['goal_p99_ms']:g}",
                f"{bare['p50_ms']:g}, {bare['p99_ms']:g}",
                f"{row['p50_ratio']:g}x, {row['p99_ratio']:g}x",
                f"{ours['server_cpu']:g}",
            )
        )
    header = (
        f"{found['http']['get_report']['rate_per_s']} requests/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "goal, p99",
        "a bare app: p50, p99",
        "Tapeline is",
        "cores",
    )
    return "\n\n".join(
        (
            "### Reports and ticks over HTTP",
            f"{_told(found)} 100 symbols are written at 4 Hz meanwhile; a request's time runs from "
            "the moment it was due; the bare app is FastAPI and redis with nothing around, on the "
            f"same store in the same minutes. The server held {found['http']['server_mb']} MB.",
            rows_of(header, rows),
        )
    )


def mcp(found: Result) -> str:
    """Agents' calls."""
    rows = [
        (
            title,
            *(f"{found['cases'][name][key]:g}" for key in ("p50_ms", "p99_ms", "p999_ms")),
            f"{found['cases'][name]['server_cpu']:.2f}",
        )
        for name, title in CASES.items()
    ]
    header = (f"{found['rate']} calls/s", "p50 ms", "p99 ms", "p99.9 ms", "cores")
    return "\n\n".join(
        (
            "### Agents over MCP",
            f"{_told(found)} A summary is about {found['tokens']['summary']} tokens of at most "
            f"400, all of a report {found['tokens']['full']} of at most 2,500.",
            rows_of(header, rows),
        )
    )


def hub(found: Result) -> str:
    """Frames to many clients."""
    stuck = found["stuck"]
    rows = [
        _crowd(title, row)
        for title, row in (
            ("everybody follows everything", found["hub"]),
            ("five symbols each", stuck["without"]),
            (f"the same, and {stuck['with']['stuck']} that read nothing", stuck["with"]),
        )
    ]
    header = (
        "100 symbols at 4 Hz",
        "clients",
        "frames/s",
        "p50 ms",
        "p99 ms",
        "lost",
        "cores",
        "MB, at most",
    )
    many = found["many"]
    return "\n\n".join(
        (
            "### Frames over WebSocket",
            f"{_told(found)} From just before the write is sent to Redis to the frame at the client; "
            "writer, store, server and clients share the cores.",
            rows_of(header, rows),
            f"{many['clients']:,} clients of one symbol each, over {many['servers']} servers: "
            + "; ".join(
                f"{how}, {many[key]['served']:,} had their first snapshot, after "
                f"{many[key]['first_snapshot_p50_s']:g} s in the median, "
                f"{many[key]['first_snapshot_p99_s']:g} s at the 99th percentile and "
                f"{many[key]['first_snapshot_max_s']:g} s at most"
                for key, how in (
                    ("steady", f"{many['steady']['arrivals_per_s']} coming a second"),
                    ("at_once", "all at once"),
                )
            )
            + f". The servers held {', '.join(str(mb) for mb in many['steady']['server_mb'])} MB.",
        )
    )


def _crowd(title: str, row: Result) -> tuple[str, ...]:
    return (
        title,
        f"{row['clients']:,}",
        f"{row['frames_per_s']:,}",
        f"{row['p50_ms']:g}",
        f"{row['p99_ms']:g}",
        f"{row['lost']:,}",
        f"{row['server_cpu']:g}",
        f"{row['server_peak_mb']}",
    )


def dashboard(found: Result) -> str:
    """What pages cost a browser."""
    rows = [
        (
            title,
            f"{row['long_tasks']}",
            f"{row['long_task_p95_ms']:g}",
            f"{row['blocked_share'] * 100:.2f} %",
            f"{row['heap_before_mb']:g}",
            f"{row['heap_growth_mb']:+g}",
            f"{row['nodes_before']} to {row['nodes_after']}",
            f"{row['frames_per_s']:g}",
        )
        for name, title in PAGES.items()
        if (row := found.get(name)) is not None
    ]
    header = (
        f"{found['symbols']} symbols at {found['hz']:g} Hz",
        "long tasks",
        "p95 ms",
        "time in them",
        "heap MB",
        "growth MB",
        "nodes",
        "frames/s",
    )
    return "\n\n".join(
        (
            "### The dashboard in a browser",
            f"{_told(found)} Chromium {found['browser']} without a window or a graphics card, "
            f"{found['wall']['seconds']:g} s a page; writer, store and reader share its cores. The "
            "heap is read after a collection.",
            rows_of(header, rows),
        )
    )
