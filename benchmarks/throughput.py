"""Records a second through one process: Tapeline and its peers on the same topic, in turn.

    python -m benchmarks throughput [RECORDING ...] [--records 2000000] [--repeats 3] [--json]

A real Kafka (``KAFKA_URL``, or one fetched by Maven) holds the standard mix (`benchmarks.mix`)
before anything is measured. Each consumer is an operating system process of its own and reads
the same topic from its beginning, alone; rounds are interleaved. Its figure is the records
behind its first batch over the time from there to the last one, start-up excluded, median of the
rounds.

- *everything on*: the real worker, ``faust -A agents worker``: full analytics, reports and ticks
  to a real store, checkpoints to the changelog, commits, metrics. Seen through its ``/metrics``,
  asked ten times a second.
- *engine*: the peers call the very same `tables` engine for each event: in memory; with a row
  kept in their state at each event; with the engine's snapshot kept each second. They publish no
  reports.
- *empty*: a handler that counts, in the unit it is called for: a batch in Tapeline, a record in the
  others, and both in Bytewax. Nobody decodes anything.

With RECORDING (files of one Binance recording, in order), a second topic holds its records, as
fifteen symbols side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import mix
from benchmarks.consumers import Consumer, ConsumerFailed, Run, run
from benchmarks.machine import described, machine, peer_versions, peers_ready, versions
from benchmarks.servers import Bench, servers
from benchmarks.simulator_likeness import recorded
from streams import events
from streams.events import Trade

PARTITIONS = 16

CONSUMERS = (
    Consumer("tapeline", "Tapeline, everything on", "everything"),
    Consumer("faust", "stock Faust, a row at each event", "engine-event", "faust_stock"),
    Consumer("faust", "stock Faust, a snapshot each second", "engine-second", "faust_stock"),
    Consumer("faust", "stock Faust, in memory only", "engine", "faust_stock"),
    Consumer("quix", "Quix Streams, a row at each event", "engine-event", "quix", peer=True),
    Consumer("quix", "Quix Streams, a snapshot each second", "engine-second", "quix", peer=True),
    Consumer("quix", "Quix Streams, in memory only", "engine", "quix", peer=True),
    Consumer("bytewax", "Bytewax, stateful_map in memory", "engine", "bytewax_flow", peer=True),
    Consumer("tapeline", "Tapeline's transport, empty handler", "empty", "tapeline_empty"),
    Consumer("tapeline", "the same, each record decoded", "decode", "tapeline_empty"),
    Consumer("faust", "stock Faust, empty agent", "empty", "faust_stock"),
    Consumer("quix", "Quix Streams, empty update", "empty", "quix", peer=True),
    Consumer("bytewax", "Bytewax, empty map", "empty", "bytewax_flow", peer=True),
    Consumer("bytewax", "Bytewax, batches at the sink", "batches", "bytewax_flow", peer=True),
)

SAME_ANALYTICS = {"faust": "engine-event", "quix": "engine-event", "bytewax": "engine"}
"""The run that stands for a peer: its state outlives the process, as Tapeline's does, where the
peer keeps state in Kafka at all."""


@dataclass(slots=True)
class Row:
    """A consumer's rounds.

    Attributes:
        missing: Why there is no figure.
    """

    consumer: Consumer
    runs: list[Run] = field(default_factory=list)
    missing: str = ""

    @property
    def per_s(self) -> float:
        """The median round; 0 without one."""
        return statistics.median(run.per_s for run in self.runs) if self.runs else 0.0

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        if not self.runs:
            return {"label": self.consumer.label, "missing": self.missing}
        middle = min(self.runs, key=lambda run: abs(run.per_s - self.per_s))
        return {
            "label": self.consumer.label,
            "events_per_s": round(self.per_s),
            "best_events_per_s": round(max(run.per_s for run in self.runs)),
            "rounds": [round(run.per_s) for run in self.runs],
            "records": middle.records,
            # What the figure would be with a core of its own: steadier where others are at work.
            "events_per_core_s": round(middle.per_s / middle.cpu) if middle.cpu else None,
            "cpu": round(middle.cpu, 2),
            "broker_cpu": round(middle.broker_cpu, 2),
            "rss_max_mb": round(max(run.rss_max_mb for run in self.runs)),
            "start_s": round(middle.start_s, 1),
            **middle.detail,
        }


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach.

    Attributes:
        name: In words.
        value: What was measured; None where a part of it is missing.
        at_least: The goal.
        unit: ``/s`` or ``x``.
    """

    name: str
    value: float | None
    at_least: float
    unit: str

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value is not None and self.value >= self.at_least

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        value = None if self.value is None else round(self.value, 2)
        return {"measured": value, "goal": self.at_least, "reached": self.reached}


