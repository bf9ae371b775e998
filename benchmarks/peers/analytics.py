"""Tapeline's own engines, called as another library's handler would: one event at a time.

`row` is what a stream processor's user keeps in a table with each event, so that a restart loses
nothing; `snapshot` is the whole state, which a symbol keeps once a second.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.peers.meter import Meter
from tables.engine import Engine

HANDLERS = ("empty", "engine", "engine-event", "engine-second")
"""Count only; engines in memory; with a row kept at each event; with a snapshot each second."""

SAVE_EVERY_S = 1.0


def arguments(description: str, handlers: tuple[str, ...] = HANDLERS) -> argparse.Namespace:
    """The options that every runner has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--kafka", required=True, help="host:port")
    options.add_argument("--topic", required=True)
    options.add_argument("--partitions", type=int, required=True)
    options.add_argument("--group", required=True)
    options.add_argument("--handler", choices=handlers, required=True)
    options.add_argument("--records", type=int, required=True)
    options.add_argument("--seconds", type=float, required=True, help="longest measurement")
    options.add_argument("--state-dir", default="", help="where a library keeps its state")
    return options.parse_args()


class Analytics:
    """An engine for each symbol.

    Attributes:
        engines: By key.
        meter: Told of gaps and refused records at the end.
    """

    def __init__(self, meter: Meter) -> None:
        self.engines: dict[bytes, Engine] = {}
        self._saved: dict[bytes, float] = {}
        self._problems: dict[str, int] = {}
        meter.extra["problems"] = self._problems

    def apply(self, key: bytes, offset: int, value: bytes) -> Engine:
        """One event; its engine."""
        engine = self.engines.get(key)
        if engine is None:
            engine = self.engines[key] = Engine(key.decode(), "binance")
        self.check(engine.apply(((offset, value),)))
        return engine

    def check(self, outcome: Any) -> None:
        """Remember what must not happen."""
        if outcome.failures or outcome.counts:
            for name, count in outcome.counts.items():
                self._problems[name] = self._problems.get(name, 0) + count
            if outcome.failures:
                self._problems["failures"] = self._problems.get("failures", 0) + 1

    def due(self, key: bytes) -> bool:
        """Whether the symbol's state is to be saved now."""
        now = time.monotonic()
        if now < self._saved.get(key, 0.0):
            return False
        self._saved[key] = now + SAVE_EVERY_S
        return True


def row(engine: Engine) -> dict[str, Any]:
    """What an event has changed, small: as a row of a table of rolling figures."""
    trade = engine.last_trade
    return {
        "offset": engine.applied,
        "ms": engine.newest_ms,
        "book_seq": engine.book.seq,
        "px": trade.px if trade is not None else None,
        "sz": trade.sz if trade is not None else None,
    }
