"""What is known of one symbol at its venue, shared by its book and its other streams."""

from __future__ import annotations

from typing import Final

from streams.book import WireBook
from streams.events import BookSnapshot, FeedState, FeedStatus, Instrument
from streams.symbols import Listing
from streams.venues.base import AssemblerCounts
from streams.venues.decimals import DECIMALS_MAX, Scale, common_step

CLOCK_SKEW_MS: Final = 60_000
"""A venue time further off our own than this is not believed."""


class Market:
    """Names, exponents and trading rules of one symbol.

    Attributes:
        venue: Its name.
        symbol: Canonical.
        venue_symbol: As the venue spells it.
        px, sz: Text to integers. They only become finer, so that a price of today can always
            be told apart from one of a minute ago.
        rules: The last `Instrument`, None before anything is known.
        unlisted: The venue has said that it does not know this symbol.
        counts: The assembler's.
    """

    __slots__ = ("counts", "px", "rules", "symbol", "sz", "unlisted", "venue", "venue_symbol")

    def __init__(
        self, listing: Listing, counts: AssemblerCounts, *, decimals_max: int = DECIMALS_MAX
    ) -> None:
        """``decimals_max``: most decimals of a price or size that the venue prints."""
        self.venue = listing.venue
        self.symbol, self.venue_symbol = listing.symbol, listing.venue_symbol.upper()
        self.px = Scale("price", 1, decimals_max=decimals_max)
        self.sz = Scale("size", 0, decimals_max=decimals_max)
        self.rules: Instrument | None = None
        self.unlisted = False
        self.counts = counts

    def know(self, rules: Instrument) -> Instrument:
        """Take the venue's rules; prices and sizes have at least their exponents from now on."""
        self.rules = rules
        self.refine(rules.px_e, rules.sz_e)
        return rules

    def infer(self, prices: set[str], sizes: set[str], now_ms: int) -> Instrument:
        """Read tick and lot size off the digits of a book, for want of the venue's word."""
        tick_size, px_e = common_step(prices, "price", decimals_max=self.px.decimals_max)
        lot_size, sz_e = common_step(sizes, "size", decimals_max=self.sz.decimals_max)
        return self.know(
            Instrument(
                venue=self.venue,
                symbol=self.symbol,
                ts_event_ms=now_ms,
                ts_recv_ms=now_ms,
                px_e=px_e,
                sz_e=sz_e,
                tick_size=tick_size,
                lot_size=lot_size,
                status="unknown",
                origin="inferred",
            )
        )

    def refine(self, px_e: int, sz_e: int) -> None:
        """Let prices and sizes have at least these exponents."""
        self.px, self.sz = self.px.finer(px_e), self.sz.finer(sz_e)

    def event_ms(self, venue_ms: int, recv_ms: int) -> int:
        """The venue's time, or ours where the venue's can't be true."""
        if -CLOCK_SKEW_MS <= venue_ms - recv_ms <= CLOCK_SKEW_MS:
            return venue_ms
        self.counts.ts_replaced += 1
        return recv_ms

    def record(
        self, book: WireBook, now_ms: int, reason: str, seq: int | None = None
    ) -> BookSnapshot:
        """A book as one record; ``seq`` where the venue numbers its books."""
        bids, asks = book.levels()
        return BookSnapshot(
            venue=self.venue,
            symbol=self.symbol,
            ts_event_ms=now_ms,
            ts_recv_ms=now_ms,
            seq=seq,
            px_e=book.px_e,
            sz_e=book.sz_e,
            bids=bids,
            asks=asks,
            reason=reason,
        )

    def status(
        self, status: FeedState, now_ms: int, reason: str = "", detail: str = ""
    ) -> FeedStatus:
        """A `FeedStatus` of this symbol."""
        return FeedStatus(
            venue=self.venue,
            symbol=self.symbol,
            ts_event_ms=now_ms,
            ts_recv_ms=now_ms,
            status=status,
            reason=reason,
            detail=detail,
        )