def goals(rows: dict[str, Row]) -> list[Goal]:
    """The goals, beside what was measured."""

    def rate(key: str) -> float:
        row = rows.get(key)
        return row.per_s if row is not None else 0.0

    def ratio(ours: str, *theirs: str) -> float | None:
        best = max((rate(key) for key in theirs), default=0.0)
        return rate(ours) / best if best and rate(ours) else None

    ours, empty = "tapeline:everything", "tapeline:empty"
    peers = [key for key in rows if rows[key].consumer.handler.startswith("engine")]
    return [
        Goal("everything on", rate(ours) or None, 150_000, "/s"),
        Goal("to stock Faust, a row at each event", ratio(ours, "faust:engine-event"), 20, "x"),
        Goal("to the best of the peers' runs", ratio(ours, *peers), 1, "x"),
        Goal("empty handler", rate(empty) or None, 300_000, "/s"),
        Goal("empty, to stock Faust", ratio(empty, "faust:empty"), 20, "x"),
        Goal("empty, to Quix Streams", ratio(empty, "quix:empty"), 2, "x"),
        Goal("empty, to Bytewax", ratio(empty, "bytewax:empty"), 2, "x"),
    ]


def recording(files: list[Path], copies: int = len(mix.MARKETS)) -> Iterator[mix.Keyed]:
    """A recording's records as a bridge writes them, as several symbols side by side."""
    _symbol, moments = recorded(files)
    names = mix.symbols(copies)
    for seq, event in enumerate((event for _, seen in moments for event in seen), 1):
        for name in names:
            event.symbol = name
            if isinstance(event, Trade):
                event.event_id = f"{event.venue}:{name}:{event.trade_id}"
            events.stamp(event, events.Feed(1, seq), 1)
            yield name.encode(), events.encode(event)


async def measure(bench: Bench, args: argparse.Namespace, records: int) -> dict[str, Row]:
    """All consumers over one topic, in interleaved rounds."""
    no_peers = "" if args.no_peers else peers_ready()
    rows = {c.key: Row(c) for c in CONSUMERS if not args.only or c.key in args.only.split(",")}
    for row in rows.values():
        if row.consumer.peer and (no_peers or args.no_peers):
            row.missing = no_peers or "left out"
    for turn in range(args.repeats):
        for row in rows.values():
            if row.missing:
                continue
            said = f"  round {turn + 1}/{args.repeats}  {row.consumer.label:<38}"
            try:
                found = await run(row.consumer, bench, records, args.seconds)
            except ConsumerFailed as failed:
                row.missing = str(failed)
                row.runs.clear()
                print(f"{said} FAILED: {failed}", file=sys.stderr)
                continue
            row.runs.append(found)
            print(
                f"{said} {found.per_s:>9,.0f}/s  cpu {found.cpu:4.2f}  broker "
                f"{found.broker_cpu:4.2f}  {found.rss_max_mb:5.0f} MB",
                file=sys.stderr,
            )
    return rows


