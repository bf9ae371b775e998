"""One symbol's book out of the ``book`` channel: a snapshot, then changes, each with a checksum.

Messages have no sequence. What guards the book is that each carries the checksum of the ten best
levels a side, and the matching engine's time, which rises from message to message. So:

* A message lost, damaged or out of order is found by its own or the next message's checksum, or
  by the time that goes back, wherever it touches the ten best levels.
* A lost message that only concerned levels further down leaves the checksum right. It is found
  when such a level comes up among the ten best, or is put right, unseen, by the next message
  about that level or by the periodic refresh. Until then these levels can be wrong without
  anybody knowing. A book subscribed ten deep has no such levels.
* The checksum leaves out the decimal point. A pair's numbers are all printed with the same
  decimals, so one that is not is refused; when the venue changes a pair's decimals, the digits of
  all levels change with them, and only a new snapshot tells these.
* A message that could not be read is a lost one, and is known to be.

Where a book is found wrong, the message that showed it is undone, the book stays as it was, marked
as out of sync, and is subscribed anew; whatever comes before the new snapshot is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from streams.events import BookDelta, BookSnapshot, Event
from streams.venues.decimals import TooFine, together
from streams.venues.kraken import urls
from streams.venues.kraken.checked import CheckedBook, CheckedLevel, Decimals, digits_of
from streams.venues.kraken.schema import UNCHECKED, VENUE, BookEntry, WireLevel, text_of
from streams.venues.kraken.times import micros
from streams.venues.market import Market
from tapeline.errors import FrameError

RECENT_MESSAGES: Final = 256
"""Messages remembered by time and checksum, to know one that comes twice."""

OVERLAP_MS: Final = 30_000
"""After a further socket was opened, the other one's messages may come late: they are dropped."""

REFRESH: Final = "refresh"


