"""The measured part of docs/benchmarks.md, and its picture, out of the results kept.

    python -m benchmarks docs

Between the two markers a section is replaced where there is a newer result, else it stays; what people
wrote around them stays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import docs_readers, results
from benchmarks.machine import ROOT, described
from benchmarks.markdown import renewed, rows_of
from benchmarks.plot import Bar, Panel, svg

PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "benchmarks.svg"
BEGIN = "<!-- measured: begin; written by `python -m benchmarks docs` -->"
END = "<!-- measured: end -->"

Result = dict[str, Any]

LATENCIES = ("latency", "latency_200_symbols", "latency_100_ms")


def full_analytics(handler: str) -> bool:
    """Whether a handler calls the engine."""
    return not empty(handler)


def empty(handler: str) -> bool:
    """Whether it does next to nothing."""
    return handler in {"empty", "batches", "decode"}


def throughput(found: Result) -> str:
    """Tapeline and its peers."""
    versions = found["versions"]
    named = ("faust-streaming", "peers: quixstreams", "peers: bytewax", "aiokafka")
    said = ", ".join(f"{name.removeprefix('peers: ')} {versions.get(name, '?')}" for name in named)
    parts = [
        "### Throughput of one process, side by side",
        f"`{found['command']}`, {found['measured_at']}: {described(found['machine'])}; "
        f"{found['broker']}; {said}. {found['records']:,} records of the standard mix.",
        "![Records a second, Tapeline and its peers](benchmarks.svg)",
        _consumers(found, full_analytics, "full analytics"),
        _consumers(found, empty, "empty handler"),
        rows_of(
            ("goal", "measured", "at least", ""),
            (
                (
                    name,
                    "missing" if goal["measured"] is None else f"{goal['measured']:,.1f}",
                    f"{goal['goal']:,}",
                    "reached" if goal["reached"] else "**not reached**",
                )
                for name, goal in found["goals"].items()
            ),
        ),
    ]
    if "recording" in found:
        parts += [
            "The records of a recording, as fifteen symbols side by side "
            f"({found['recording']['records']:,} records, most of them quotes):",
            _consumers(found["recording"], full_analytics, "full analytics"),
            _consumers(found["recording"], empty, "empty handler"),
        ]
    return "\n\n".join(parts)


def _consumers(found: Result, wanted: Callable[[str], bool], title: str) -> str:
    ours = next(
        (
            row.get("events_per_s")
            for key, row in found["consumers"].items()
            if key.startswith("tapeline:") and wanted(key.partition(":")[2])
        ),
        None,
    )
    rows = []
    for key, row in found["consumers"].items():
        if not wanted(key.partition(":")[2]):
            continue
        if "missing" in row:
            why = results.without_paths(row["missing"].splitlines()[0])
            rows.append((row["label"], f"missing: {why[:120]}", *[""] * 5))
            continue
        ratio = f"{ours / row['events_per_s']:.1f}x" if ours else ""
        rows.append(
            (
                row["label"],
                f"{row['events_per_s']:,}",
                f"{row['best_events_per_s']:,}",
                ratio,
                f"{row['events_per_core_s']:,}",
                f"{row['cpu']:.2f}, {row['broker_cpu']:.2f}",
                f"{row['rss_max_mb']} MB",
            )
        )
    header = (
        title,
        "records/s",
        "best round",
        "Tapeline is",
        "records a core-second",
        "cores: it, the broker",
        "memory",
    )
    return rows_of(header, rows)


def picture(found: Result) -> str:
    """The throughput of all, as bars."""

    def bars(wanted: Callable[[str], bool]) -> list[Bar]:
        return [
            Bar(row["label"], row["events_per_s"], key.startswith("tapeline:"))
            for key, row in found["consumers"].items()
            if wanted(key.partition(":")[2]) and "missing" not in row
        ]

    return svg(
        "Records a second through one process",
        f"Same topic, same records, same engine; {described(found['machine'])}",
        (
            Panel(
                "Full analytics (only Tapeline also publishes reports)",
                bars(full_analytics),
                goal=150_000,
            ),
            Panel(
                "Empty handler", bars(lambda handler: handler in {"empty", "batches"}), goal=300_000
            ),
        ),
    )


def latency(found: Sequence[Result]) -> str:
    """Reports' latency under each load that was measured."""

    def spread(name: str, unit: str = "") -> list[str]:
        return [
            " / ".join(f"{one[name][p]:g}" for p in ("p50", "p95", "p99", "max")) + unit
            for one in found
        ]

    columns = [
        f"{one['symbols']} symbols, {one['rate']:,} events/s, every {one['period_ms']} ms"
        for one in found
    ]
    rows = [
        ("**latency of a report**, ms: p50 / p95 / p99 / max", *spread("latency_ms")),
        ("of it, from tick to subscriber, ms", *spread("accepted_after_tick_ms")),
        ("age of the data in a report, ms", *spread("data_age_ms")),
        ("size of a report, bytes", *spread("report_bytes")),
        (
            "reports a second, of those due",
            *(f"{one['reports_per_s']:g} of {one['reports_due_per_s']:g}" for one in found),
        ),
        ("cycles skipped", *(str(one["cycles_skipped"]) for one in found)),
        (
            "fast, slow cycle of a symbol, mean ms",
            *(f"{one['fast_cycle_mean_ms']:g}, {one['slow_cycle_mean_ms']:g}" for one in found),
        ),
        (
            "cores: worker, broker",
            *(f"{one['worker_cpu']:.2f}, {one['broker_cpu']:.2f}" for one in found),
        ),
        ("memory of the worker", *(f"{one['worker_rss_mb']} MB" for one in found)),
    ]
    commands = ", ".join(f"`{one['command']}`" for one in found)
    return "\n\n".join(
        (
            "### Latency of a report",
            f"{commands}: {described(found[0]['machine'])}.",
            rows_of(("", *columns), rows),
        )
    )