def table(rows: dict[str, Row]) -> str:
    """Rows and goals, to be read."""
    lines = []
    for row in rows.values():
        if row.missing:
            said = row.missing.splitlines()
            why = said[0] if len(said) == 1 else f"{said[0]} {said[-1]}"
            lines.append(f"{row.consumer.label:<40}  missing: {why[:160]}")
            continue
        found = row.as_json()
        lines.append(
            f"{row.consumer.label:<40}{found['events_per_s']:>10,}/s"
            f"  best {found['best_events_per_s']:>9,}  cpu {found['cpu']:4.2f}"
            f"  broker {found['broker_cpu']:4.2f}  {found['rss_max_mb']:>5} MB"
            f"  {found['events_per_core_s']:>9,} a core-second"
        )
    lines.append("")
    for goal in goals(rows):
        value = "missing" if goal.value is None else f"{goal.value:,.1f}{goal.unit}"
        mark = "reached" if goal.reached else "NOT reached"
        lines.append(f"{goal.name:<40}{value:>12}  goal {goal.at_least:,}{goal.unit}  {mark}")
    return "\n".join(lines)


def summary(rows: dict[str, Row]) -> dict[str, Any]:
    """One input's figures, the names that other programs look for first."""

    def rate(key: str) -> int | None:
        row = rows.get(key)
        return round(row.per_s) if row is not None and row.runs else None

    return {
        "tapeline_events_per_s": rate("tapeline:everything"),
        "stock_faust_events_per_s": rate(f"faust:{SAME_ANALYTICS['faust']}"),
        "quix_events_per_s": rate(f"quix:{SAME_ANALYTICS['quix']}"),
        "bytewax_events_per_s": rate(f"bytewax:{SAME_ANALYTICS['bytewax']}"),
        "empty": {
            "tapeline_events_per_s": rate("tapeline:empty"),
            "stock_faust_events_per_s": rate("faust:empty"),
            "quix_events_per_s": rate("quix:empty"),
            "bytewax_events_per_s": rate("bytewax:empty"),
        },
        "goals": {goal.name: goal.as_json() for goal in goals(rows)},
        "consumers": {key: row.as_json() for key, row in rows.items()},
        "missing": {key: row.missing for key, row in rows.items() if row.missing},
    }


async def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Fill the topics and measure."""
    about: dict[str, Any] = {"machine": machine(), "versions": versions()}
    made = mix.cached(args.records, events_per_s=args.event_rate)
    inputs: dict[str, tuple[str, Any]] = {"mix": (made.listings, made)}
    if args.recording:
        inputs["recording"] = (mix.listings(), recording(args.recording))
    found: dict[str, Any] = {}
    async with servers() as running:
        for name, (listings, keyed) in inputs.items():
            bench = Bench(running, listings, args.partitions)
            async with bench.topics():
                print(f"{name}: filling the topic", file=sys.stderr)
                records = await bench.fill(keyed)
                assert sum((await bench.end_offsets()).values()) == records
                rows = await measure(bench, args, records)
            print(f"\n{name}: {records:,} records, {described(about['machine'])}", file=sys.stderr)
            print(table(rows), file=sys.stderr)
            found[name] = {"records": records, **summary(rows)}
        about["broker"] = running.broker
    about["versions"] |= {f"peers: {k}": v for k, v in peer_versions().items()}
    about["measured_at"] = time.strftime("%Y-%m-%d", time.gmtime())
    main_input = found.pop("mix")
    return {**main_input, **about, **({"recording": found["recording"]} if found else {})}


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 where a goal is not reached, or a consumer is missing."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("recording", nargs="*", type=Path, help="files of one, in order")
    options.add_argument("--records", type=int, default=mix.RECORDS)
    options.add_argument("--event-rate", type=int, default=mix.EVENTS_PER_S, help="of record time")
    options.add_argument("--partitions", type=int, default=PARTITIONS)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--seconds", type=float, default=30.0, help="longest of one measurement")
    options.add_argument("--only", default="", help="NAME:HANDLER,... such as tapeline:everything")
    options.add_argument("--no-peers", action="store_true", help="neither Quix nor Bytewax")
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    found = asyncio.run(measured(args))
    if args.json:
        print(json.dumps(found))
    reached = all(goal["reached"] for goal in found["goals"].values())
    return 0 if reached and not found["missing"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
