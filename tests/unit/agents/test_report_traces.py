"""A sampled record's way through a worker, in spans."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from agents.batches import Batch, TracedRecord
from agents.report_traces import LINKS_MAX, ReportTraces
from agents.shards import BatchOutcome
from lua import Keys, PublishCode, ReportWrite, TickWrite
from tapeline.traceparent import TraceContext, current
from tests.support.spans import FakeTracing

HEADER = TraceContext("ab" * 16, "cd" * 8)
OTHER = TraceContext("12" * 16, "34" * 8)


class Bench:
    """Traces of a worker that holds what it is told."""

    def __init__(self) -> None:
        self.tracing = FakeTracing()
        self.held = {"BTCUSDT"}
        self.traces = ReportTraces(
            self.tracing, "events", "group", Keys(), lambda symbol: symbol in self.held
        )

    def apply(
        self, *traced: TracedRecord, touched: bool = True, errors: tuple[int, ...] = ()
    ) -> BatchOutcome:
        outcome = BatchOutcome()
        if touched:
            outcome.touched |= {"BTCUSDT", "ETHUSDT"}
        batch = Batch(3, 0, 9, 0, 10, {b"BTCUSDT": [(n, b"") for n in range(10)]}, traced)
        outcome.failures = [(r, ValueError("bad")) for r in batch.records() if r.offset in errors]
        return self.traces.applying(lambda _batch: outcome)(batch)

    def names(self) -> list[str]:
        return [span.name for span in self.tracing.spans]


def record(offset: int = 5, context: TraceContext = HEADER, key: bytes = b"BTCUSDT") -> Any:
    return TracedRecord(offset, key, context.header)


def write(watermark: int = 10, seq: int = 1, symbol: str = "BTCUSDT") -> ReportWrite:
    return ReportWrite(
        symbol=symbol,
        lease_value="n|i|7",
        token=7,
        seq=seq,
        watermark=watermark,
        updated_at=1_000,
        payload=b"{}",
    )


def test_a_record_is_followed_to_its_report(logged: Any) -> None:
    """Each span is a child of the one before; the last one's name goes to readers."""
    bench = Bench()
    bench.apply(record())
    assert bench.traces.waiting("BTCUSDT") == bench.tracing.spans[0].context
    bench.traces.computed("BTCUSDT", 10, 990, began_ns=77)
    assert bench.traces.waiting("BTCUSDT") is None
    one = write()
    beside = bench.traces.begin([one])
    apply, compute, publish = bench.tracing.spans
    assert bench.names() == ["worker.apply", "worker.compute", "worker.publish"]
    assert [span.parent for span in bench.tracing.spans] == [
        HEADER,
        apply.context,
        compute.context,
    ]
    assert {span.context.trace_id for span in bench.tracing.spans} == {HEADER.trace_id}
    assert compute.start_ns == 77
    assert [span.ended for span in bench.tracing.spans] == [1, 1, 0]
    assert beside == [("report:BTCUSDT:trace", f"7.1 {publish.context.header.decode()}")]
    assert bench.traces.context_of(one) == publish.context
    logging.getLogger().setLevel("DEBUG")
    bench.traces.ended(one, PublishCode.OK)
    assert (publish.ended, publish.error) == (1, "")
    line = json.loads(logged.take().splitlines()[-1])
    assert (line["event"], line["trace_id"], line["span_id"], line["lag_ms"]) == (
        "report.published",
        *publish.context,
        10,
    )
    assert current.get() is None
    assert bench.traces.begin([write(seq=2)]) == [], "it is told once"


def test_the_newest_of_several_goes_on_and_names_the_others() -> None:
    bench = Bench()
    bench.apply(record(5, OTHER), record(6))
    bench.traces.computed("BTCUSDT", 10, 990, began_ns=1)
    compute = bench.tracing.spans[-1]
    assert compute.context.trace_id == HEADER.trace_id
    assert [link.trace_id for link in compute.links] == [OTHER.trace_id]
    bench.apply(*(record(n) for n in range(8)))
    for _ in range(9):
        bench.apply(*(record(n) for n in range(8)))
    bench.traces.computed("BTCUSDT", 20, 990, began_ns=1)
    assert len(bench.tracing.spans[-1].links) == LINKS_MAX


def test_what_is_another_s_to_write_is_not_told() -> None:
    bench = Bench()
    bench.apply(record(key=b"ETHUSDT"), record(key=b"\xff"))
    assert bench.names() == []


def test_what_was_applied_before_is_not_told_again() -> None:
    """A redelivery changes nothing."""
    bench = Bench()
    bench.apply(record(), touched=False)
    assert bench.names() == []


def test_a_header_that_is_none_is_left(logged: Any) -> None:
    bench = Bench()
    bench.apply(TracedRecord(5, b"BTCUSDT", b"nonsense"), TracedRecord(6, b"BTCUSDT", None))
    assert bench.names() == []


def test_a_refused_record_s_trace_ends_with_why() -> None:
    bench = Bench()
    bench.apply(record(), touched=False, errors=(5,))
    (span,) = bench.tracing.spans
    assert (span.name, span.error, span.ended) == ("worker.apply", "bad", 1)
    assert bench.traces.waiting("BTCUSDT") is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [(PublishCode.FENCED, "FENCED"), (TimeoutError("late"), "TimeoutError('late')")],
)
def test_a_write_that_came_to_nothing_is_told_and_tried_again(answer: Any, error: str) -> None:
    """The next write of the symbol goes on from the same report."""
    bench = Bench()
    bench.apply(record())
    bench.traces.computed("BTCUSDT", 10, 990, began_ns=1)
    first = write()
    bench.traces.begin([first])
    bench.traces.ended(first, answer)
    failed = bench.tracing.spans[-1]
    assert (failed.error, failed.ended) == (error, 1)
    second = write(watermark=11, seq=2)
    assert len(bench.traces.begin([second])) == 1
    again = bench.tracing.spans[-1]
    assert again.parent == failed.parent
    bench.traces.ended(second, PublishCode.DUPLICATE)
    assert (again.error, again.ended) == ("", 1)


def test_a_write_of_before_is_not_the_record_s() -> None:
    """Nor is a tick, nor another symbol's report."""
    bench = Bench()
    bench.apply(record())
    bench.traces.computed("BTCUSDT", 10, 990, began_ns=1)
    tick = TickWrite(
        symbol="BTCUSDT", lease_value="n|i|7", token=7, seq=1, watermark=10, payload=b""
    )
    writes = [write(watermark=9), tick, write(symbol="ETHUSDT")]
    assert bench.traces.begin(writes) == []
    for one in writes:
        assert bench.traces.context_of(one) is None
        bench.traces.ended(one, PublishCode.OK)
    assert bench.names() == ["worker.apply", "worker.compute"]


def test_nothing_is_remembered_of_a_symbol_given_up() -> None:
    bench = Bench()
    bench.apply(record())
    bench.traces.computed("BTCUSDT", 10, 990, began_ns=1)
    bench.apply(record())
    bench.traces.forget("BTCUSDT")
    assert bench.traces.waiting("BTCUSDT") is None
    assert bench.traces.begin([write()]) == []
