"""One side of an order book: integer prices in order, each with its size.

The one piece that a venue's assembler and the engine share, so that both books are right, or
wrong, together. A dict answers "what stands at this price", a sorted list answers "what comes
next"; with integer keys `bisect` keeps the list at 0.2 us a change for thousands of levels.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator


class Ladder:
    """Resting size by price; sizes are absolute and positive.

    Attributes:
        sizes: Price to size. Read it freely, change it through the methods only.
        prices: The same prices, ascending.
    """

    __slots__ = ("prices", "sizes")

    def __init__(self, levels: Iterable[tuple[int, int]] = ()) -> None:
        self.sizes: dict[int, int] = {px: sz for px, sz in levels if sz}
        self.prices: list[int] = sorted(self.sizes)

    def __len__(self) -> int:
        return len(self.prices)

    def set(self, px: int, sz: int) -> int:
        """Put ``sz`` at ``px`` (0 removes it); returns the size that stood there before."""
        sizes = self.sizes
        before = sizes.get(px, 0)
        if sz:
            sizes[px] = sz
            if not before:
                insort(self.prices, px)
        elif before:
            del sizes[px]
            prices = self.prices
            del prices[bisect_left(prices, px)]
        return before

    def lowest(self, count: int) -> list[tuple[int, int]]:
        """The ``count`` lowest levels, ascending: the best asks."""
        sizes = self.sizes
        return [(px, sizes[px]) for px in self.prices[:count]]

    def highest(self, count: int) -> list[tuple[int, int]]:
        """The ``count`` highest levels, descending: the best bids."""
        sizes = self.sizes
        return [(px, sizes[px]) for px in self.prices[: -count - 1 : -1]]

    def ascending(self) -> Iterator[tuple[int, int]]:
        """All levels, lowest price first."""
        sizes = self.sizes
        return ((px, sizes[px]) for px in self.prices)
