"""The one place that writes reports and ticks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from agents.coordination.connections import FAILURES, failure_reason
from agents.coordination.lanes import ReportEncoder, ReportLane, TickEncoder, TickLane, Write
from agents.coordination.lease_state import Lease
from agents.coordination.sink import CoordinationSink, NullSink, WriteKind
from lua import PublishCode, ReportWrite, Scripts
from tapeline.clock import Clock, SystemClock
from tapeline.logging import get_logger
from tapeline.tasks import end
from tapeline.traceparent import TraceContext, within

BATCH_WRITES: Final = 32
"""Most writes in one round trip: what is encoded for it keeps the event loop busy."""

BATCH_TICKS: Final = 8
"""Of them at least for ticks, where some wait: reports go first, and starve nobody."""

TICKS_PER_S: Final = 600
"""Most ticks a second of one process, dealt out evenly: with hundreds of symbols of 20 ticks a
second each there would be time for nothing else."""

BATCH_BYTES: Final = 2_000_000
FLUSH_S: Final = 1.0
RETRY_S: Final = 0.1

AnyLane = ReportLane | TickLane

log = get_logger("publisher")


class Leases(Protocol):
    """What the publisher asks of the lease manager."""

    def current(self, symbol: str) -> Lease | None:
        """The lease that may be written under now."""
        ...

    def drop(self, symbol: str, value: str, reason: str) -> None:
        """A write under this lease was refused."""
        ...


class WriteTraces(Protocol):
    """Whoever follows sampled records to their reports."""

    def begin(self, writes: Iterable[Write]) -> Sequence[tuple[str, str]]:
        """Writes are about to be sent; keys to be set with them, each with its value."""
        ...

    def context_of(self, write: Write) -> TraceContext | None:
        """The span of a write under way."""
        ...

    def ended(self, write: Write, answer: PublishCode | BaseException) -> None:
        """Redis has answered a write, or has not."""
        ...


class Publisher:
    """Writes the newest report and tick of each symbol, in batches of one round trip.

    `put` and `put_tick` never wait: a draft not yet written is replaced by a newer one. A draft
    is encoded when it is written, so its order (token, seq) and its ``updatedAt`` are those of
    the write. A write is tried three times with a growing pause, always as the same write; then
    the newest draft takes its place, for as long as Redis is away.

    Args:
        scripts: On a client that neither retries nor waits (`Connections.writer`).
        leases: Under which to write.
        ttl_ms: Life of report and tick, anew with each accepted write.
        tick_period_ms: Least time between two writes of one symbol's tick; longer where so many
            symbols have ticks that `TICKS_PER_S` would be passed.
        timeout_s: Longest wait for a batch's replies.
        clock: Stamps and due times.
        sink: Whoever counts.
        traces: Whoever follows sampled records.
    """

    def __init__(
        self,
        scripts: Scripts,
        leases: Leases,
        *,
        ttl_ms: int,
        tick_period_ms: int,
        timeout_s: float,
        clock: Clock | None = None,
        sink: CoordinationSink | None = None,
        traces: WriteTraces | None = None,
    ) -> None:
        self._scripts, self._leases, self._traces = scripts, leases, traces
        self._ttl_ms, self._tick_period_ms, self._timeout_s = ttl_ms, tick_period_ms, timeout_s
        self._clock = clock or SystemClock()
        self._sink = sink or NullSink()
        self._reports: dict[str, ReportLane] = {}
        self._ticks: dict[str, TickLane] = {}
        self._ticking: set[str] = set()
        self._ready: dict[WriteKind, dict[AnyLane, None]] = {"report": {}, "tick": {}}
        self._timers: dict[AnyLane, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._answer = asyncio.Event()  # set and cleared at once: wakes whoever waits
        self._task: asyncio.Task[None] | None = None
        self._away = False

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start writing."""
        self._task = asyncio.create_task(self._run(), name="publisher")

    async def stop(self, flush_s: float = FLUSH_S) -> None:
        """Write what waits, for at most ``flush_s``, then stop."""
        if self._task is None:
            return
        await self.flush(flush_s)
        await end(self._task)
        self._task = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Write what waits and may be written now, ticks not yet due included.

        Returns:
            False if not everything could be written in ``timeout_s``.
        """
        for lane in self._lanes():
            if lane.pending and self._leases.current(lane.symbol) is not None:
                lane.due_ms = 0
                self._make_ready(lane)
        try:
            async with asyncio.timeout(timeout_s):
                while any(self._leases.current(lane.symbol) for lane in self._waiting()):
                    await self._answer.wait()
        except TimeoutError:
            return False
        return not self._waiting()

    # --- what to write -------------------------------------------------------------------------

    def put(self, symbol: str, watermark: int, encode: ReportEncoder) -> None:
        """Take the newest report of ``symbol``.

        Args:
            symbol: Whose.
            watermark: Rises with the records behind the report, never falls.
            encode: Called when it is written, maybe more than once, maybe never.
        """
        lane = self._reports.get(symbol)
        if lane is None:
            lane = self._reports[symbol] = ReportLane(symbol)
        if not lane.put(watermark, encode):
            self._sink.stale(symbol, "report")
            return
        self._schedule(lane)

    def put_tick(self, symbol: str, watermark: int, encode: TickEncoder) -> None:
        """Take the newest tick of ``symbol``; arguments as of `put`."""
        lane = self._ticks.get(symbol)
        if lane is None:
            lane = self._ticks[symbol] = TickLane(symbol, self._tick_period_ms)
        if not lane.put(watermark, encode):
            self._sink.stale(symbol, "tick")
            return
        self._ticking.add(symbol)
        lane.period_ms = max(self._tick_period_ms, len(self._ticking) * 1000 // TICKS_PER_S)
        if lane not in self._ready["tick"] and lane not in self._timers:
            self._schedule(lane)

    def resume(self, symbol: str) -> None:
        """The symbol may be written again: `LeaseManager`'s ``on_gained``."""
        for lane in (self._reports.get(symbol), self._ticks.get(symbol)):
            if lane is not None and lane.pending:
                self._schedule(lane)

    def clear(self, symbols: Iterable[str]) -> None:
        """Forget what waits of symbols given up."""
        for symbol in symbols:
            self._ticking.discard(symbol)
            for lane in (self._reports.get(symbol), self._ticks.get(symbol)):
                if lane is not None:
                    lane.clear()

    # --- when to write -------------------------------------------------------------------------

    def _lanes(self) -> list[AnyLane]:
        return [*self._reports.values(), *self._ticks.values()]

    def _waiting(self) -> list[AnyLane]:
        return [lane for lane in self._lanes() if lane.pending]

    def _schedule(self, lane: AnyLane) -> None:
        """Have the lane looked at when it falls due; not at all while it has no lease."""
        if lane in self._ready[lane.kind] or self._leases.current(lane.symbol) is None:
            return
        wait_ms = lane.due_ms - self._clock.monotonic_ms()
        if wait_ms <= 0:
            self._make_ready(lane)
        elif lane not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[lane] = loop.call_later(wait_ms / 1000, self._timed, lane)

    def _timed(self, lane: AnyLane) -> None:
        del self._timers[lane]
        self._schedule(lane)

    def _make_ready(self, lane: AnyLane) -> None:
        self._ready[lane.kind][lane] = None
        self._wake.set()

    # --- writing -------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while batch := self._take():
                    await self._write(batch)
            except Exception:
                # Never silently without writes: said, and gone on with.
                log.exception("publisher.pass_failed")
                self._sink.failed("internal")
                self._wake.set()
                await asyncio.sleep(RETRY_S)

    def _take(self) -> list[tuple[AnyLane, Write]]:
        """The next batch, encoded; of lanes whose lease is valid and that are due."""
        batch: list[tuple[AnyLane, Write]] = []
        size = 0
        while size < BATCH_BYTES and (lane := self._next(len(batch))) is not None:
            lease = self._leases.current(lane.symbol)
            if lease is None:
                continue
            try:
                write = lane.take(lease, self._clock.monotonic_ms(), self._clock.now_ms())
            except Exception:
                log.exception("publisher.encode_failed", symbol=lane.symbol, kind=lane.kind)
                self._sink.failed("encode")
                self._announce()
                continue
            if write is not None:
                batch.append((lane, write))
                size += _size(write)
            elif lane.pending:
                self._schedule(lane)
        return batch

    def _next(self, taken: int) -> AnyLane | None:
        """The lane whose turn it is, when so many are in the batch already."""
        reports, ticks = self._ready["report"], self._ready["tick"]
        if taken >= BATCH_WRITES:
            return None
        first = reports if not ticks or taken < BATCH_WRITES - BATCH_TICKS else ticks
        ready = first or reports or ticks
        if not ready:
            return None
        lane = next(iter(ready))
        del ready[lane]
        return lane

    async def _write(self, batch: list[tuple[AnyLane, Write]]) -> None:
        answers: Sequence[PublishCode | BaseException]
        began_s = time.perf_counter()
        writes = [write for _, write in batch]
        traces = self._traces.begin(writes) if self._traces is not None else ()
        try:
            async with asyncio.timeout(self._timeout_s):
                if traces:
                    answers = await self._scripts.publish_many(writes, self._ttl_ms, traces)
                else:
                    answers = await self._scripts.publish_many(writes, self._ttl_ms)
        except FAILURES as error:
            if not self._away:
                log.warning("publisher.redis_away", writes=len(batch), error=repr(error))
            self._away = True
            self._sink.failed(failure_reason(error))
            answers = [error] * len(batch)
        else:
            self._sink.round_trip(time.perf_counter() - began_s)
            if self._away:
                log.info("publisher.redis_back")
            self._away = False
        now_ms = self._clock.monotonic_ms()
        for (lane, write), answer in zip(batch, answers, strict=True):
            if isinstance(answer, PublishCode):
                span = self._traces.context_of(write) if self._traces is not None else None
                if span is None:
                    self._answered(lane, write, answer, now_ms)
                else:
                    with within(span):
                        self._answered(lane, write, answer, now_ms)
            else:
                if not self._away:
                    log.warning("publisher.refused", symbol=lane.symbol, error=str(answer))
                    self._sink.failed("refused")
                if lane.failed(write, now_ms):
                    self._sink.failed("gave_up")
            if self._traces is not None:
                self._traces.ended(write, answer)
            if lane.pending:
                self._schedule(lane)
        self._announce()

    def _announce(self) -> None:
        self._answer.set()
        self._answer.clear()

    def _answered(self, lane: AnyLane, write: Write, code: PublishCode, now_ms: int) -> None:
        lane.answered(write, code, now_ms)
        symbol = lane.symbol
        if code.stored:
            self._sink.published(symbol, lane.kind, _size(write))
            if isinstance(write, ReportWrite) and write.heavy:
                self._sink.split(symbol, _size(write))
        elif code is PublishCode.STALE_DATA:
            log.warning("publisher.stale_data", symbol=symbol, kind=lane.kind, token=write.token)
            self._sink.stale(symbol, lane.kind)
        else:
            reason = code.name.lower()
            log.warning("publisher.refused", symbol=symbol, reason=reason, token=write.token)
            self._sink.conflict(symbol, reason)
            self._leases.drop(symbol, write.lease_value, reason)


def _size(write: Write) -> int:
    return len(write.payload) + (len(write.heavy) if isinstance(write, ReportWrite) else 0)
