"""One symbol on a virtual clock: records in batches between grid times, reports at them.

The clock rule: a symbol's clock is the newest ``ts_recv_ms`` of its own records, the `alive` marks
of a quiet market included. A report of grid time g is taken when the first record later than g
comes, of the state before that record, with ``now_ms`` = g. So a symbol's reports are a function of
its own records and of the grid, and of nothing else: not of other symbols, batches, workers, speed
or of the moment somebody looks. It is what ``NT_CLOCK=records`` is to a worker, but for the grid: a
worker's is on the wall's time, this one's on the records'.

No Kafka, no Redis, no clock of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from agents.schedule import phase_ms
from streams import events
from streams.record_time import recv_ms
from tables.engine import Engine
from tables.parameters import Parameters
from tables.report import Position, Report, SlowPart, Source, Writer, compose
from tapeline.errors import RecordError

Record = tuple[int, bytes]
"""(offset, value)."""

IDLE_MAX_MS: Final = 35 * 60 * 1000
"""Grid times further behind a symbol's newest record are left out: by then all windows are empty,
and a bridge that was off for a week would give two million equal reports."""

PENDING_MAX: Final = 4096
"""Records held back for the next grid time; with more of them the engine gets them early."""

_NEVER: Final = 1 << 62


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is computed, and when.

    Attributes:
        report_period_ms, slow_period_ms: Of the two grids, shifted by symbol as a worker's are.
        parameters: The engine's thresholds.
        from_ms, to_ms: Reports of grid times in [from, to) only; what comes before warms up.
        topic: What reports name as their source.
        node_id: What they name as their writer.
    """

    report_period_ms: int = 250
    slow_period_ms: int = 2000
    parameters: Parameters = field(default_factory=Parameters)
    from_ms: int | None = None
    to_ms: int | None = None
    topic: str = "capture"
    node_id: str = "replay"


