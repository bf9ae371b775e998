"""What an assembler makes of a tape, as the records that a bridge would have written. No broker.

The same assembler, the same `Feeds`, the same ticks of the tape's own time as when a recording
takes the sockets' place in a bridge. Whatever is done with them, all symbols of the tape are
assembled: a symbol's records do not depend on who else is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from streams.capture.dialects import dialect_of
from streams.capture.player import Player, listings_of, survey
from streams.events import Event
from streams.feeds import Feeds, OutRecord
from streams.symbols import Listing
from streams.tape_source import TICK_MS
from streams.venues.base import Assembler

FEED_TOKEN: Final = 1
"""Of every record: no lease is held, and the same tape gives the same bytes."""

ALIVE_PERIOD_MS: Final = 500
SNAPSHOT_PERIOD_MS: Final = 300_000
PROGRESS_EVERY: Final = 500

Placed = tuple[str, int, bytes]
"""(symbol, offset, value); offsets count each symbol's own records from 0."""


def records_of(
    assembler: Assembler, moments: Iterable[tuple[int, list[Event]]]
) -> Iterator[Placed]:
    """Stamp what an assembler says.

    Args:
        assembler: Asked for instruments and books when they are due.
        moments: (ts_recv_ms, events) for each thing that it was fed, also if none.
    """
    feeds = Feeds(
        assembler,
        partitions=1,
        alive_period_ms=ALIVE_PERIOD_MS,
        snapshot_period_ms=SNAPSHOT_PERIOD_MS,
    )
    offsets: dict[str, int] = {}
    for symbol in assembler.symbols():
        feeds.granted(symbol, FEED_TOKEN, 0)
        offsets[symbol] = -1

    def placed(records: list[OutRecord]) -> Iterator[Placed]:
        for record in records:
            offset = offsets[record.symbol] = offsets[record.symbol] + 1
            yield record.symbol, offset, record.value

    ticked_ms = 0
    for now_ms, events in moments:
        if events:
            yield from placed(feeds.accept(events))
            feeds.told.clear()
        if not 0 <= now_ms - ticked_ms < TICK_MS:
            ticked_ms = now_ms
            yield from placed(feeds.tick(now_ms, live=True))


class TapeRecords:
    """One continuous tape of recordings.

    Attributes:
        listings: The tape's symbols.
        frames: How many there are on the tape.
        player: What reads it; it counts frames and keeps the first few problems.
    """

    def __init__(self, venue: str, files: Sequence[Path]) -> None:
        """Look the tape through; nothing is played yet.

        Args:
            venue: Whose recording it is.
            files: In the order they were recorded.

        Raises:
            CaptureError: A file or a line can't be read.
            ConfigError: No adapter has that name.
        """
        dialect = dialect_of(venue)
        found = survey(dialect, files)
        self.frames = found.frames
        self.listings: tuple[Listing, ...] = tuple(listings_of(dialect, found.symbols))
        self._assembler = dialect.assembler(
            self.listings, infer_instruments=not found.has_instruments
        )
        self.player = Player(self._assembler, dialect, files)

    def play(self, progress: Callable[[int, int], None] | None = None) -> Iterator[Placed]:
        """The tape's records in their order. Once.

        Args:
            progress: Called with (frames done, frames on the tape), now and then.

        Raises:
            CaptureError: A file or a line can't be read.
        """
        return records_of(self._assembler, self._moments(progress))

    def _moments(
        self, progress: Callable[[int, int], None] | None
    ) -> Iterator[tuple[int, list[Event]]]:
        told = 0
        for moment in self.player.play():
            yield moment
            if progress is not None and self.player.frames - told >= PROGRESS_EVERY:
                told = self.player.frames
                progress(told, self.frames)
