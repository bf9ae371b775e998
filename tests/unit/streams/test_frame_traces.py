"""Where traces begin: which frames, what their records carry, and when their spans end."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from streams.events import Event, Feed, decode, encode, stamp
from streams.feeds import OutRecord
from streams.frame_traces import FrameTraces, frame_traces
from tapeline.traceparent import TraceContext, current, parse
from tests.support.bridge import delta, status, trade
from tests.support.spans import FakeTracing


class Outbox:
    def __init__(self) -> None:
        self.records: list[OutRecord] = []
        self.spans: list[TraceContext | None] = []

    def put(self, records: list[OutRecord]) -> None:
        self.records += records
        self.spans.append(current.get())


def made(events: Iterable[Event]) -> list[OutRecord]:
    """A record of each event, as feeds make them."""
    out = []
    for seq, event in enumerate(events, 1):
        stamp(event, Feed(1, seq), 1)
        out.append(OutRecord(0, "fake", event.symbol, b"k", encode(event), "x"))
    return out


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 3), (1.0, 10), (0.001, 1)])
def test_a_share_of_the_frames_is_sampled(ratio: float, expected: int) -> None:
    draws = iter([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.999])
    traces = FrameTraces(FakeTracing(), ratio, "events", lambda: next(draws))
    assert sum(traces.sampled() for _ in range(10)) == expected


def test_without_a_share_there_are_no_traces() -> None:
    assert frame_traces(FakeTracing(), 0.0, "events") is None
    assert frame_traces(None, 0.5, "events") is None


def test_all_records_of_a_frame_carry_its_trace() -> None:
    """In the header and in the record; the header names the span that ends with the broker's word."""
    tracing, outbox = FakeTracing(), Outbox()
    events: list[Event] = [trade("BTCUSDT", 1), delta("BTCUSDT")]
    FrameTraces(tracing, 1.0, "events").accept("fake", events, made, outbox.put)
    frame, sending = tracing.spans
    assert (frame.name, frame.parent, frame.ended) == ("bridge.frame", None, 1)
    assert (sending.name, sending.parent, sending.ended) == ("bridge.send", frame.context, 0)
    assert outbox.spans == [frame.context], "lines said meanwhile name the frame"
    assert len(outbox.records) == 2
    for record in outbox.records:
        assert record.traced is not None
        ((name, value),) = record.traced.headers
        assert name == "traceparent"
        assert parse(value) == sending.context
        assert decode(record.value).trace_id == frame.context.trace_id
    outbox.records[0].traced.arrived()  # type: ignore[union-attr]
    assert sending.ended == 0
    outbox.records[1].traced.arrived()  # type: ignore[union-attr]
    assert sending.ended == 1
    assert frame.attributes["tapeline.records"] == 2


def test_what_a_bridge_says_of_its_feed_is_not_traced() -> None:
    """It came with no market event."""
    tracing, outbox = FakeTracing(), Outbox()
    events: list[Event] = [status("BTCUSDT", "connected")]
    FrameTraces(tracing, 1.0, "events").accept("fake", events, made, outbox.put)
    assert tracing.spans == []
    assert [record.traced for record in outbox.records] == [None]
    assert decode(outbox.records[0].value).trace_id is None


def test_a_frame_of_a_line_without_a_token_has_no_record_to_follow() -> None:
    tracing, outbox = FakeTracing(), Outbox()
    events: list[Event] = [delta("BTCUSDT")]
    FrameTraces(tracing, 1.0, "events").accept("fake", events, lambda _: [], outbox.put)
    assert [(span.name, span.ended) for span in tracing.spans] == [("bridge.frame", 1)]
