"""How like a real market the simulator is: walls and vacuums a look, and what else is seen.

    python benchmarks/simulator_likeness.py [RECORDING ...] [--seeds 7,1] [--rate 300] [--json]

Both sides go through the Binance assembler, and the same eyes look at the book every 2 s: a
wall is a level of at least 1.5 x the 95th percentile of the last 10,000 sizes that book deltas
left standing, among the best 50 levels of a side; a vacuum is a run of 3 or more of these
levels below the 10th percentile. With several seeds the means are compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streams import events
from streams.capture.dialects import dialect_of
from streams.capture.player import Player, listings_of, survey
from streams.events import BookDelta, BookSnapshot, Event, Trade
from streams.ladder import Ladder
from streams.simulator.exchange import Exchange
from streams.simulator.flow import RATE_DEFAULT
from streams.simulator.tape import START_MS, moments
from streams.symbols import Listing
from streams.venues.binance.assembler import BinanceAssembler
from tables.engine import Engine

LOOK_MS = 2_000
LEVELS = 50
SAMPLES = 10_000
SAMPLES_MIN = 100

Moments = Iterable[tuple[int, list[Event]]]


@dataclass
class Looks:
    """Counts of one run."""

    looks: int = 0
    walls: int = 0
    vacuums: int = 0
    records: int = 0
    trades: int = 0
    deltas: int = 0
    levels: int = 0
    seconds: float = 0.0
    spread_1_tick: int = 0
    anomalies: Counter[str] = field(default_factory=Counter)

    def row(self, name: str, cpu_s: float) -> dict[str, Any]:
        """Figures for the table."""
        looks, seconds = max(1, self.looks), max(1.0, self.seconds)
        return {
            "name": name,
            "looks": self.looks,
            "walls": round(self.walls / looks, 3),
            "vacuums": round(self.vacuums / looks, 3),
            "trades_per_s": round(self.trades / seconds, 2),
            "depth_events_per_s": round(self.deltas / seconds, 2),
            "levels_per_s": round(self.levels / seconds, 1),
            "spread_1_tick": round(self.spread_1_tick / looks, 4),
            "anomalies": dict(self.anomalies),
            "records": self.records,
            "cpu_s": round(cpu_s, 2),
        }


class Observer:
    """Keeps the book of one symbol and looks at it."""

    def __init__(self, symbol: str) -> None:
        self.found = Looks()
        self._bids, self._asks = Ladder(), Ladder()
        self._sizes: deque[int] = deque(maxlen=SAMPLES)
        self._first_ms = self._next_ms = 0
        self._offset = 0
        self._engine = Engine(symbol, "binance")

    def see(self, now_ms: int, seen: list[Event]) -> None:
        """Take events in, and look when it is time."""
        found = self.found
        for event in seen:
            if isinstance(event, BookSnapshot):
                self._bids, self._asks = Ladder(event.bids), Ladder(event.asks)
                if not self._next_ms:
                    self._first_ms, self._next_ms = now_ms, now_ms + LOOK_MS
            elif isinstance(event, BookDelta):
                found.deltas += 1
                found.levels += len(event.bids) + len(event.asks)
                for ladder, levels in ((self._bids, event.bids), (self._asks, event.asks)):
                    for px, sz in levels:
                        ladder.set(px, sz)
                        if sz:
                            self._sizes.append(sz)
            elif isinstance(event, Trade):
                found.trades += 1
            self._offset += 1
            events.stamp(event, events.Feed(1, self._offset), 1)
            self._engine.apply([(self._offset, events.encode(event))])
        found.records = self._offset
        while self._next_ms and now_ms >= self._next_ms:
            self._look(self._next_ms)
            self._next_ms += LOOK_MS
        found.seconds = (now_ms - self._first_ms) / 1000

    def _look(self, now_ms: int) -> None:
        found = self.found
        for kind in {a.type for a in self._engine.slow_report(now_ms).anomalies}:
            found.anomalies[kind] += 1
        if len(self._sizes) < SAMPLES_MIN:
            return
        found.looks += 1
        found.spread_1_tick += self._asks.prices[0] - self._bids.prices[-1] == 1
        p10, p95 = np.percentile(np.fromiter(self._sizes, float), (10, 95))
        for levels in (self._bids.highest(LEVELS), self._asks.lowest(LEVELS)):
            found.walls += sum(bool(sz >= 1.5 * p95) for _, sz in levels)
            run = 0
            for sz in (*(sz for _, sz in levels), p10):
                if sz < p10:
                    run += 1
                else:
                    found.vacuums += int(run >= 3)
                    run = 0


def simulated(
    symbol: str, seed: int, rate: float, seconds: int
) -> Iterator[tuple[int, list[Event]]]:
    """The simulator's frames through the assembler, as fast as it goes."""
    exchange = Exchange([symbol], seed=seed, start_ms=START_MS, rate=rate)
    assembler = BinanceAssembler([Listing("binance", symbol, symbol)])
    yield from moments(exchange, assembler, seconds)
    assert assembler.counts.gaps == assembler.counts.crossed == assembler.counts.errors == 0


def recorded(files: list[Path]) -> tuple[str, Moments]:
    """A recording of one symbol through the same assembler."""
    dialect = dialect_of("binance")
    found = survey(dialect, files)
    listings = listings_of(dialect, found.symbols[:1])
    assembler = dialect.assembler(listings, infer_instruments=not found.has_instruments)
    return listings[0].symbol, Player(assembler, dialect, files).play()


def observe(name: str, symbol: str, moments: Moments) -> dict[str, Any]:
    """Run one side to its end."""
    began = time.process_time()
    observer = Observer(symbol)
    for now_ms, seen in moments:
        observer.see(now_ms, seen)
    return observer.found.row(name, time.process_time() - began)


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 if walls or vacuums are not within 2x of the recording's, or a quiet seed
    raises an anomaly."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("recording", nargs="*", type=Path, help="files of one recording, in order")
    options.add_argument("--symbol", default="BTCUSDT")
    options.add_argument("--seeds", default="7,1,2")
    options.add_argument("--rate", type=float, default=RATE_DEFAULT, help="book changes a second")
    options.add_argument("--seconds", type=int, default=600, help="event time of each seed")
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    rows = []
    for seed in map(int, args.seeds.split(",")):
        moments = simulated(args.symbol, seed, args.rate, args.seconds)
        rows.append(observe(f"simulator, seed {seed}", args.symbol, moments))
    real = observe("recording", *recorded(args.recording)) if args.recording else None
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in ("walls", "vacuums")}
    quiet = not any(row["anomalies"] for row in rows)
    ratios = {key: round(mean[key] / real[key], 3) for key in mean} if real else {}
    for row in (*rows, *([real] if real else [])):
        print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)
    print(f"simulator / recording: {ratios or 'no recording given'}", file=sys.stderr)
    print(f"quiet seeds raise no anomaly: {quiet}", file=sys.stderr)
    if args.json:
        print(json.dumps({"simulator": rows, "recording": real, "ratios": ratios, "quiet": quiet}))
    return 0 if quiet and all(0.5 <= ratio <= 2 for ratio in ratios.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
