"""What one engine costs: applying, reporting, keeping; as ratios to decoding alone.

    python -m benchmarks engine [RECORDING ...] [--seconds 300] [--json]

Records are a recording's, or the simulated exchange's at seed 7, as the bridge writes them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

from benchmarks.simulator_likeness import recorded, simulated
from streams import events
from tables import lane
from tables.engine import Engine
from tables.report import Position, Source, Writer, compose, encode_report

Records = list[tuple[int, bytes]]
BATCH = 500
REPEATS = 3


def records_of(moments: Any) -> Records:
    """Stamped and encoded, as they stand in the topic."""
    records: Records = []
    for _now_ms, seen in moments:
        for event in seen:
            events.stamp(event, events.Feed(1, len(records) + 1), 1)
            records.append((len(records), events.encode(event)))
    return records


def best(work: Callable[[], None]) -> float:
    """Seconds of the fastest of a few runs: the one least disturbed."""
    times = []
    for _ in range(REPEATS):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return min(times)


def decode_all(records: Records) -> None:
    for _, raw in records:
        events.decode(raw)


def apply_all(records: Records, symbol: str) -> Engine:
    engine = Engine(symbol, "binance")
    for at in range(0, len(records), BATCH):
        engine.apply(records[at : at + BATCH])
    return engine


def without_the_lane(work: Callable[[], None]) -> None:
    """As where nobody has compiled it."""
    taken, lane.take = lane.take, None
    try:
        work()
    finally:
        lane.take = taken


def timed(work: Callable[[], object], times: int) -> dict[str, float]:
    """Mean and p99 of single calls, ms."""
    taken = []
    for _ in range(times):
        began = perf_counter()
        work()
        taken.append((perf_counter() - began) * 1000)
    return {
        "mean_ms": round(sum(taken) / times, 3),
        "p99_ms": round(quantiles(taken, n=100)[-1], 3),
    }


def measure(name: str, symbol: str, records: Records) -> dict[str, Any]:
    decode_s = best(lambda: decode_all(records))
    apply_s = best(lambda: apply_all(records, symbol) and None)  # type: ignore[func-returns-value]
    slower_s = best(lambda: without_the_lane(lambda: apply_all(records, symbol) and None))  # type: ignore[func-returns-value]
    engine = apply_all(records, symbol)
    now_ms = engine.newest_ms + 100
    at = Position("t", 0, engine.applied, now_ms)

    def whole() -> None:
        report = compose(
            engine.fast_report(now_ms),
            slow,
            writer=Writer("bench", 1),
            seq=1,
            updated_at=now_ms,
            source=Source(at, at),
        )
        encode_report(report, 262_144)

    slow = engine.slow_report(now_ms)
    return {
        "name": name,
        "records": len(records),
        "bytes_per_record": round(sum(len(raw) for _, raw in records) / len(records)),
        "apply_us": round(apply_s / len(records) * 1e6, 2),
        "records_per_s": round(len(records) / apply_s),
        "apply_vs_decode": round(apply_s / decode_s, 2),
        "fast_lane": "there" if lane.take is not None else "not built",
        "without_the_lane": f"{slower_s / apply_s:.2f} times as long",
        "fast": timed(lambda: engine.fast_report(now_ms), 1000),
        "fast_encoded": timed(whole, 1000),
        "slow": timed(lambda: engine.slow_report(now_ms), 200),
        "snapshot": {**timed(engine.snapshot, 100), "bytes": len(engine.snapshot())},
    }


def main(argv: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("recording", nargs="*", type=Path)
    options.add_argument("--seconds", type=int, default=300, help="event time of the simulation")
    options.add_argument("--json", action="store_true")
    args = options.parse_args(argv)
    rows = [
        measure(
            "simulator, seed 7",
            "BTCUSDT",
            records_of(simulated("BTCUSDT", 7, 300.0, args.seconds)),
        )
    ]
    if args.recording:
        symbol, moments = recorded(args.recording)
        rows.append(measure("recording", symbol, records_of(moments)))
    for row in rows:
        for key, value in row.items():
            print(f"{key:<18} {value}", file=sys.stderr)
        print(file=sys.stderr)
    if args.json:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
