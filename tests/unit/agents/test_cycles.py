"""The fast and the slow cycle: what is handed on, when, and as of when."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from agents.cycles import TURN_MS, Cycles, Draft
from agents.ledger import CommitLedger
from agents.metrics import Metrics
from agents.schedule import phase_ms
from agents.shards import Shards
from streams.symbols import parse_symbols
from streams.topics import partition_of
from tables.parameters import Parameters
from tables.report import decode_report
from tapeline.clock import ManualClock
from tapeline.config import Settings, load_settings
from tapeline.logging import tell_lags
from tapeline.traceparent import TraceContext
from tests.support.batches import batch
from tests.support.tape import START_MS, opened

SYMBOL = "BTCUSDT"
HOME = partition_of(SYMBOL, 64)


class Raw(msgspec.Struct):
    offset: int
    value: bytes
    partition: int = HOME
    key: bytes = SYMBOL.encode()


class Sink:
    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    def put(self, symbol: str, draft: Draft) -> None:
        assert symbol == SYMBOL
        self.drafts.append(draft)


class Bench:
    """Cycles over one symbol, with a clock that is moved by hand."""

    def __init__(self, **settings: Any) -> None:
        self.settings: Settings = load_settings({}, node_id="n1", **settings)
        self.shards = Shards(parse_symbols(f"binance:{SYMBOL}"), 64, Parameters(), CommitLedger())
        self.shards.assign({HOME}, [])
        self.clock = ManualClock(START_MS + 60_000)
        self.metrics = Metrics()
        self.sink = Sink()
        self.owned = [SYMBOL]
        self.cycles = Cycles(
            self.settings, self.shards, self.sink, lambda: self.owned, self.metrics, self.clock
        )
        self.tape = opened()

    def feed(self) -> None:
        self.shards.apply(batch(HOME, [Raw(*record) for record in self.tape.records]))

    async def spin(self, ms: int, step_ms: int = 10) -> None:
        """Let the cycles run while the clock goes on."""
        running = asyncio.create_task(self.cycles.run())
        for _ in range(ms // step_ms):
            self.clock.advance(step_ms)
            # Longer than the cycles' own pause, which is real time and at most 50 ms.
            await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def skipped(self, cycle: str) -> float:
        return (
            self.metrics.registry.get_sample_value(
                "tapeline_cycles_skipped_total", {"cycle": cycle}
            )
            or 0.0
        )


def test_a_new_owners_first_report_is_whole() -> None:
    """The slow part is computed when the symbol is taken over."""
    bench = Bench()
    bench.feed()
    bench.cycles.refresh()
    bench.cycles._run_fast(SYMBOL)
    (draft,) = bench.sink.drafts
    assert draft.slow is not None
    assert draft.source.slow is not None
    payload, heavy = draft.encode(9, 4, 123)
    report = decode_report(payload)
    assert heavy == b""
    assert (report.writer.node_id, report.writer.writer_token, report.seq) == ("n1", 9, 4)
    assert report.updated_at == 123
    assert report.source.fast.offset == 1
    assert report.source.fast.partition == HOME
    assert draft.watermark == 2


def test_nothing_is_said_of_a_symbol_without_records() -> None:
    """No report is better than an empty one."""
    bench = Bench()
    bench.cycles.refresh()
    bench.cycles._run_fast(SYMBOL)
    bench.cycles._run_slow(SYMBOL)
    assert bench.sink.drafts == []


@pytest.mark.parametrize(("clock", "late_ms"), [("wall", 60_000), ("records", 0)])
def test_now_is_the_wall_clock_or_the_records(clock: str, late_ms: int) -> None:
    """And never before the newest record."""
    bench = Bench(clock=clock)
    bench.feed()
    bench.cycles._run_fast(SYMBOL)
    assert bench.sink.drafts[0].fast.data_age_ms == late_ms
    bench.clock.time_ms = START_MS - 5_000
    bench.cycles._run_fast(SYMBOL)
    assert bench.sink.drafts[1].source.fast.now_ms == START_MS


async def test_both_cycles_keep_their_grids() -> None:
    """One fast report a period at the symbol's own phase; slow parts at theirs."""
    bench = Bench(report_period_ms=250, slow_period_ms=1000)
    bench.feed()
    bench.cycles.refresh()
    bench.clock.time_ms -= bench.clock.time_ms % 1000
    await bench.spin(3000)
    drafts = bench.sink.drafts
    assert len(drafts) + bench.skipped("fast") >= 11
    for draft in drafts:
        late = (draft.source.fast.now_ms - phase_ms(SYMBOL, 250)) % 250
        assert late < 250
    slow = [draft.source.slow.now_ms for draft in drafts if draft.source.slow]
    assert len(set(slow)) >= 2
    assert slow == sorted(slow)


