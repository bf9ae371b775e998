"""Where a venue's events come from: sockets, or a recording. One interface for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from streams.events import Event
from streams.venues.base import Assembler


@dataclass(slots=True)
class SourceCounts:
    """What a source has seen; all rise only, but for ``last_frame_ms``.

    Attributes:
        frames: Frames received.
        errors: Frames and replies that were not the venue's dialect.
        connects: Sockets opened.
        reconnects: Sockets lost or given up, by why.
        asked_anew: Books asked for although nothing said that they were wrong, by why.
        last_frame_ms: When the newest frame came, in the source's own time; 0 for never.
    """

    frames: int = 0
    errors: int = 0
    connects: int = 0
    reconnects: Counter[str] = field(default_factory=Counter)
    asked_anew: Counter[str] = field(default_factory=Counter)
    last_frame_ms: int = 0


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
