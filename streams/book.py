"""The order book as a venue sends it: two ladders, their exponents and the venue's sequence.

What an assembler rebuilds, and what a reader of the topic rebuilds from its records. It knows
nothing of sync, sockets or time; whether a message may be applied is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable

from streams.ladder import Ladder

Top = tuple[int, int, int, int]
"""(bid price, bid size, ask price, ask size) of the best levels."""


class WireBook:
    """Both sides of one symbol's book.

    Attributes:
        bids, asks: Price to size, in units of ``10 ** px_e`` and ``10 ** sz_e``.
        px_e, sz_e: Decimal exponents of all prices and sizes inside.
        seq: The venue's id of the last message applied.
    """

    __slots__ = ("asks", "bids", "px_e", "seq", "sz_e")

    def __init__(self, px_e: int, sz_e: int, seq: int = 0) -> None:
        self.bids, self.asks = Ladder(), Ladder()
        self.px_e, self.sz_e = px_e, sz_e
        self.seq = seq

    def replace(
        self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]], seq: int
    ) -> None:
        """Forget everything and take these levels, in any order."""
        self.bids, self.asks = Ladder(bids), Ladder(asks)
        self.seq = seq

    def apply(
        self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]], seq: int
    ) -> None:
        """Set the absolute size of each level named; size 0 removes it."""
        self.bids.update(bids)
        self.asks.update(asks)
        self.seq = seq

    def top(self) -> Top | None:
        """The best level of each side; None while a side is empty."""
        bids, asks = self.bids, self.asks
        if not bids.prices or not asks.prices:
            return None
        bid, ask = bids.prices[-1], asks.prices[0]
        return bid, bids.sizes[bid], ask, asks.sizes[ask]

    @property
    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, as no venue's own book can be."""
        bids, asks = self.bids.prices, self.asks.prices
        return bool(bids) and bool(asks) and bids[-1] >= asks[0]

    def levels(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """All (bids, asks), best first."""
        return self.bids.highest(len(self.bids)), self.asks.lowest(len(self.asks))

    def refine(self, px_e: int, sz_e: int) -> None:
        """Express the same book in finer units.

        Raises:
            ValueError: An exponent is coarser than the book's: that could lose digits.
        """
        if px_e > self.px_e or sz_e > self.sz_e:
            raise ValueError(f"exponents {px_e}, {sz_e} are coarser than {self.px_e}, {self.sz_e}")
        px, sz = 10 ** (self.px_e - px_e), 10 ** (self.sz_e - sz_e)
        for side in ("bids", "asks"):
            ladder: Ladder = getattr(self, side)
            setattr(self, side, Ladder([(p * px, s * sz) for p, s in ladder.ascending()]))
        self.px_e, self.sz_e = px_e, sz_e
