"""Where traces begin: a share of the frames that bring market events.

A sampled frame has two spans here. ``bridge.frame`` lasts from the frame's arrival until its records
are in the outbox; ``bridge.send``, its child, until the broker has acknowledged all of them. The
second is the one that the records' ``traceparent`` names: what a worker does with them is a child
of it. Frames that are not sampled cost one random number, and none where nothing is traced.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from streams.events import Event, FeedStatus
from streams.feeds import OutRecord
from tapeline.traceparent import HEADER, within
from tapeline.tracing import Span, Tracing, since


class Sending:
    """Records of one frame on their way to the broker; `streams.feeds.Traced`.

    Args:
        span: Ends with the last of them.
        records: How many they are.

    Attributes:
        headers: Of each record.
    """

    __slots__ = ("_left", "_span", "headers")

    def __init__(self, span: Span, records: int) -> None:
        self._span, self._left = span, records
        self.headers: list[tuple[str, bytes]] = [(HEADER, span.context.header)]

    def arrived(self) -> None:
        """The broker has one of them."""
        self._left -= 1
        if not self._left:
            self._span.end()


class FrameTraces:
    """Samples frames and makes their spans.

    Args:
        tracing: Makes spans.
        ratio: Share of frames, above 0.
        topic: The events topic.
        draw: A number from 0 to 1, below 1.
    """

    def __init__(
        self,
        tracing: Tracing,
        ratio: float,
        topic: str,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.ratio: Final = ratio
        self.draw: Final = draw
        self._tracing, self._topic = tracing, topic

    def sampled(self) -> bool:
        """Whether the next frame is one."""
        return self.draw() < self.ratio

    def accept(
        self,
        venue: str,
        events: Iterable[Event],
        accept: Callable[[Iterable[Event]], list[OutRecord]],
        put: Callable[[list[OutRecord]], None],
    ) -> None:
        """Trace a frame through a bridge.

        Args:
            venue: Whose.
            events: What an assembler made of it; they are given its trace's id.
            accept: Makes records of events.
            put: Takes records on to the broker.
        """
        events = [*events]
        market = next((event for event in events if type(event) is not FeedStatus), None)
        if market is None:  # a word of ours about the feed, or nothing
            put(accept(events))
            return
        frame = self._tracing.start(
            "bridge.frame",
            kind="consumer",
            start_ns=since(market.ts_recv_ms),
            attributes={"tapeline.venue": venue, "tapeline.symbol": market.symbol},
        )
        for event in events:
            event.trace_id = frame.context.trace_id
        with within(frame.context):
            records = accept(events)
            if records:
                sending = self._sending(frame, len(records))
                records = [record._replace(traced=sending) for record in records]
            put(records)
        frame.end(
            attributes={
                "tapeline.events": len(events),
                "tapeline.records": len(records),
                "tapeline.lag_ms": max(0, market.ts_recv_ms - market.ts_event_ms),
            }
        )

    def _sending(self, frame: Span, records: int) -> Sending:
        span = self._tracing.start(
            "bridge.send",
            parent=frame.context,
            kind="producer",
            start_ns=time.time_ns(),
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.destination.name": self._topic,
                "messaging.batch.message_count": records,
            },
        )
        return Sending(span, records)


def frame_traces(tracing: Tracing | None, ratio: float, topic: str) -> FrameTraces | None:
    """Traces of a bridge; None where no frame is sampled."""
    return FrameTraces(tracing, ratio, topic) if tracing is not None and ratio > 0 else None
