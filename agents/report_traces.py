"""A sampled record's trace through a worker: from the engine that applies it to its report in Redis.

Three spans, each a child of the one before: ``worker.apply``, as long as the batch is applied that
the record is in; ``worker.compute``, the next fast report of its symbol; ``worker.publish``, one
attempt to write that report, until Redis has answered. The engine knows nothing of it: what is
remembered is one trace a symbol, the newest of those whose records came since the last report;
others are linked to.

A write's trace goes to readers beside the report, at ``report:SYMBOL:trace``: the report itself is
the same object whether or not anybody looks at its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from agents.batches import Batch
from agents.shards import BatchOutcome
from lua import Keys, PublishCode, ReportWrite, TickWrite
from tapeline.logging import get_logger
from tapeline.traceparent import TraceContext, parse, within
from tapeline.tracing import Span, Tracing

LINKS_MAX: Final = 16

log = get_logger("publisher")


class _Applied(NamedTuple):
    """Applied, and in no report yet.

    Attributes:
        span: ``worker.apply``.
        earlier: Those of other sampled records since the last report, oldest first.
    """

    span: TraceContext
    earlier: tuple[TraceContext, ...]


class _Computed(NamedTuple):
    """In a report that is not written yet.

    Attributes:
        span: ``worker.compute``.
        watermark: Of that report; a later one holds the record, too.
        newest_ms: When the newest record behind it was received.
    """

    span: TraceContext
    watermark: int
    newest_ms: int


class ReportTraces:
    """The traces under way in one worker.

    Args:
        tracing: Makes spans.
        topic, group: Of the events, and what reads them.
        keys: Names of Redis' keys.
        holds: Whether a symbol is this worker's to write.
    """

    def __init__(
        self,
        tracing: Tracing,
        topic: str,
        group: str,
        keys: Keys,
        holds: Callable[[str], bool],
    ) -> None:
        self._tracing, self._topic, self._group, self._keys = tracing, topic, group, keys
        self._holds = holds
        self._applied: dict[str, _Applied] = {}
        self._computed: dict[str, _Computed] = {}
        self._writing: dict[tuple[str, int, int], Span] = {}

    def forget(self, symbol: str) -> None:
        """A symbol is another's to write now."""
        self._applied.pop(symbol, None)
        self._computed.pop(symbol, None)

    # --- applied -------------------------------------------------------------------------------

    def applying(self, apply: Callable[[Batch], BatchOutcome]) -> Callable[[Batch], BatchOutcome]:
        """The same, with a look at what is sampled of each batch."""

        def traced(batch: Batch) -> BatchOutcome:
            if not batch.traced:
                return apply(batch)
            began_ns = time.time_ns()
            outcome = apply(batch)
            self._took(batch, outcome, began_ns, time.time_ns())
            return outcome

        return traced

    def _took(self, batch: Batch, outcome: BatchOutcome, began_ns: int, ended_ns: int) -> None:
        errors = {record.offset: error for record, error in outcome.failures}
        for record in batch.traced:
            parent = parse(record.header)
            symbol = (record.key or b"").decode("ascii", "replace")
            refused = record.offset in errors
            # What was applied before is in a report already; what another writes is its to tell.
            known = symbol in outcome.touched or refused
            if parent is None or not known or not self._holds(symbol):
                continue
            span = self._tracing.start(
                "worker.apply",
                parent=parent,
                kind="consumer",
                start_ns=began_ns,
                attributes={
                    "tapeline.symbol": symbol,
                    "messaging.system": "kafka",
                    "messaging.operation.name": "poll",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": self._topic,
                    "messaging.destination.partition.id": str(batch.partition),
                    "messaging.consumer.group.name": self._group,
                    "messaging.kafka.offset": record.offset,
                    "messaging.batch.message_count": len(batch),
                },
            )
            span.end(ended_ns, error=str(errors[record.offset]) if refused else "")
            if not refused:
                before = self._applied.get(symbol)
                earlier = () if before is None else (*before.earlier, before.span)
                self._applied[symbol] = _Applied(span.context, earlier[-LINKS_MAX:])

    # --- computed ------------------------------------------------------------------------------

    def waiting(self, symbol: str) -> TraceContext | None:
        """The span that the next report of a symbol goes on from."""
        applied = self._applied.get(symbol)
        return applied.span if applied is not None else None

    def computed(self, symbol: str, watermark: int, newest_ms: int, began_ns: int) -> None:
        """A fast report was made, from ``began_ns`` until now."""
        applied = self._applied.pop(symbol, None)
        if applied is None:
            return
        span = self._tracing.start(
            "worker.compute",
            parent=applied.span,
            start_ns=began_ns,
            links=applied.earlier,
            attributes={"tapeline.symbol": symbol, "tapeline.cycle": "fast"},
        )
        span.end()
        self._computed[symbol] = _Computed(span.context, watermark, newest_ms)

    # --- written -------------------------------------------------------------------------------

    def begin(self, writes: Iterable[ReportWrite | TickWrite]) -> Sequence[tuple[str, str]]:
        """Writes are about to be sent; keys to be set with them, each with its value."""
        beside = []
        for write in writes:
            computed = self._computed.get(write.symbol)
            if (
                computed is None
                or not isinstance(write, ReportWrite)
                or write.watermark < computed.watermark
            ):
                continue
            span = self._tracing.start(
                "worker.publish",
                parent=computed.span,
                kind="client",
                attributes={
                    "db.system.name": "redis",
                    "db.operation.name": "EVALSHA publish",
                    "tapeline.symbol": write.symbol,
                    "tapeline.token": write.token,
                    "tapeline.seq": write.seq,
                    "tapeline.bytes": len(write.payload) + len(write.heavy),
                },
            )
            self._writing[write.symbol, write.token, write.seq] = span
            value = f"{write.token}.{write.seq} {span.context.header.decode()}"
            beside.append((self._keys.trace(write.symbol), value))
        return beside

    def ended(self, write: ReportWrite | TickWrite, answer: PublishCode | BaseException) -> None:
        """Redis has answered a write, or has not."""
        if not isinstance(write, ReportWrite):
            return
        span = self._writing.pop((write.symbol, write.token, write.seq), None)
        if span is None:
            return
        if not isinstance(answer, PublishCode):
            span.end(error=repr(answer))
        elif not answer.stored:
            span.end(error=answer.name)
        else:
            span.end(attributes={"tapeline.answer": answer.name})
            computed, newest_ms = self._computed.get(write.symbol), write.updated_at
            if computed is not None and computed.watermark <= write.watermark:
                newest_ms = computed.newest_ms
                del self._computed[write.symbol]
            with within(span.context):
                log.debug(
                    "report.published",
                    symbol=write.symbol,
                    token=write.token,
                    seq=write.seq,
                    lag_ms=max(0, write.updated_at - newest_ms),
                )

    def context_of(self, write: ReportWrite | TickWrite) -> TraceContext | None:
        """The span of a write under way."""
        if not self._writing or not isinstance(write, ReportWrite):
            return None
        span = self._writing.get((write.symbol, write.token, write.seq))
        return span.context if span is not None else None
