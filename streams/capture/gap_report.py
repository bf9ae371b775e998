"""What is, and is not, in one recorded file: the report beside it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

REPORT_VERSION: Final = 1
GAPS_KEPT: Final = 1_000
"""Told one by one; those beyond are counted."""


class Hole(NamedTuple):
    """What was not recorded, because the disk was slower than the venue or took nothing.

    Attributes:
        reason: ``queue_full`` or ``disk``.
        from_ms, to_ms: When the first and the last of it came.
        frames: Frames, sent and received, and REST replies.
        bytes: Of them.
    """

    reason: str
    from_ms: int
    to_ms: int
    frames: int
    bytes: int


@dataclass(slots=True)
class GapReport:
    """Counts of one file, and of what is missing in it.

    Attributes:
        file: The recording's name.
        venue, symbols: What was followed.
        frames, sent, replies: Lines by kind: received, sent, REST.
        first_ms, last_ms: When the first and the last frame came; 0 without any.
        connects: Sockets opened while it was written.
        reconnects: Those of them that were not the recording's first.
        dropped, dropped_bytes: What is not in it, though it came.
        gaps: Each with its ``reason``: ``queue_full`` and ``disk`` (not recorded), ``disconnected``
            (no socket), else the assembler's word for what the venue's own sequence tells.
        gap_count: How many there were, also of those that are not told one by one.
        text_bytes, file_bytes: Before and after compression.
        complete: Whether the file was finished in order.
    """

    file: str
    venue: str
    symbols: tuple[str, ...]
    frames: int = 0
    sent: int = 0
    replies: int = 0
    first_ms: int = 0
    last_ms: int = 0
    connects: int = 0
    reconnects: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    gap_count: int = 0
    text_bytes: int = 0
    file_bytes: int = 0
    complete: bool = False
    gaps: list[dict[str, Any]] = field(default_factory=list)

    def received(self, ts_ms: int) -> None:
        """A frame is in the file."""
        self.frames += 1
        self.first_ms = self.first_ms or ts_ms
        self.last_ms = ts_ms

    def hole(self, hole: Hole) -> None:
        """Something is not."""
        self.dropped += hole.frames
        self.dropped_bytes += hole.bytes
        self.gap(hole.reason, from_ms=hole.from_ms, to_ms=hole.to_ms, frames=hole.frames)

    def gap(self, reason: str, **told: Any) -> dict[str, Any]:
        """Something is missing; returns what is told of it, to be completed."""
        entry = {"reason": reason, **told}
        self.gap_count += 1
        if len(self.gaps) < GAPS_KEPT:
            self.gaps.append(entry)
        return entry

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "v": REPORT_VERSION,
            "file": self.file,
            "venue": self.venue,
            "symbols": list(self.symbols),
            "complete": self.complete,
            "frames": self.frames,
            "first_ms": self.first_ms or None,
            "last_ms": self.last_ms or None,
            "sent": self.sent,
            "replies": self.replies,
            "connects": self.connects,
            "reconnects": self.reconnects,
            "dropped": {"frames": self.dropped, "bytes": self.dropped_bytes},
            "gap_count": self.gap_count,
            "gaps": self.gaps,
            "text_bytes": self.text_bytes,
            "file_bytes": self.file_bytes,
        }
