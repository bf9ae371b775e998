"""Where a venue's events come from: sockets, or a recording. One interface for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from streams.events import Event
from streams.venue_clock import VenueClock
from streams.venues.base import Assembler

REFUSED: Final = "refused"
"""Reason of a reconnect that came to nothing: the venue could not be reached, or said no."""


@dataclass(slots=True)
class SourceCounts:
    """What a source has seen; all rise only, but for ``last_frame_ms``.

    Attributes:
        frames: Frames received.
        errors: Frames and replies that were not the venue's dialect.
        connects: Sockets opened.
        reconnects: Sockets lost or given up, by why.
        requests_refused: REST requests that came to nothing, by status; 0 without an answer.
        asked_anew: Books asked for although nothing said that they were wrong, by why.
        last_frame_ms: When the newest frame came, in the source's own time; 0 for never.
        clock: The venue's, beside ours.
    """

    frames: int = 0
    errors: int = 0
    connects: int = 0
    reconnects: Counter[str] = field(default_factory=Counter)
    requests_refused: Counter[int] = field(default_factory=Counter)
    asked_anew: Counter[str] = field(default_factory=Counter)
    last_frame_ms: int = 0
    clock: VenueClock = field(default_factory=VenueClock)


class RefusedFrame(NamedTuple):
    """What a venue sent that is not its dialect, and where it came.

    Attributes:
        raw: As it came off the wire.
        error: Why it was refused.
        ts_recv_ms: When it came.
        conn: Of which socket; empty for a REST reply.
        frame: Its number on that socket, from 1; 0 for a REST reply.
        path: What a REST reply answers; empty for a frame.
    """

    raw: str | bytes
    error: Exception
    ts_recv_ms: int
    conn: str = ""
    frame: int = 0
    path: str = ""


class FrameTap(Protocol):
    """Who listens to what passes between a source and its venue. No call may wait or raise.

    All times are milliseconds since the epoch, ``conn`` is the source's name of a socket.
    """

    def opened(self, conn: str, address: str, ts_ms: int) -> None:
        """A socket was opened."""
        ...

    def closed(self, conn: str, reason: str, ts_ms: int) -> None:
        """A socket was closed, by whomever."""
        ...

    def received(self, conn: str, frame: str | bytes, ts_ms: int) -> None:
        """A frame came."""
        ...

    def sent(self, conn: str, frame: str, ts_ms: int) -> None:
        """A frame was sent."""
        ...

    def answered(self, url: str, status: int, body: bytes, ts_ms: int) -> None:
        """A REST reply came; status 0 if none did."""
        ...

    def gap(self, symbol: str, reason: str, ts_ms: int) -> None:
        """The assembler found that something of this canonical symbol is missing."""
        ...


class Sink(Protocol):
    """Where a source brings events; the bridge is one."""

    def accept(self, venue: str, events: Iterable[Event]) -> None:
        """Take an assembler's events, in order."""
        ...

    def tick(self, venue: str, now_ms: int, *, live: bool) -> None:
        """It is ``now_ms`` in the source's time; ``live``: the venue gave a sign of life lately."""
        ...

    def unlisted(self, venue: str, symbol: str) -> None:
        """The venue does not list this canonical symbol."""
        ...

    def frame_refused(self, venue: str, refused: RefusedFrame) -> None:
        """A frame or a REST reply is not the venue's dialect. It may keep it; it must not wait."""
        ...

    async def ready(self, venue: str) -> None:
        """Wait until every symbol of the venue can be written: for sources that can wait."""
        ...

    async def room(self) -> None:
        """Wait until the buffer has room: for sources that can wait."""
        ...


class FrameSource(Protocol):
    """Drives one venue's assembler and brings its events to a sink.

    Attributes:
        assembler: The one driven.
        counts: What has been seen.
    """

    assembler: Assembler
    counts: SourceCounts

    async def run(self, sink: Sink) -> None:
        """Until the source ends or is cancelled; a live one then says that it is disconnected."""
        ...
