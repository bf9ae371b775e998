"""The fast and the slow cycle: engines are read on their grid, and reports handed on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from agents.metrics import Metrics
from agents.report_traces import ReportTraces
from agents.schedule import Grid
from agents.shards import Shards
from tables.engine import Engine
from tables.report import FastPart, Position, SlowPart, Source, Writer, compose, encode_report
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.logging import get_logger
from tapeline.traceparent import within

IDLE_MS: Final = 50
TURN_MS: Final = 3
"""How long reports are computed at a stretch, at least."""

WARN_EVERY_MS: Final = 60_000

log = get_logger("cycles")


@dataclass(frozen=True, slots=True)
class Draft:
    """A report but for what only its writer knows.

    Attributes:
        watermark: Rises with the records behind it; a writer may not go below another's.
    """

    fast: FastPart
    slow: SlowPart | None
    source: Source
    watermark: int
    node_id: str
    split_bytes: int

    def encode(self, writer_token: int, seq: int, updated_at: int) -> tuple[bytes, bytes]:
        """Payload, and heavy payload (empty unless split)."""
        report = compose(
            self.fast,
            self.slow,
            writer=Writer(self.node_id, writer_token),
            seq=seq,
            updated_at=updated_at,
            source=self.source,
        )
        return encode_report(report, self.split_bytes)


class ReportSink(Protocol):
    """Takes the newest draft of a symbol; an older one not yet written is replaced."""

    def put(self, symbol: str, draft: Draft) -> None: ...


class Cycles:
    """Computes reports of the owned symbols as they fall due.

    Attributes:
        traces: Told of reports of sampled records.
    """

    def __init__(
        self,
        settings: Settings,
        shards: Shards,
        sink: ReportSink,
        owned: Callable[[], list[str]],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._shards = shards
        self._sink = sink
        self._owned = owned
        self._metrics = metrics
        self._clock = clock
        self._fast = Grid(settings.report_period_ms)
        self._slow = Grid(settings.slow_period_ms)
        self._slow_parts: dict[str, tuple[SlowPart, Position]] = {}
        self._served: set[str] = set()
        self._skipped = {"fast": 0, "slow": 0}
        self._warned_ms = 0
        self._complain_ms: dict[tuple[str, str], int] = {}
        self.traces: ReportTraces | None = None

    def refresh(self) -> None:
        """The owned symbols have changed."""
        symbols = self._owned()
        self._served = set(symbols)
        now_ms = self._clock.now_ms()
        self._fast.set_symbols(symbols, now_ms)
        self._slow.set_symbols(symbols, now_ms)
        self._slow_parts = {s: part for s, part in self._slow_parts.items() if s in symbols}
        # A new owner's first report is whole: readers should not see the slow part vanish.
        for symbol in symbols:
            if symbol not in self._slow_parts and self._ready(symbol) is not None:
                self._run_slow(symbol)

    def now(self, symbol: str) -> None:
        """A report of this symbol at once, beside its grid: it has just become ours to write."""
        if symbol not in self._served:
            self.refresh()
        self._run_fast(symbol)

    async def run(self) -> None:
        """Serve both grids until cancelled."""
        while True:
            now_ms = self._clock.now_ms()
            due = [d for d in (self._fast.next_due_ms(), self._slow.next_due_ms()) if d is not None]
            wait_ms = min([IDLE_MS, *(max(0, d - now_ms) for d in due)])
            await asyncio.sleep(wait_ms / 1000)
            now_ms = self._clock.now_ms()
            await self._serve(self._slow.take_due(now_ms), self._run_slow)
            await self._serve(self._fast.take_due(self._clock.now_ms()), self._run_fast)
            self._count_skipped(now_ms)

    async def _serve(self, symbols: Iterable[str], run: Callable[[str], None]) -> None:
        """One symbol after the other; everything else gets its turn by the time it took, not by
        the symbol: with hundreds of them a turn of the loop for each would be too few.
        """
        began_ms = self._clock.monotonic_ms()
        for symbol in symbols:
            run(symbol)
            if self._clock.monotonic_ms() - began_ms >= TURN_MS:
                await asyncio.sleep(0)
                began_ms = self._clock.monotonic_ms()

    def _ready(self, symbol: str) -> Engine | None:
        """The symbol's engine once it has applied anything."""
        engine = self._shards.engine(symbol)
        return engine if engine is not None and engine.applied >= 0 else None

    def _now_ms(self, engine: Engine) -> int:
        """Time for a report: given by the wall clock, or by the records themselves."""
        if self._settings.clock == "records":
            return engine.newest_ms
        return max(self._clock.now_ms(), engine.newest_ms)

    def _position(self, symbol: str, engine: Engine, now_ms: int) -> Position:
        return Position(
            topic=self._settings.events_topic,
            partition=self._shards.partition_of[symbol],
            offset=engine.applied,
            now_ms=now_ms,
        )

    def _run_slow(self, symbol: str) -> None:
        engine = self._ready(symbol)
        if engine is None:
            return
        try:
            now_ms = self._now_ms(engine)
            part = engine.slow_report(now_ms, self._metrics.laps("slow"))
            self._slow_parts[symbol] = (part, self._position(symbol, engine, now_ms))
        except Exception:
            self._failed("slow", symbol)

    def _run_fast(self, symbol: str) -> None:
        engine = self._ready(symbol)
        if engine is None:
            return
        if symbol not in self._slow_parts:
            self._run_slow(symbol)
        span = self.traces.waiting(symbol) if self.traces is not None else None
        if self.traces is None or span is None:
            self._report(symbol, engine)
            return
        began_ns = time.time_ns()
        with within(span):
            draft = self._report(symbol, engine)
        if draft is not None:
            self.traces.computed(symbol, draft.watermark, engine.newest_ms, began_ns)

    def _report(self, symbol: str, engine: Engine) -> Draft | None:
        """Compute a report and hand it on; None where that fails."""
        try:
            now_ms = self._now_ms(engine)
            fast = engine.fast_report(now_ms, self._metrics.laps("fast"))
            slow, slow_at = self._slow_parts.get(symbol, (None, None))
            draft = Draft(
                fast=fast,
                slow=slow,
                source=Source(fast=self._position(symbol, engine, now_ms), slow=slow_at),
                watermark=self._shards.watermark(engine),
                node_id=self._settings.node_id,
                split_bytes=self._settings.report_split_bytes,
            )
        except Exception:
            self._failed("fast", symbol)
            return None
        if fast.data_age_ms is not None:
            self._metrics.data_age[symbol].observe(fast.data_age_ms / 1000)
        self._sink.put(symbol, draft)
        return draft

    def _failed(self, cycle: str, symbol: str) -> None:
        """A symbol's figures can't be computed: its report grows old, and the others go on."""
        self._metrics.engine_events.labels("calculation_error").inc()
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._complain_ms.get((cycle, symbol), now_ms):
            self._complain_ms[cycle, symbol] = now_ms + WARN_EVERY_MS
            log.exception("calculation_error", symbol=symbol, cycle=cycle)

    def _count_skipped(self, now_ms: int) -> None:
        for name, grid in (("fast", self._fast), ("slow", self._slow)):
            new = grid.skipped - self._skipped[name]
            if not new:
                continue
            self._skipped[name] = grid.skipped
            self._metrics.cycles_skipped.labels(name).inc(new)
            if now_ms - self._warned_ms >= WARN_EVERY_MS:
                self._warned_ms = now_ms
                log.warning("cycle.skipped", cycle=name, skipped=new)
