"""A recording in the sockets' place: records as a bridge would have written them back then.

Times are the tape's own, signs of life and snapshots included, so the records of one tape are the
same on each run but for their token. It goes as fast as the broker takes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from streams.capture.dialects import dialect_of
from streams.capture.player import Player, listings_of, survey
from streams.sources import Sink, SourceCounts
from streams.symbols import Listing
from streams.venues.base import Assembler

YIELD_EVERY: Final = 200
"""Frames between two looks at whether there is room, and at other tasks."""

TICK_MS: Final = 100


class TapeSource:
    """A `FrameSource` that ends with its last file.

    Attributes:
        assembler: The one driven.
        counts: What has been seen.
        listings: The tape's symbols, or those chosen of them.
        frames: How many there are on the tape.
        player: What reads the tape; it keeps the first few problems.
    """

    def __init__(
        self, venue: str, files: Sequence[Path], listings: Iterable[Listing] | None = None
    ) -> None:
        """Look the tape through; nothing is played before `run`.

        Raises:
            CaptureError: A file or a line can't be read.
            ConfigError: No adapter has that name.
        """
        dialect = dialect_of(venue)
        found = survey(dialect, files)
        self.frames = found.frames
        self.listings = tuple(listings or listings_of(dialect, found.symbols))
        self.assembler: Assembler = dialect.assembler(
            self.listings, infer_instruments=not found.has_instruments
        )
        self.counts = SourceCounts()
        self.player = Player(self.assembler, dialect, files)

    async def run(self, sink: Sink) -> None:
        """Play the tape to its end. The book stays as the tape leaves it: nothing disconnected.

        Raises:
            CaptureError: A file or a line can't be read.
        """
        venue = self.assembler.venue
        await sink.ready(venue)
        ticked_ms = 0
        for played, (now_ms, events) in enumerate(self.player.play()):
            if events:
                sink.accept(venue, events)
            if not 0 <= now_ms - ticked_ms < TICK_MS:
                ticked_ms = now_ms
                sink.tick(venue, now_ms, live=True)
            self.counts.frames = self.player.frames
            self.counts.errors = self.player.problem_count
            self.counts.last_frame_ms = now_ms
            if played % YIELD_EVERY == 0:
                await sink.room()
                await asyncio.sleep(0)