class BookFeed:
    """Book messages in, a checked book and its records out.

    Attributes:
        synced: Whether the book follows the venue's.
        book: The book, or while not ``synced`` the last good one; None if there is none.
        depth: Levels a side that are subscribed; None until the venue, or a tape, has said it.
    """

    def __init__(
        self, market: Market, ask: Callable[[int], None], *, infer_instrument: bool = False
    ) -> None:
        """``ask(now_ms)`` is called whenever the book has to be subscribed anew."""
        self.synced = False
        self.book: CheckedBook | None = None
        self.depth: int | None = None
        self._market = market
        self._ask = ask
        self._infer = infer_instrument
        self._told = False  # readers have this book: the instrument was known
        self._refreshing = False
        self._reason = "initial"
        self._newest_us = 0  # the venue's time of the newest message, applied or dropped
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT_MESSAGES)
        self._overlap_until_ms = 0

    # --- the connection ---

    def connected(self) -> None:
        """A first socket is open: a snapshot will come."""
        self._unsync()
        self._overlap_until_ms = 0

    def overlapped(self, now_ms: int) -> None:
        """A further socket is open: for a while both may bring this book."""
        self._overlap_until_ms = now_ms + OVERLAP_MS

    def disconnected(self) -> None:
        """No socket is left: what comes next will not follow what came last."""
        self._unsync()

    # --- messages ---

    def snapshot(self, entry: BookEntry, now_ms: int) -> list[Event]:
        """Feed a snapshot: asked for, or a further socket's. One in hand already is dropped.

        Raises:
            FrameError: A level is not a price and a size.
        """
        market, counts = self._market, self._market.counts
        us = micros(entry.timestamp)
        if self.synced:
            # Without a time nothing tells a new one from a copy of an old one.
            if us < self._newest_us or not (us or self._refreshing):
                counts.stale += 1
                return []
        elif 0 < us < self._newest_us:
            # It misses a message that was dropped. Should that one's time have been wrong, the
            # next snapshot is believed.
            self._newest_us = 0
            counts.stale += 1
            self._ask(now_ms)
            return []
        decimals = _decimals_of(entry.bids + entry.asks, None)
        bids, asks = self._levels(entry.bids, entry.asks)
        depth = self.depth or urls.depth_of(max(len(bids), len(asks)))
        px_e, sz_e = market.px.exponent, market.sz.exponent
        book = CheckedBook(px_e, sz_e, depth, decimals, bids, asks)
        if entry.checksum != UNCHECKED:
            if book.checksum() != entry.checksum:
                counts.checksums_failed += 1
                return self._unfit("checksum", _mismatch(book, entry), now_ms)
            counts.checksums_ok += 1
        if book.crossed:
            counts.crossed += 1
            return self._unfit("crossed", _crossing(book), now_ms)
        events: list[Event] = []
        if market.rules is None and self._infer:
            levels = _as_texts(entry.bids + entry.asks)
            prices, sizes = {w.price for w in levels}, {w.qty for w in levels}
            events.append(market.infer(prices, sizes, now_ms))
        reason = REFRESH if self.synced else self._reason
        self.book, self.synced, self._refreshing = book, True, False
        self._newest_us = us
        self._recent.append((us, entry.checksum))
        return events + self._tell(now_ms, reason, us // 1_000)

    def update(self, entry: BookEntry, now_ms: int) -> list[Event]:
        """Feed a change.

        Raises:
            FrameError: A level is not a price and a size. The message is lost with it: the
                caller is to call `unreadable`.
        """
        market, counts, book = self._market, self._market.counts, self.book
        us = micros(entry.timestamp)
        if not self.synced or book is None:
            counts.stale += 1
            self._newest_us = max(self._newest_us, us)
            return []
        if 0 < us <= self._newest_us:
            return self._behind(entry, us, now_ms)
        book.decimals = _decimals_of(entry.bids + entry.asks, book.decimals)
        bids, asks = self._levels(entry.bids, entry.asks)
        px_e, sz_e = market.px.exponent, market.sz.exponent
        if book.px_e != px_e or book.sz_e != sz_e:
            book.refine(px_e, sz_e)
        changed_bids, changed_asks, undo = book.take(bids, asks)
        checksum = book.checksum()
        if checksum != entry.checksum:
            counts.checksums_failed += 1
            detail = _mismatch(book, entry)
            book.put_back(undo)
            self._newest_us = max(self._newest_us, us)
            return self.distrust("checksum", detail, now_ms)
        counts.checksums_ok += 1
        if book.crossed:
            counts.crossed += 1
            detail = _crossing(book)
            book.put_back(undo)
            self._newest_us = max(self._newest_us, us)
            return self.distrust("crossed", detail, now_ms)
        if us:
            self._newest_us = us
            self._recent.append((us, checksum))
        if not self._told:
            return []
        return [
            BookDelta(
                venue=VENUE,
                symbol=market.symbol,
                ts_event_ms=market.event_ms(us // 1_000, now_ms),
                ts_recv_ms=now_ms,
                px_e=px_e,
                sz_e=sz_e,
                bids=[*changed_bids.items()],
                asks=[*changed_asks.items()],
            )
        ]

    # --- trust ---

    def distrust(self, reason: str, detail: str, now_ms: int) -> list[Event]:
        """Stop following the book: a gap is told, and the book subscribed anew."""
        if self.synced:
            self._market.counts.resyncs += 1
        self.synced = self._refreshing = self._told = False
        self._ask(now_ms)
        return [self._market.status("gap", now_ms, reason, detail)]

    def unreadable(self, now_ms: int) -> list[Event]:
        """A message that was, or may have been, about this book could not be read."""
        if not self.synced:
            return []
        self._market.counts.gaps += 1
        return self.distrust("sequence", "a message could not be read", now_ms)

    def refresh(self, now_ms: int) -> None:
        """Ask for a new snapshot; the book is followed until it comes."""
        self._refreshing = self.synced
        self._ask(now_ms)

    def overdue(self, now_ms: int) -> list[Event]:
        """No snapshot has come of a subscription."""
        if self._refreshing:
            # The old subscription has ended by now: what looks like a calm book is a dead one.
            return self.distrust(REFRESH, "the refresh brought no snapshot", now_ms)
        if not self.synced:
            self._ask(now_ms)
        return []

    def instrument_known(self, now_ms: int) -> list[Event]:
        """The book of a symbol that nothing was known of can be told now."""
        if self._told or not self.synced or self.book is None:
            return []
        return self._tell(now_ms, self._reason, 0)

    def record(self, now_ms: int, reason: str) -> BookSnapshot:
        """The book as one record. Only while there is one."""
        book, market = self.book, self._market
        assert book is not None
        if (book.px_e, book.sz_e) != (market.px.exponent, market.sz.exponent):
            book.refine(market.px.exponent, market.sz.exponent)
        return market.record(book, now_ms, reason)

    # --- inside ---

    def _unsync(self) -> None:
        self.synced = self._told = self._refreshing = False
        self._newest_us = 0
        self._recent.clear()

    def _tell(self, now_ms: int, reason: str, venue_ms: int) -> list[Event]:
        if self._market.rules is None:
            return []  # readers take their bins from the instrument, so that one comes first
        self._told, self._reason = True, "resync"
        record = self.record(now_ms, reason)
        if venue_ms:
            record.ts_event_ms = self._market.event_ms(venue_ms, now_ms)
        return [record]

    def _unfit(self, reason: str, detail: str, now_ms: int) -> list[Event]:
        """A snapshot that is wrong in itself. A book in sync can't be trusted either, then."""
        if self.synced:
            return self.distrust(reason, detail, now_ms)
        self._ask(now_ms)
        return []

    def _behind(self, entry: BookEntry, us: int, now_ms: int) -> list[Event]:
        """A message no newer than the last one: a copy, a slower socket's, or out of order."""
        counts = self._market.counts
        if (us, entry.checksum) in self._recent or now_ms < self._overlap_until_ms:
            counts.stale += 1
            return []
        counts.gaps += 1
        detail = f"the venue's time went back by {self._newest_us - us} us"
        # One of the two times is wrong. If the newer, no snapshot would ever be new enough.
        self._newest_us = us
        return self.distrust("sequence", detail, now_ms)

    def _levels(
        self, bids: list[WireLevel], asks: list[WireLevel]
    ) -> tuple[list[CheckedLevel], list[CheckedLevel]]:
        """Exact integers at the market's exponents, which become finer where a level needs it."""
        market = self._market
        px, sz = market.px, market.sz
        try:
            return (
                [(px[w.price], sz[w.qty], digits_of(w.price, w.qty)) for w in bids],
                [(px[w.price], sz[w.qty], digits_of(w.price, w.qty)) for w in asks],
            )
        except TooFine:
            both = _as_texts(bids + asks)
            px_e = together(px, (w.price for w in both))[1]
            sz_e = together(sz, (w.qty for w in both))[1]
            market.refine(px_e, sz_e)
            return self._levels(bids, asks)
        except (TypeError, AttributeError):
            # Not all are text: numbers without a point, or no numbers at all.
            return self._levels(_as_texts(bids), _as_texts(asks))


def _as_texts(levels: Iterable[WireLevel]) -> list[WireLevel]:
    """The same with each number's text.

    Raises:
        FrameError: One is no number.
    """
    return [WireLevel(text_of(w.price), text_of(w.qty)) for w in levels]


def _decimals_of(levels: list[WireLevel], expected: Decimals | None) -> Decimals | None:
    """The decimals that all these numbers have; ``expected`` of none.

    Raises:
        FrameError: They differ, or one is no number.
    """
    for w in levels:
        price, size = w.price, w.qty
        if type(price) is not str or type(size) is not str:
            price, size = text_of(price), text_of(size)
        found = len(price.partition(".")[2]), len(size.partition(".")[2])
        if found != expected:
            if expected is not None:
                said = f"price {price[:40]!r} and size {size[:40]!r}"
                raise FrameError(f"{said}: expected {expected[0]} and {expected[1]} decimals")
            expected = found
    return expected


def _mismatch(book: CheckedBook, entry: BookEntry) -> str:
    return f"checksum {book.checksum()} of the rebuilt book, {entry.checksum} of the venue's"


def _crossing(book: CheckedBook) -> str:
    bid, ask = book.bids.prices[-1], book.asks.prices[0]
    return f"best bid {bid}e{book.px_e} is not below best ask {ask}e{book.px_e}"
