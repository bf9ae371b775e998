"""One side of an order book: integer prices in order, each with its size.

The one piece that a venue's assembler and the engine share, so that both books are right, or
wrong, together. A dict answers "what stands at this price", a sorted list answers "what comes
next"; with integer keys `bisect` keeps the list at 0.2 us a change for thousands of levels.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Container, Iterable, Iterator


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

    def update(self, levels: Iterable[tuple[int, int]]) -> None:
        """`set` each of these in turn, without a call for each."""
        sizes, prices = self.sizes, self.prices
        for px, sz in levels:
            if sz:
                if px not in sizes:
                    insort(prices, px)
                sizes[px] = sz
            elif sizes.pop(px, 0):
                del prices[bisect_left(prices, px)]

    def change(
        self,
        levels: Iterable[tuple[int, int]],
        standing: Callable[[int], object],
        growth: int,
        watched: Container[int],
        watched_too: Container[int],
    ) -> list[tuple[int, int, int]]:
        """`update`, telling what a follower of the book wants to know of it.

        An engine spends most of its time here, so what it asks of each level is asked inside.

        Args:
            levels: (price, absolute size) pairs.
            standing: Told each size that is not 0.
            growth: A level that grows by at least this much is noted.
            watched: A level at one of these prices is noted,
            watched_too: or at one of these.

        Returns:
            (price, size before, size after) of the levels noted, in their order.
        """
        sizes, prices = self.sizes, self.prices
        known = sizes.get
        noted = []
        for px, sz in levels:
            before = known(px, 0)
            if sz:
                sizes[px] = sz
                if not before:
                    insort(prices, px)
                standing(sz)
            elif before:
                del sizes[px]
                del prices[bisect_left(prices, px)]
            if sz - before >= growth or px in watched or px in watched_too:
                noted.append((px, before, sz))
        return noted

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
