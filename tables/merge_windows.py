"""Merging: what several venues send of one symbol and kind, window by window. Pure.

A window is opened by its first event and ends so long after that event's ``ts_recv_ms``: an event
of later closes it and opens the next. Enough events, or bytes, close it before. An event of before
the end of a window that is closed is late, and dropped. A window that lacks a venue is not written.

Records are those of one partition, in its order. What a feed's sequence says is no part of it
(another bridge's remains, repeats) is left out, and so is a trade that its venue has sent already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from streams import events
from streams.events import Event, Trade
from streams.merged import MERGED_VERSION, ClosedBy, Merge, Merged
from tables.sequence import turn
from tapeline.errors import RecordError

BYTES_MAX: Final = 768 * 1024
"""Of a window's events: the record stays below a broker's stock limit of 1 MB."""

GRACE_MS: Final = 250
"""A window that nothing closes is closed so long after its time."""


class Complete(NamedTuple):
    """A window to be written; ``merged.token`` is still to be set."""

    merged: Merged


class Suppressed(NamedTuple):
    """A window that lacks venues."""

    merge: Merge
    merge_id: str
    missing: tuple[str, ...]
    events: int
    closed_by: ClosedBy


class Late(NamedTuple):
    """An event of a window that is closed."""

    merge: Merge
    venue: str
    seq: int | None
    offset: int
    lateness_ms: int


Outcome = Complete | Suppressed | Late


@dataclass(slots=True)
class _Open:
    """A window that takes events.

    Attributes:
        opened_ms, newest_ms: ``ts_recv_ms`` of its first event, and the highest.
        due_ms: When it is closed at the latest, by the clock of arrivals.
    """

    merge_id: str
    opened_ms: int
    due_ms: int
    first_offset: int
    last_offset: int = 0
    newest_ms: int = 0
    bytes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    events: list[msgspec.Raw] = field(default_factory=list)


class MergeWindow:
    """The window of one `Merge` that is open, if one is.

    Attributes:
        merge: What is asked for.
    """

    def __init__(self, merge: Merge) -> None:
        self.merge = merge
        self._ended_ms = 0  # of the newest that was closed
        self._open: _Open | None = None

    def __len__(self) -> int:
        return len(self._open.events) if self._open else 0

    def take(
        self, offset: int, event: Event, raw: bytes, arrived_ms: int, epoch: int
    ) -> list[Outcome]:
        """One event of this symbol and kind, of a venue that is merged.

        Args:
            offset: Of its record.
            event: The record, read.
            raw: As it is.
            arrived_ms: Now, on a clock that never steps back.
            epoch: Of the topic, for the id.
        """
        merge, ts_ms = self.merge, event.ts_recv_ms
        if ts_ms < self._ended_ms:
            return [Late(merge, event.venue, event.seq, offset, self._ended_ms - ts_ms)]
        out: list[Outcome] = []
        one = self._open
        if one is not None and ts_ms >= one.opened_ms + merge.window_ms:
            out.append(self._close(one, "time", one.opened_ms + merge.window_ms))
            one = None
        if one is not None and one.bytes + len(raw) > BYTES_MAX:
            out.append(self._close(one, "size", one.newest_ms))
            one = None
        if one is None:
            one = self._open = _Open(
                f"{merge.symbol}-{merge.kind}-{epoch}-{offset}",
                ts_ms,
                arrived_ms + merge.window_ms + GRACE_MS,
                offset,
            )
        one.events.append(msgspec.Raw(raw))
        one.counts[event.venue] += 1
        one.bytes += len(raw)
        one.last_offset = offset
        one.newest_ms = max(one.newest_ms, ts_ms)
        if len(one.events) >= merge.max_events:
            out.append(self._close(one, "count", one.newest_ms))
        return out

    def tick(self, arrived_ms: int) -> list[Outcome]:
        """Close a window whose time is over, where no event has done so."""
        one = self._open
        if one is None or arrived_ms < one.due_ms:
            return []
        return [self._close(one, "time", one.opened_ms + self.merge.window_ms)]

    def _close(self, one: _Open, by: ClosedBy, ended_ms: int) -> Complete | Suppressed:
        merge = self.merge
        self._open = None
        self._ended_ms = max(self._ended_ms, ended_ms)
        missing = tuple(venue for venue in merge.venues if venue not in one.counts)
        if missing:
            return Suppressed(merge, one.merge_id, missing, len(one.events), by)
        return Complete(
            Merged(
                v=MERGED_VERSION,
                merge_id=one.merge_id,
                symbol=merge.symbol,
                kind=merge.kind,
                venues=merge.venues,
                token=0,
                opened_ms=one.opened_ms,
                closed_ms=ended_ms,
                closed_by=by,
                first_offset=one.first_offset,
                last_offset=one.last_offset,
                counts=dict(one.counts),
                events=one.events,
            )
        )


@dataclass(slots=True)
class _Stream:
    """How far one venue's feed has come."""

    token: int = 0
    seq: int = 0
    trade_id: int | None = None


@dataclass(slots=True)
class SymbolMerges:
    """All windows of one symbol, and how far its partition has been read.

    Attributes:
        windows: By kind.
        offset: Of the newest record; what comes again is passed over.
        duplicates: Records left out by their feed's sequence, or their trade's id.
    """

    windows: dict[str, MergeWindow] = field(default_factory=dict)
    offset: int = -1
    duplicates: int = 0
    _streams: dict[str, _Stream] = field(default_factory=dict)

    def follow(self, merges: Iterable[Merge]) -> int:
        """Merge these and no others; those that are merged already go on.

        Returns:
            Events of windows that are given up.
        """
        wanted = {merge.kind: merge for merge in merges}
        dropped = sum(
            len(window)
            for kind, window in self.windows.items()
            if kind not in wanted or wanted[kind] != window.merge
        )
        self.windows = {
            kind: known
            if (known := self.windows.get(kind)) is not None and known.merge == merge
            else MergeWindow(merge)
            for kind, merge in wanted.items()
        }
        return dropped

    def take(self, offset: int, raw: bytes | None, arrived_ms: int, epoch: int) -> list[Outcome]:
        """One record of the symbol, whatever it is: what can't be read is the engine's to refuse."""
        if offset <= self.offset:
            return []
        self.offset = offset
        try:
            event = events.decode(raw or b"")
        except RecordError:
            return []
        if not self._is_next(event):
            self.duplicates += 1
            return []
        window = self.windows.get(events.kind_of(event))
        if window is None or event.venue not in window.merge.venues:
            return []
        assert raw is not None
        return window.take(offset, event, raw, arrived_ms, epoch)

    def tick(self, arrived_ms: int) -> list[Outcome]:
        """Close what is due."""
        return [one for window in self.windows.values() for one in window.tick(arrived_ms)]

    def discard(self) -> int:
        """Another writes from here on: give up what is open, and the place in all feeds.

        Returns:
            Events of windows that are given up.
        """
        dropped = sum(map(len, self.windows.values()))
        self.windows = {kind: MergeWindow(one.merge) for kind, one in self.windows.items()}
        self._streams.clear()
        return dropped

    def _is_next(self, event: Event) -> bool:
        stream = self._streams.setdefault(event.venue, _Stream())
        if turn(stream.token, stream.seq, event.feed).refused:
            return False
        stream.token, stream.seq = event.feed.token, event.feed.seq
        if isinstance(event, Trade) and event.trade_id is not None:
            if stream.trade_id is not None and event.trade_id <= stream.trade_id:
                return False
            stream.trade_id = event.trade_id
        return True
