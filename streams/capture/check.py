"""Does a capture hold together? Plays it through the venue's assembler and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.capture.dialects import dialect_of
from streams.capture.documents import Decimals
from streams.capture.player import PROGRESS_EVERY, Player, Progress, listings_of, survey
from streams.events import BookDelta, BookSnapshot, FeedStatus
from streams.venues.base import AssemblerCounts
from tapeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a capture holds and what is wrong with it.

    Attributes:
        venue: Whose.
        symbols: Canonical symbols found, or given.
        frames: Frames received; REST replies among the frames (ns lines) included.
        wire: Frames by the venue's own kind.
        seconds: From the first frame to the last, on the recorder's clock; 0 without times.
        bridged: Symbols whose snapshot was continued by a diff, with no id between them lost.
        counts: The assembler's.
        errors: Frames and replies refused, each with a line in ``problems``.
        problems: The first of them: file, line and why.
    """

    venue: str
    symbols: tuple[str, ...]
    frames: int
    wire: dict[str, int]
    seconds: float
    bridged: tuple[str, ...]
    counts: AssemblerCounts
    errors: int
    problems: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """No gap, no crossed book, no error, no book or top that differs from what the venue says."""
        counts = self.counts
        unequal = counts.tops_compared - counts.tops_equal + counts.checksums_failed
        return not (self.gaps or counts.crossed or self.errors or unequal)

    @property
    def gaps(self) -> int:
        """Holes in whatever the venue numbers: each book's messages, or the connection's."""
        return self.counts.gaps + self.counts.sequence_gaps

    def as_json(self) -> dict[str, Any]:
        """The same, for ``--json``.

        All members are there for every venue. Where a venue has no such thing, a count is 0, and
        ``sequence`` has null for ``first`` and ``last``: only a connection that numbers all its
        frames has those, while ``gaps`` counts holes in a book's own numbers, too.
        """
        counts = self.counts
        return {
            "venue": self.venue,
            "symbols": list(self.symbols),
            "frames": self.frames,
            "wire": self.wire,
            "events": dict(sorted(counts.events.items())),
            "gaps": self.gaps,
            "sequence": {
                "first": counts.sequence_first,
                "last": counts.sequence_last,
                "gaps": self.gaps,
            },
            "checksums": {"ok": counts.checksums_ok, "failed": counts.checksums_failed},
            "resyncs": counts.resyncs,
            "trades": {
                "applied": counts.trades,
                "duplicates": counts.trade_duplicates,
                "missing": counts.trades_missing,
            },
            "tops": {"compared": counts.tops_compared, "equal": counts.tops_equal},
            "crossed": counts.crossed,
            "errors": self.errors,
            "bridged": len(self.bridged),
            "dropped_before_snapshot": counts.stale,
            "ts_replaced": counts.ts_replaced,
            "ignored": counts.ignored,
            "seconds": self.seconds,
            "problems": list(self.problems),
            "ok": self.ok,
        }


def check(
    venue: str,
    files: Sequence[Path],
    *,
    symbols: Sequence[str] = (),
    decimals: Decimals | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Play files in order, as one tape, and count.

    Args:
        venue: Whose capture it is.
        files: In the order they were recorded.
        symbols: The venue's names; those found on the tape if empty.
        decimals: What the venue prints numbers with, where the files have them printed anew.
        progress: Called as it goes on.

    Raises:
        ConfigError: No such venue, or no symbol to be found on the tape.
        CaptureError: A file or a line can't be read.
    """
    dialect = dialect_of(venue)
    tape = survey(dialect, files, decimals)
    listings = listings_of(dialect, symbols or tape.symbols)
    if not listings:
        raise ConfigError("symbols", None, f"a tape of {venue} that names one, or --symbol")
    assembler = dialect.assembler(listings, infer_instruments=not tape.has_instruments)
    player = Player(assembler, dialect, files, decimals)
    joining: set[str] = set()
    bridged: dict[str, None] = {}
    first_ms = last_ms = 0
    told = 0
    for ts_ms, events in player.play():
        if player.frames and ts_ms:
            first_ms = first_ms or ts_ms
            last_ms = max(last_ms, ts_ms)
        for event in events:
            kind = type(event)
            if kind is BookSnapshot:
                joining.add(event.symbol)
            elif kind is BookDelta and event.symbol in joining:
                bridged[event.symbol] = None
            elif kind is FeedStatus:
                joining.discard(event.symbol)
        if progress and player.frames - told >= PROGRESS_EVERY:
            told = player.frames
            progress(told, tape.frames)
    if progress:
        progress(player.frames, tape.frames)
    return CheckResult(
        venue=venue,
        symbols=tuple(listing.symbol for listing in listings),
        frames=player.frames,
        wire=dict(tape.wire.most_common()),
        seconds=round((last_ms - first_ms) / 1_000, 3),
        bridged=tuple(bridged),
        counts=assembler.counts,
        errors=player.problem_count,
        problems=tuple(player.problems),
    )
