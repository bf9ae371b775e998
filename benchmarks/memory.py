"""Whether engines' memory stays where it is, once their windows are full.

    python -m benchmarks memory [--minutes 60] [--rate 600] [--symbols 15] [--json]

Record time runs at full speed through one set of engines, as a worker drives them: batches by
symbol, reports every few seconds, a snapshot of each now and then. Windows are full after 30
minutes; from 35 on, resident memory has to stay within 5 %. ``--rate 5600`` makes it 20 million
records. The records are made on the way, by generators of constant size in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from typing import Any

from benchmarks import mix
from benchmarks.machine import described, machine, memory_mb
from tables.engine import Engine

BATCH = 2_000
WARM_MINUTES = 35
WITHIN = 0.05
REPORT_MS = 5_000
SNAPSHOT_MS = 60_000

Batch = dict[bytes, list[tuple[int, bytes]]]


class Engines:
    """A worker's engines without the worker.

    Attributes:
        engines: By key.
        problems: What engines counted, and refused records.
    """

    def __init__(self) -> None:
        self.engines: dict[bytes, Engine] = {}
        self.problems = 0
        self.snapshot_bytes = 0
        self._report_ms = self._snapshot_ms = 0

    def apply(self, batch: Batch) -> None:
        """A batch of each symbol, then whatever is due."""
        for key, records in batch.items():
            engine = self.engines.get(key)
            if engine is None:
                engine = self.engines[key] = Engine(key.decode(), mix.VENUE)
            outcome = engine.apply(records)
            self.problems += len(outcome.failures) + sum(outcome.counts.values())
        now_ms = self.newest_ms
        if now_ms >= self._report_ms:
            self._report_ms = now_ms + REPORT_MS
            for engine in self.engines.values():
                engine.fast_report(now_ms)
                engine.slow_report(now_ms)
        if now_ms >= self._snapshot_ms:
            self._snapshot_ms = now_ms + SNAPSHOT_MS
            self.snapshot_bytes = sum(len(e.snapshot()) for e in self.engines.values())

    @property
    def newest_ms(self) -> int:
        """Record time."""
        return max(engine.newest_ms for engine in self.engines.values())


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Memory by minute of record time."""
    about = {"machine": machine()}
    records = args.minutes * 60 * args.rate
    engines = Engines()
    by_minute: list[float] = []
    began = time.monotonic()
    batch: Batch = defaultdict(list)
    mixed = mix.records(records, symbol_count=args.symbols, events_per_s=args.rate)
    for offset, (key, value) in enumerate(mixed):
        batch[key].append((offset, value))
        if offset % BATCH == BATCH - 1 or offset == records - 1:
            engines.apply(batch)
            batch.clear()
            minutes = (engines.newest_ms - mix.START_MS) // 60_000
            while len(by_minute) < minutes:
                by_minute.append(round(memory_mb(os.getpid()), 1))
    by_minute.append(round(memory_mb(os.getpid()), 1))
    flat = by_minute[WARM_MINUTES:]
    spread = max(flat) / min(flat) - 1 if flat else None
    return {
        "records": records,
        "minutes": args.minutes,
        "seconds": round(time.monotonic() - began, 1),
        "rss_mb": by_minute,
        "rss_mb_warm": flat[0] if flat else None,
        "rss_mb_end": by_minute[-1],
        "spread_after_warm_up": round(spread, 4) if spread is not None else None,
        "flat": spread is not None and spread <= WITHIN,
        "snapshot_bytes_per_symbol": round(engines.snapshot_bytes / len(engines.engines)),
        "problems": engines.problems,
        **about,
    }


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 where memory is not flat."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=int, default=60, help="of record time")
    options.add_argument("--rate", type=int, default=600, help="events a second of record time")
    options.add_argument("--symbols", type=int, default=15)
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    if args.minutes <= WARM_MINUTES:
        options.error(f"--minutes: windows are full after 30, so more than {WARM_MINUTES}")
    found = measured(args)
    print(
        f"{found['records']:,} records, {args.minutes} minutes of record time in "
        f"{found['seconds']:g} s; {described(found['machine'])}",
        file=sys.stderr,
    )
    for minute in range(0, len(found["rss_mb"]), 5):
        print(f"  minute {minute:>3}  {found['rss_mb'][minute]:>7} MB", file=sys.stderr)
    print(
        f"from minute {WARM_MINUTES}: {found['rss_mb_warm']} to {found['rss_mb_end']} MB, within "
        f"{found['spread_after_warm_up']:.1%} (goal 5 %): {'flat' if found['flat'] else 'NOT flat'}",
        file=sys.stderr,
    )
    if args.json:
        print(json.dumps(found))
    return 0 if found["flat"] and not found["problems"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