class Timeline:
    """One symbol's engine, clock and grids.

    Attributes:
        engine: Holds what has been applied; records since the last grid time may be pending.
        clock_ms: Newest ``ts_recv_ms`` of any record, 0 before any.
        due_ms: A record later than this is one for `advance`.
        done: The clock is past the plan's end: further records change no report.
        reports: How many were made.
        left_out: Grid times left out because of silence (`IDLE_MAX_MS`).
        failed: Records that could not be applied, by why.
        first_ms, last_ms: Grid times of the first and the last report; None without any.
    """

    def __init__(
        self,
        symbol: str,
        venue: str,
        plan: Plan,
        partition: int = 0,
        others: Sequence[str] = (),
    ) -> None:
        """A symbol before its first record.

        Args:
            symbol: Canonical.
            venue: Its primary one.
            plan: What is computed, and when.
            partition: What reports name.
            others: Venues beside the primary one that reports tell of.
        """
        self.engine = Engine(symbol, venue, plan.parameters, others)
        self.clock_ms = 0
        self.due_ms = 0
        self.done = False
        self.reports = 0
        self.left_out = 0
        self.failed: Counter[str] = Counter()
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self._plan, self._partition = plan, partition
        self._writer = Writer(plan.node_id, 0)
        self._to_ms = _NEVER if plan.to_ms is None else plan.to_ms
        self._from_ms = 0 if plan.from_ms is None else plan.from_ms
        self._fast_phase = phase_ms(symbol, plan.report_period_ms)
        self._slow_phase = phase_ms(symbol, plan.slow_period_ms)
        self._fast_due = self._slow_due = _NEVER
        self._slow: tuple[SlowPart, Position] | None = None
        self._pending: list[Record] = []

    def feed(self, records: Sequence[Record]) -> Iterator[Report]:
        """Take records in the order of their offsets; reports that fall due on the way."""
        begin = 0
        due_ms, clock_ms = self.due_ms, self.clock_ms
        for at, (_, raw) in enumerate(records):
            ts_ms = recv_ms(raw)
            if ts_ms > due_ms:
                self.clock_ms = clock_ms
                self.hold(records[begin:at])
                begin = at
                yield from self.advance(ts_ms, raw)
                due_ms, clock_ms = self.due_ms, self.clock_ms
            elif ts_ms > clock_ms:
                clock_ms = ts_ms
        self.clock_ms = clock_ms
        self.hold(records[begin:])

    def hold(self, records: Sequence[Record]) -> None:
        """Take records that are not later than ``due_ms``, or for which `advance` was called."""
        if self.done:
            return
        self._pending += records
        if len(self._pending) >= PENDING_MAX:
            self._apply()

    def advance(self, ts_ms: int, raw: bytes) -> Iterator[Report]:
        """A record later than ``due_ms`` comes: the reports of the grid times before it.

        The record itself is to be given to `hold` afterwards.
        """
        jump = ts_ms - self.clock_ms > IDLE_MAX_MS
        if jump and not _believed(raw):
            return  # or one broken record would move the clock for good
        if not self.clock_ms:
            self._start(ts_ms)
        elif jump:
            yield from self._until(self.clock_ms + IDLE_MAX_MS)
            silent_ms = max(0, min(ts_ms, self._to_ms) - max(self._fast_due, self._from_ms))
            self.left_out += -(-silent_ms // self._plan.report_period_ms)
            self._start(ts_ms)
        else:
            yield from self._until(ts_ms)
        self.clock_ms = ts_ms
        self._look_ahead()

    def finish(self) -> Iterator[Report]:
        """No more records: the reports up to the clock, which then stands."""
        yield from self._until(self.clock_ms + 1)
        self._apply()
        self._look_ahead()

    # --- the grids ------------------------------------------------------------------------------

    def _start(self, ts_ms: int) -> None:
        """Both grids go on behind ``ts_ms``; the next report gets a slow part of its own."""
        # One slow period before the first report asked for, so that its slow part is the one it
        # would have had anyway.
        at_ms = max(ts_ms, self._from_ms - self._plan.slow_period_ms - 1)
        self._fast_due = _behind(at_ms, self._fast_phase, self._plan.report_period_ms)
        self._slow_due = _behind(at_ms, self._slow_phase, self._plan.slow_period_ms)
        self._slow = None

    def _look_ahead(self) -> None:
        self.due_ms = min(self._fast_due, self._slow_due)
        if self._fast_due >= self._to_ms:
            self.done, self.due_ms = True, _NEVER

    def _until(self, end_ms: int) -> Iterator[Report]:
        """Reports of the grid times before ``end_ms``, slow parts before fast ones."""
        plan = self._plan
        end_ms = min(end_ms, self._to_ms)
        if min(self._fast_due, self._slow_due) < end_ms:
            self._apply()
        while (due_ms := min(self._fast_due, self._slow_due)) < end_ms:
            if self._slow_due == due_ms:
                self._run_slow(due_ms)
                self._slow_due += plan.slow_period_ms
            if self._fast_due == due_ms:
                if self._slow is None:
                    self._run_slow(due_ms)
                self._fast_due += plan.report_period_ms
                if due_ms >= self._from_ms:
                    yield self._report(due_ms)

    # --- the engine -----------------------------------------------------------------------------

    def _apply(self) -> None:
        if self._pending:
            outcome = self.engine.apply(self._pending)
            for _, error in outcome.failures:
                self.failed[error.code if isinstance(error, RecordError) else "error"] += 1
            self._pending = []

    def _run_slow(self, now_ms: int) -> None:
        self._slow = self.engine.slow_report(now_ms), self._position(now_ms)

    def _position(self, now_ms: int) -> Position:
        engine = self.engine
        now_ms = max(now_ms, engine.newest_ms)
        return Position(self._plan.topic, self._partition, engine.applied, now_ms)

    def _report(self, now_ms: int) -> Report:
        slow, slow_at = self._slow or (None, None)
        self.reports += 1
        self.first_ms = now_ms if self.first_ms is None else self.first_ms
        self.last_ms = now_ms
        return compose(
            self.engine.fast_report(now_ms),
            slow,
            writer=self._writer,
            # The number of the grid time, so that it does not tell where a replay began.
            seq=now_ms // self._plan.report_period_ms,
            updated_at=now_ms,
            source=Source(self._position(now_ms), slow_at),
        )


def _behind(at_ms: int, phase: int, period_ms: int) -> int:
    """The first grid time later than ``at_ms``."""
    return at_ms - (at_ms - phase) % period_ms + period_ms


def _believed(raw: bytes) -> bool:
    try:
        return recv_ms(raw) == events.decode(raw).ts_recv_ms
    except RecordError:
        return False


__all__ = ["IDLE_MAX_MS", "Plan", "Record", "Timeline"]