def cold_start(found: Result) -> str:
    """From a process's start to every symbol's report."""
    return "\n\n".join(
        (
            "### Cold start",
            f"`{found['command']}`: {described(found['machine'])}. {found['symbols']} symbols with "
            "full windows; seconds from the start of the process to the first report of every "
            "symbol, median.",
            rows_of(
                ("broker", "clean start", "straight after kill -9"),
                (
                    (name, f"{one['clean_s']:.2f} s", f"{one['after_kill_s']:.2f} s")
                    for name, one in found["brokers"].items()
                ),
            ),
        )
    )


def memory(found: Result) -> str:
    """Whether it stays flat."""
    shown = range(0, len(found["rss_mb"]), 10)
    return "\n\n".join(
        (
            "### Memory",
            f"`{found['command']}`: {found['records']:,} records, {found['minutes']} minutes of "
            "record time. From minute 35 on, resident memory stays within "
            f"{found['spread_after_warm_up']:.1%} (goal 5 %).",
            rows_of(
                ("minute of record time", *(str(minute) for minute in shown)),
                [("resident MB", *(f"{found['rss_mb'][minute]:g}" for minute in shown))],
            ),
        )
    )


def replay(found: Result) -> str:
    """A topic's way through ``tapeline replay``."""
    rows = [
        (
            f"{run['workers']} process{'es' if run['workers'] > 1 else ''}",
            f"{run['records_per_s']:,}",
            f"{run['reports']:,}",
            f"`{run['digest'][:16]}`",
        )
        for run in found["runs"]
    ]
    return "\n\n".join(
        (
            "### Replay of a topic",
            f"`{found['command']}`: {described(found['machine'])}. {found['records']:,} records of "
            "the standard mix, the whole command timed; goal 100,000 records/s, and the same "
            f"digest each time ({'reached' if found['same'] else '**not reached**'}).",
            rows_of(("", "records/s", "reports", "digest"), rows),
        )
    )


