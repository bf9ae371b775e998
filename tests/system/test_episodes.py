"""What the simulated exchange plays, the report says: wire to finding, on a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from streams import events
from streams.events import Event
from streams.simulator.dialect import Message
from streams.simulator.exchange import Exchange
from streams.symbols import Listing
from streams.venues.binance.assembler import BinanceAssembler
from tables.engine import Engine
from tables.report import SlowPart

START_MS = 1_700_000_000_000
STEP_MS = 100
SLOW_MS = 2_000
WARM_UP_MS = 90_000
SYMBOL = "BTCUSDT"


class System:
    """Exchange, assembler and engine, joined without a network."""

    def __init__(self, seed: int = 7) -> None:
        self.exchange = Exchange([SYMBOL], seed=seed, start_ms=START_MS, rate=300.0)
        self.assembler = BinanceAssembler([Listing("binance", SYMBOL, SYMBOL)])
        self.engine = Engine(SYMBOL, "binance")
        self.now_ms = START_MS
        self._wanted = set(self.assembler.stream_path().partition("streams=")[2].split("/"))
        self._offset = 0
        self._apply(self.assembler.connected(START_MS))

    def run(self, ms: int) -> Iterator[int]:
        """Let time pass; yields at each slow cycle."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            self.now_ms += STEP_MS
            for item in self.exchange.step(self.now_ms):
                if isinstance(item, Message) and item.stream in self._wanted:
                    frame = f'{{"stream":"{item.stream}","data":{item.data}}}'
                    self._apply(self.assembler.receive(frame, item.ts_ms))
            for request in self.assembler.requests_to_send():
                body = (
                    self.exchange.snapshot(SYMBOL, 1000)
                    if request.purpose == "snapshot"
                    else json.dumps({"symbols": self.exchange.listings()})
                )
                self._apply(self.assembler.http_response(request, 200, body.encode(), self.now_ms))
            if self.now_ms % SLOW_MS == 0:
                yield self.now_ms

    def _apply(self, seen: list[Event]) -> None:
        records = []
        for event in seen:
            self._offset += 1
            events.stamp(event, events.Feed(1, self._offset), 1)
            records.append((self._offset, events.encode(event)))
        outcome = self.engine.apply(records)
        assert outcome.failures == []


def warmed_up(seed: int = 7) -> System:
    system = System(seed)
    for _ in system.run(WARM_UP_MS):
        pass
    return system


def cycles_until(system: System, name: str, found: object) -> int:
    """Slow cycles from an episode's start until ``found`` says yes of the slow part."""
    system.exchange.start(name, SYMBOL)
    for cycle, now_ms in enumerate(system.run(60_000), start=1):
        if found(system.engine.slow_report(now_ms)):  # type: ignore[operator]
            return cycle
    pytest.fail(f"{name} was not found in 60 s")


def anomaly(kind: str) -> object:
    return lambda part: any(one.type == kind for one in part.anomalies)


def high_wall(part: SlowPart) -> bool:
    return any(wall.severity == "high" for wall in part.liquidity.walls)


def long_vacuum(part: SlowPart) -> bool:
    return any(run.levels >= 6 for run in part.liquidity.vacuums)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("wall", high_wall),
        ("vacuum", long_vacuum),
        ("iceberg", anomaly("iceberg")),
        ("spoof", anomaly("spoofing")),
        ("flash_crash", anomaly("flash_crash_risk")),
    ],
)
def test_an_episode_is_found_within_two_slow_cycles(name: str, found: object) -> None:
    """And was not there before it began."""
    system = warmed_up()
    assert not found(system.engine.slow_report(system.now_ms))  # type: ignore[operator]
    assert cycles_until(system, name, found) <= 2


def test_a_swallowed_depth_event_is_told_and_healed() -> None:
    """One gap, the book held and marked, then a new snapshot."""
    system = warmed_up()
    system.exchange.start("gap", SYMBOL, at_ms=system.now_ms + 1_000)
    states = set()
    for _ in range(30):
        for _now_ms in system.run(200):
            pass
        states.add(system.engine.fast_report(system.now_ms).ingestion.book)
    gaps = system.engine.fast_report(system.now_ms).gaps
    assert gaps.by_reason == {"sequence": 1}
    assert system.engine.book.state == "ok"
    assert states <= {"ok", "gap"}
    assert gaps.trades_missing == gaps.duplicates == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 11])
def test_a_quiet_seed_raises_no_anomaly_in_ten_minutes(seed: int) -> None:
    """A detector that cries wolf is switched off."""
    system = System(seed)
    looks = 0
    for now_ms in system.run(600_000):
        assert system.engine.slow_report(now_ms).anomalies == []
        looks += 1
    assert looks == 300