async def test_slots_that_could_not_be_served_are_counted() -> None:
    """A cycle that lags skips; it does not queue."""
    bench = Bench(report_period_ms=250, slow_period_ms=1000)
    bench.feed()
    bench.cycles.refresh()
    bench.clock.advance(10_000)
    await bench.spin(100)
    assert len(bench.sink.drafts) <= 2
    assert bench.skipped("fast") >= 38
    assert bench.skipped("slow") >= 8


async def test_symbols_given_up_are_no_longer_served() -> None:
    """From the refresh on."""
    bench = Bench()
    bench.feed()
    bench.cycles.refresh()
    bench.owned.clear()
    bench.cycles.refresh()
    bench.clock.advance(10_000)
    await bench.spin(100)
    assert bench.sink.drafts == []


async def test_others_get_their_turn_by_the_time_that_reports_took() -> None:
    """Not after each symbol, and not after all of them."""
    bench = Bench()
    turns: list[int] = []
    served: list[str] = []

    async def other() -> None:
        while True:
            turns.append(len(served))
            await asyncio.sleep(0)

    def slow(symbol: str) -> None:
        served.append(symbol)
        bench.clock.advance(1)

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    await bench.cycles._serve([str(n) for n in range(4 * TURN_MS)], slow)
    task.cancel()
    assert turns == [0, TURN_MS, 2 * TURN_MS, 3 * TURN_MS, 4 * TURN_MS]


def test_figures_that_can_not_be_computed_stop_no_other_symbol(
    monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    """Said once a minute, with how far the symbol is behind; counted each time."""
    bench = Bench()
    bench.feed()
    tell_lags(lambda _symbol: 77)
    engine = bench.shards.engine(SYMBOL)
    assert engine is not None

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("no volume")

    monkeypatch.setattr(engine, "fast_report", broken)
    for _ in range(3):
        bench.cycles._run_fast(SYMBOL)
    assert bench.sink.drafts == []
    (line,) = [json.loads(one) for one in logged.take().splitlines()]
    assert (line["event"], line["symbol"], line["lag_ms"], line["level"]) == (
        "calculation_error",
        SYMBOL,
        77,
        "error",
    )
    assert line["cycle"] == "fast"
    assert "ZeroDivisionError: no volume" in line["exception"]
    bench.clock.advance(60_000)
    bench.cycles._run_fast(SYMBOL)
    assert "calculation_error" in logged.take()
    counted = bench.metrics.registry.get_sample_value(
        "tapeline_engine_events_total", {"event": "calculation_error"}
    )
    assert counted == 4
    monkeypatch.undo()
    bench.cycles._run_fast(SYMBOL)
    assert len(bench.sink.drafts) == 1


def test_a_slow_part_that_can_not_be_computed_leaves_the_fast_one(
    monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    """The report says itself that it has none."""
    bench = Bench()
    bench.feed()
    engine = bench.shards.engine(SYMBOL)
    assert engine is not None

    def broken(*_: Any) -> None:
        raise KeyError("bins")

    monkeypatch.setattr(engine, "slow_report", broken)
    bench.cycles._run_fast(SYMBOL)
    (draft,) = bench.sink.drafts
    assert (draft.slow, draft.source.slow) == (None, None)
    report = decode_report(draft.encode(9, 4, 123)[0])
    assert report.source.slow is None
    assert '"cycle": "slow"' in logged.take()


def test_a_report_of_a_sampled_record_is_told(logged: Any) -> None:
    """And a line said while it is computed names its trace."""

    class Traces:
        told: list[tuple[str, int, int]] = []
        span = TraceContext("ab" * 16, "cd" * 8)

        def waiting(self, symbol: str) -> TraceContext:
            return self.span

        def computed(self, symbol: str, watermark: int, newest_ms: int, began_ns: int) -> None:
            self.told.append((symbol, watermark, newest_ms))

    bench = Bench()
    bench.feed()
    bench.cycles.traces = Traces()  # type: ignore[assignment]
    bench.cycles._run_fast(SYMBOL)
    assert Traces.told == [(SYMBOL, 2, START_MS)]
    engine = bench.shards.engine(SYMBOL)
    engine.fast_report = None  # type: ignore[union-attr, assignment, method-assign]
    bench.cycles._run_fast(SYMBOL)
    assert len(Traces.told) == 1
    line = json.loads(logged.take())
    assert (line["event"], line["trace_id"], line["span_id"]) == (
        "calculation_error",
        *Traces.span,
    )