def bridge(found: Result) -> str:
    """A frame's way through the bridge, beside cryptofeed."""
    rows = [
        (
            name,
            f"{row['frames']:,}",
            f"{row['tapeline_us']:.2f}",
            f"{row['cryptofeed_us']:.2f}" if row["cryptofeed_us"] else found["missing"],
            f"{row['ratio']:.2f}x" if row["ratio"] else "",
        )
        for name, row in found["rows"].items()
    ]
    return "\n\n".join(
        (
            "### The bridge: parsing and assembly of recorded frames",
            f"`{found['command']}`: {described(found['machine'])}. One core, microseconds a frame; "
            "goal: 5 times as fast as cryptofeed. Stamped and encoded as records as well: "
            f"{found['with_records_us']:.2f}.",
            rows_of(("frames", "count", "Tapeline", "cryptofeed", "Tapeline is"), rows),
        )
    )


def venues(found: Result) -> str:
    """Each venue's frames, beside cryptofeed where it knows the dialect."""
    rows = [
        (
            f"{row['venue']}, `{row['recording']}`",
            f"{row['frames']:,}",
            f"{row['mb']:g}",
            f"{row['frames_per_s']:,}",
            f"{row['mb_per_s']:g}",
            f"{row['cryptofeed_frames_per_s']:,}" if row["ratio"] else "does not speak it",
            f"{row['ratio']:.2f}x" if row["ratio"] else "",
        )
        for row in found["rows"]
    ]
    header = (
        "recording",
        "frames",
        "MB",
        "frames/s",
        "MB/s",
        "cryptofeed, frames/s",
        "Tapeline is",
    )
    return "\n\n".join(
        (
            "### Parsing and assembly, by venue",
            f"`{found['command']}`: {described(found['machine'])}. One core; decoding, sequence "
            "checks, checksums (cryptofeed's, too), books and typed events.",
            rows_of(header, rows),
        )
    )


def audits(found: Result) -> str:
    """Live reports computed once more."""
    return "\n\n".join(
        (
            "### Audit of live reports",
            f"`{found['command']}`: {described(found['machine'])}. {found['equal']} of "
            f"{found['times']} reports of {found['symbol']} equal, {found['symbols']} symbols at "
            f"{found['rate']:,} events/s; an audit took {found['seconds']['p50']:g} s in the "
            f"median, {found['seconds']['max']:g} s at most.",
        )
    )


def section() -> str:
    """All that was measured, in Markdown; without what was not."""
    parts = []
    if (found := results.kept("throughput")) is not None:
        parts.append(throughput(found))
    loads = [one for name in LATENCIES if (one := results.kept(name)) is not None]
    if loads:
        parts.append(latency(loads))
    if (found := results.kept("cold_start")) is not None:
        parts.append(cold_start(found))
    if (found := results.kept("memory")) is not None:
        parts.append(memory(found))
    if (found := results.kept("replay")) is not None:
        parts.append(replay(found))
    if (found := results.kept("bridge")) is not None:
        parts.append(bridge(found))
    if (found := results.kept("venues")) is not None:
        parts.append(venues(found))
    if (found := results.kept("audit")) is not None:
        parts.append(audits(found))
    for name, told in (
        ("readers", docs_readers.readers),
        ("mcp", docs_readers.mcp),
        ("readers_hub", docs_readers.hub),
        ("dashboard", docs_readers.dashboard),
    ):
        if (found := results.kept(name)) is not None:
            parts.append(told(found))
    return "\n\n".join(parts)


def replaced(page: str, measured: str) -> str:
    """The page with those sections between the markers replaced that were measured anew.

    Raises:
        ValueError: The page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} needs the lines {BEGIN} and {END}")
    return f"{before}{begin}\n\n{renewed(old, measured)}\n\n{end}{after}"


def main(argv: list[str] | None = None) -> int:
    """Write page and picture."""
    measured = section()
    if not measured:
        print("nothing measured yet: run the benchmarks first", file=sys.stderr)
        return 1
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")
    if (found := results.kept("throughput")) is not None:
        PICTURE.write_text(picture(found), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}", file=sys.stderr)
    return 0
