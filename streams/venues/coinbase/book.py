"""One symbol's book out of ``level2``: a snapshot of the whole book, then what changes. Pure.

Snapshot and changes come in one order on one connection, whose numbers show what is missing. So a
book follows one connection at a time: two have their own numbers, and cut the changes elsewhere.
A later connection's snapshot moves the book there. A book that is distrusted is kept as it was,
takes no changes, and is subscribed anew; the snapshot that this brings replaces it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streams.book import WireBook
from streams.events import BookDelta, BookSnapshot, Event
from streams.venues.coinbase.schema import VENUE, Level
from streams.venues.coinbase.times import millis
from streams.venues.decimals import TooFine, together
from streams.venues.market import Market

REFRESH: Final = "refresh"

Levels = list[tuple[int, int]]


class BookFeed:
    """Snapshots and changes in, a book and its records out.

    Attributes:
        synced: Whether the book follows the venue's.
        book: The book, or while not ``synced`` the last good one; None if there is none.
        connection: Which one the book follows, or followed last.
    """

    def __init__(
        self, market: Market, ask: Callable[[int], None], *, infer_instrument: bool = False
    ) -> None:
        """``ask(now_ms)`` is called whenever the book has to be subscribed anew."""
        self.synced = False
        self.book: WireBook | None = None
        self.connection = -1
        self._market = market
        self._ask = ask
        self._infer = infer_instrument
        self._told = False  # readers have this book
        self._reason = "initial"

    # --- messages ---

    def snapshot(
        self, levels: list[Level], seq: int, sent_ms: int, recv_ms: int, connection: int
    ) -> list[Event]:
        """Take a whole book.

        Args:
            levels: In any order.
            seq: The frame's number.
            sent_ms: The frame's own time. Those of the levels may be of any age, or 1970.
            recv_ms: When it came.
            connection: Which one it came on.

        Raises:
            FrameError: A level is not a price and a size. Nothing has changed.
        """
        market = self._market
        if self.synced and connection < self.connection:
            market.counts.stale += 1
            return []
        bids, asks = self._read_all(levels)
        events: list[Event] = []
        if market.rules is None and self._infer:
            prices = {level.price_level for level in levels}
            sizes = {level.new_quantity for level in levels}
            events.append(market.infer(prices, sizes, recv_ms))
            bids, asks = self._read_all(levels)
        book = WireBook(market.px.exponent, market.sz.exponent)
        book.replace(bids, asks, seq)
        if book.crossed:
            market.counts.crossed += 1
            return events + self.distrust("crossed", crossing(book), recv_ms)
        reason = REFRESH if self.synced else self._reason
        self.book, self.synced, self.connection = book, True, connection
        self._told, self._reason = False, "resync"
        return events + self._tell(recv_ms, reason, market.event_ms(sent_ms, recv_ms))

    def update(self, levels: list[Level], seq: int, recv_ms: int, connection: int) -> list[Event]:
        """Take changes; the arguments are those of `snapshot`.

        Raises:
            FrameError: A level is not a price and a size. Nothing has changed.
        """
        bids, asks = self._read(levels)
        market, book = self._market, self.book
        if book is None or not self.synced or connection != self.connection:
            market.counts.stale += 1
            return []
        if book.px_e != market.px.exponent or book.sz_e != market.sz.exponent:
            book.refine(market.px.exponent, market.sz.exponent)
        book.apply(bids, asks, seq)
        if book.crossed:
            market.counts.crossed += 1
            events = self.distrust("crossed", crossing(book), recv_ms)
            self.book = None  # not one to be shown to anybody
            return events
        if not self._told or not levels:
            return []
        return [
            BookDelta(
                venue=VENUE,
                symbol=market.symbol,
                ts_event_ms=market.event_ms(millis(levels[0].event_time), recv_ms),
                ts_recv_ms=recv_ms,
                seq=seq,
                px_e=book.px_e,
                sz_e=book.sz_e,
                bids=bids,
                asks=asks,
            )
        ]

    def instrument_known(self, now_ms: int) -> list[Event]:
        """The book of a symbol that nothing was known of can be told now."""
        book, market = self.book, self._market
        if book is None or not self.synced or self._told:
            return []
        book.refine(market.px.exponent, market.sz.exponent)
        return self._tell(now_ms, "initial", now_ms)

    # --- trust ---

    def distrust(self, reason: str, detail: str, now_ms: int) -> list[Event]:
        """Stop following the book: a gap is told, and the book is to be subscribed anew."""
        if self.synced:
            self._market.counts.resyncs += 1
        self.synced = self._told = False
        self._ask(now_ms)
        return [self._market.status("gap", now_ms, reason, detail)]

    def hole(self, connection: int, detail: str, now_ms: int) -> list[Event]:
        """Frames of a connection are lost: they may have been about this book."""
        if self.synced and connection != self.connection:
            if connection > self.connection:
                self._ask(now_ms)  # the snapshot that was to move the book may be lost
            return []
        return self.distrust("sequence", detail, now_ms)

    def closed(self, connection: int, now_ms: int) -> list[Event]:
        """A connection has ended, and others go on."""
        if not self.rests_on(connection):
            return []
        return self.distrust("restart", "the socket that the book followed is gone", now_ms)

    def refresh(self, now_ms: int) -> list[Event]:
        """Have a new snapshot; the book is followed until it comes."""
        if not self.synced:
            return self.distrust(REFRESH, "a new snapshot was asked for", now_ms)
        self._ask(now_ms)
        return []

    def overdue(self, now_ms: int) -> list[Event]:
        """The snapshot that was waited for has not come."""
        if self.synced:
            # The old subscription has ended by now: what looks like a calm book is a dead one.
            return self.distrust(REFRESH, "the refresh brought no snapshot", now_ms)
        self._ask(now_ms)
        return []

    def rests_on(self, connection: int) -> bool:
        """Whether the book is in sync by way of this connection."""
        return self.synced and self.connection == connection

    def disconnected(self) -> None:
        """No socket is left. A connection's number means nothing to the next one's."""
        self.synced = self._told = False
        self.connection = -1

    # --- inside ---

    def record(self, now_ms: int, reason: str) -> BookSnapshot:
        """The book as one record. Only while there is one."""
        book = self.book
        assert book is not None
        return self._market.record(book, now_ms, reason, book.seq)

    def _tell(self, now_ms: int, reason: str, event_ms: int) -> list[Event]:
        if self._market.rules is None:
            return []
        self._told = True
        record = self.record(now_ms, reason)
        record.ts_event_ms = event_ms
        return [record]

    def _read(self, levels: list[Level]) -> tuple[Levels, Levels]:
        """Exact integers at the market's exponents, which become finer where a level needs it."""
        market = self._market
        px, sz = market.px, market.sz
        bids: Levels = []
        asks: Levels = []
        try:
            for level in levels:
                side = bids if level.side == "bid" else asks
                side.append((px[level.price_level], sz[level.new_quantity]))
        except TooFine:
            self._refine(levels)
            return self._read(levels)
        return bids, asks

    def _read_all(self, levels: list[Level]) -> tuple[Levels, Levels]:
        """The same for a whole book: tens of thousands of levels, few of them seen before."""
        market = self._market
        sides = [[level for level in levels if level.side == side] for side in ("bid", "offer")]
        try:
            bids, asks = (
                list(
                    zip(
                        market.px.many([level.price_level for level in side]),
                        market.sz.many([level.new_quantity for level in side]),
                        strict=True,
                    )
                )
                for side in sides
            )
        except TooFine:
            self._refine(levels)
            return self._read_all(levels)
        return bids, asks

    def _refine(self, levels: list[Level]) -> None:
        market = self._market
        px_e = together(market.px, (level.price_level for level in levels))[1]
        sz_e = together(market.sz, (level.new_quantity for level in levels))[1]
        market.refine(px_e, sz_e)


def crossing(book: WireBook) -> str:
    """What is wrong with a crossed book, for people."""
    bid, ask = book.bids.prices[-1], book.asks.prices[0]
    return f"best bid {bid}e{book.px_e} is not below best ask {ask}e{book.px_e}"
