"""What an engine keeps of the venues beside its primary one: a light book each, and no windows.

Nothing here depends on the primary venue's records, nor theirs on anything here. So a batch's
records may be applied venue by venue: what counts is the order within each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from streams import events
from streams.events import (
    BookDelta,
    BookSnapshot,
    Event,
    FeedState,
    FeedStatus,
    Instrument,
    Kline,
    Level,
    Ticker,
    Trade,
)
from streams.ladder import Ladder
from tables.book import OrderBook
from tables.checks import check_snapshot, check_ticker, check_units
from tables.parameters import WINDOW_MS
from tables.quality import FeedQuality
from tables.scale import rescale
from tables.sequence import LOST, TAKEN_OVER, turn

LEVELS_KEPT: Final = 1000
"""A side, of a whole book; those that come between count twice as far. Of Coinbase's BTC-USD, with
46,000 levels, the best 1000 reach over 1 % from mid."""

VENUES_MAX: Final = 16
"""Other venues of one symbol that are followed at once."""

BEYOND: Final = "the market has left the levels kept"

_NEVER: Final = 2**63

Counts = MutableMapping[str, int]


class OtherVenue:
    """One venue's state: its place in the feed, the best levels of its book, its gaps.

    Of a large book only the best levels are kept, so all prices down to the worst bid kept, and up
    to the worst ask, are known; changes further out are left aside. When the best price gets
    there, the book is muted until the next snapshot.

    Attributes:
        newest_ms: Newest ``ts_recv_ms`` of any record, 0 before any.
        quote: Currency of its prices, as its `Instrument` says; empty before, or where it doesn't.
        synthetic: Whether the venue is a simulator.
    """

    __slots__ = (
        "_ceiling", "_floor", "_so_far", "book", "feed_seq", "feed_state", "feed_token",
        "newest_ms", "quality", "quote", "synthetic",
    )  # fmt: skip

    def __init__(self) -> None:
        self.feed_token = self.feed_seq = 0
        self.newest_ms = 0
        self.feed_state: FeedState | None = None
        self.quote = ""
        self.synthetic = False
        self.book = OrderBook()
        self.quality = FeedQuality()
        self._floor, self._ceiling = 0, _NEVER
        self._so_far: BookSnapshot | None = None  # parts of a snapshot, as one

    def take(self, event: Event, counts: Counts) -> bool:
        """Apply one record of this venue; False if it is not next in its feed.

        Raises:
            MalformedRecord: Before anything has changed.
        """
        return _TAKE[type(event)](self, event, counts)

    def admit(self, record: Event | events.Head, counts: Counts) -> bool:
        """Keep to one bridge's contiguous stream; False if the record is not for us."""
        feed, ts_recv_ms = record.feed, record.ts_recv_ms
        if self.newest_ms and ts_recv_ms - self.newest_ms >= WINDOW_MS:
            self.__init__()  # type: ignore[misc]
        muted = lost = ""
        if feed.seq != self.feed_seq + 1 or feed.token != self.feed_token:
            this = turn(self.feed_token, self.feed_seq, feed)
            if this.refused:
                counts[this.refused] += 1
                return False
            muted = TAKEN_OVER if this.taken_over else ""
            lost = LOST if this.lost else ""
        self.feed_token, self.feed_seq = feed.token, feed.seq
        if ts_recv_ms > self.newest_ms:
            if ts_recv_ms // 1000 > self.newest_ms // 1000:
                self.quality.expire(ts_recv_ms // 1000)
            self.newest_ms = ts_recv_ms
        if muted or lost:
            self.book.mute(muted or lost)
        if lost:
            self._so_far = None
            self._count("gap.feed_seq", counts)
        return True

    def doubt(self, reason: str, counts: Counts) -> None:
        """A change may be half done: the book can't be believed."""
        self.book.mute(reason)
        self._count("gap.error", counts)

    def _count(self, what: str, counts: Counts) -> None:
        counts[what] += 1
        self.quality.count(self.newest_ms, what)

    # --- one kind each: refuse, admit, change -------------------------------------------------

    def _take_instrument(self, event: Instrument, counts: Counts) -> bool:
        check_units(event)
        if not self.admit(event, counts):
            return False
        self.quote, self.synthetic = event.quote.upper(), event.synthetic
        return True

    def _take_snapshot(self, event: BookSnapshot, counts: Counts) -> bool:
        check_snapshot(event, [self._so_far] if self._so_far else [])
        if not self.admit(event, counts):
            return False
        before = self._so_far if event.part > 1 else None
        self._so_far = None
        if event.part > 1 and (
            before is None or (before.part + 1, before.parts) != (event.part, event.parts)
        ):
            counts["snapshot_parts_lost"] += 1
            return True
        if before is None and event.parts == 1:
            self._take_whole_book(event)
            return True
        # All but the best levels are left out at once: a large book comes in megabytes. One more
        # than is kept tells that there are others.
        bids = [*before.bids, *event.bids] if before else event.bids
        asks = [*before.asks, *event.asks] if before else event.asks
        whole = msgspec.structs.replace(
            event,
            bids=Ladder(bids).highest(LEVELS_KEPT + 1),
            asks=Ladder(asks).lowest(LEVELS_KEPT + 1),
        )
        if event.part == event.parts:
            self._take_whole_book(whole)
        else:
            self._so_far = whole
        return True

    def _take_whole_book(self, whole: BookSnapshot) -> None:
        self.book.replace(whole.bids, whole.asks, whole.px_e, whole.sz_e, whole.seq)
        self._floor, self._ceiling = 0, _NEVER
        self._trim(LEVELS_KEPT)

    def _take_delta(self, event: BookDelta, counts: Counts) -> bool:
        book, bids, asks = self.book, event.bids, event.asks
        as_ours = event.px_e == book.px_e and event.sz_e == book.sz_e
        if not as_ours:
            check_units(event)
        if not self.admit(event, counts):
            return False
        if book.state != "ok":
            return True
        if not as_ours:
            bids, asks = self._in_our_units(event)
        floor, ceiling = self._floor, self._ceiling
        if floor:
            bids = [level for level in bids if level[0] >= floor]
        if ceiling != _NEVER:
            asks = [level for level in asks if level[0] <= ceiling]
        book.bids.update(bids)
        book.asks.update(asks)
        book.seq = event.seq
        bid_prices, ask_prices = book.bids.prices, book.asks.prices
        if not bid_prices or not ask_prices:
            if (floor and not bid_prices) or (ceiling != _NEVER and not ask_prices):
                book.mute(BEYOND)
        elif bid_prices[-1] >= ask_prices[0]:
            book.mute("crossed")
            self._count("gap.crossed", counts)
        if len(bid_prices) > 2 * LEVELS_KEPT or len(ask_prices) > 2 * LEVELS_KEPT:
            self._trim(2 * LEVELS_KEPT)
        return True

    def _take_other(self, event: Trade | Ticker | Kline, counts: Counts) -> bool:
        if not isinstance(event, Kline):
            check_units(event)
        if isinstance(event, Ticker):
            check_ticker(event)
        return self.admit(event, counts)

    def _take_status(self, event: FeedStatus, counts: Counts) -> bool:
        if not self.admit(event, counts):
            return False
        self.feed_state = event.status
        if event.status in ("gap", "disconnected"):
            self.book.hold(event.reason or event.status)
            self._count(f"gap.{event.reason or event.status}", counts)
        return True

    # --- the light book -----------------------------------------------------------------------

    def _trim(self, most: int) -> None:
        """Keep the best levels of a side that has more than ``most``."""
        book = self.book
        if len(book.bids) > most:
            book.bids = Ladder(book.bids.highest(LEVELS_KEPT))
            self._floor = book.bids.prices[0]
        if len(book.asks) > most:
            book.asks = Ladder(book.asks.lowest(LEVELS_KEPT))
            self._ceiling = book.asks.prices[-1]

    def _in_our_units(self, event: BookDelta) -> tuple[list[Level], list[Level]]:
        """A delta's levels in the book's units, which get finer if need be."""
        book = self.book
        px_e, sz_e = min(event.px_e, book.px_e), min(event.sz_e, book.sz_e)
        if (px_e, sz_e) != (book.px_e, book.sz_e):
            self._floor = rescale(self._floor, book.px_e, px_e)
            if self._ceiling != _NEVER:
                self._ceiling = rescale(self._ceiling, book.px_e, px_e)
            book.refine(px_e, sz_e)
        px, sz = rescale(1, event.px_e, px_e), rescale(1, event.sz_e, sz_e)
        return [(p * px, s * sz) for p, s in event.bids], [(p * px, s * sz) for p, s in event.asks]

    # --- keeping it ---------------------------------------------------------------------------

    def snapshot(self) -> tuple[object, ...]:
        """Plain values; `restore` takes them back."""
        return (
            self.feed_token,
            self.feed_seq,
            self.newest_ms,
            self.feed_state,
            self.quote,
            self.synthetic,
            self._floor,
            None if self._ceiling == _NEVER else self._ceiling,
            None if self._so_far is None else events.encode(self._so_far),
            self.book.snapshot(),
            self.quality.snapshot(),
        )

    def restore(self, values: Sequence[Any]) -> None:
        """Become what `snapshot` was taken of."""
        (
            self.feed_token,
            self.feed_seq,
            self.newest_ms,
            self.feed_state,
            self.quote,
            self.synthetic,
            self._floor,
            ceiling,
            so_far,
            book,
            quality,
        ) = values
        self._ceiling = _NEVER if ceiling is None else ceiling
        self._so_far = None if so_far is None else events.decode(so_far)  # type: ignore[assignment]
        self.book.restore(book)
        self.quality.restore(quality)


_TAKE: Final[dict[type, Callable[[OtherVenue, Any, Counts], bool]]] = {
    Instrument: OtherVenue._take_instrument,
    BookSnapshot: OtherVenue._take_snapshot,
    BookDelta: OtherVenue._take_delta,
    Trade: OtherVenue._take_other,
    Ticker: OtherVenue._take_other,
    Kline: OtherVenue._take_other,
    FeedStatus: OtherVenue._take_status,
}


class OtherVenues:
    """All of them, by name. A venue that has been silent for 30 minutes is as one never heard of.

    Venues are followed as their records come, whichever the settings list: so the state is a
    function of the records alone, and a venue that is listed later is there at once.
    """

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: dict[str, OtherVenue] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def get(self, venue: str, now_ms: int) -> OtherVenue | None:
        """One of them, unless it has been silent for too long."""
        found = self._all.get(venue)
        return None if found is None or _is_gone(found, now_ms) else found

    def of(self, record: Event | events.Head) -> OtherVenue | None:
        """Whose record this is; None if there is no room for another venue."""
        found = self._all.get(record.venue)
        if found is None:
            if len(self._all) >= VENUES_MAX:
                self._forget(record.ts_recv_ms)
                if len(self._all) >= VENUES_MAX:
                    return None
            found = self._all[record.venue] = OtherVenue()
        return found

    def _forget(self, now_ms: int) -> None:
        self._all = {name: each for name, each in self._all.items() if not _is_gone(each, now_ms)}

    def snapshot(self, newest_ms: int) -> list[tuple[str, tuple[object, ...]]]:
        """Plain values; `restore` takes them back.

        Args:
            newest_ms: Time of the primary venue's newest record.
        """
        newest_ms = max([newest_ms, *(each.newest_ms for each in self._all.values())])
        return [
            (name, each.snapshot())
            for name, each in sorted(self._all.items())
            if not _is_gone(each, newest_ms)
        ]

    def restore(self, values: Collection[tuple[str, Sequence[Any]]]) -> None:
        """Become what `snapshot` was taken of."""
        self._all = {}
        for name, kept in values:
            self._all[name] = OtherVenue()
            self._all[name].restore(kept)


def _is_gone(venue: OtherVenue, now_ms: int) -> bool:
    return now_ms - venue.newest_ms >= WINDOW_MS
