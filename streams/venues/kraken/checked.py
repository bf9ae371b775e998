"""A book that can be held against the venue's checksum of it, and put back if it differs. Pure.

The venue's rule: after a whole message both sides are cut to the subscribed depth; then price and
size of the ten best asks, and of the ten best bids, best first, are written one after the other as
they stood on the wire, without the point and without zeros before the first other digit; the CRC32
of that is the checksum. A size of ``0.00100000`` gives ``100000``: its last zeros count, so the
digits are kept beside each level as they came, and never printed from a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from zlib import crc32

from streams.book import WireBook
from streams.ladder import Ladder

CHECKED_LEVELS: Final = 10

CheckedLevel = tuple[int, int, str]
"""(price, absolute size, digits of both for the checksum)."""

Decimals = tuple[int, int]
"""How many decimals (a price, a size) is printed with."""

Change = tuple[Ladder, dict[int, str], int, int, str]
"""(side, its digits, price, size before, digits before)."""


def digits_of(price: str, size: str) -> str:
    """What a level adds to the checksum's text."""
    return price.replace(".", "").lstrip("0") + size.replace(".", "").lstrip("0")


def checksum_of(asks: Sequence[str], bids: Sequence[str]) -> int:
    """The checksum of the best levels' digits, best first."""
    return crc32("".join((*asks, *bids)).encode())


class CheckedBook(WireBook):
    """Both sides of one symbol's book, no deeper than subscribed.

    Attributes:
        depth: Levels a side that are kept.
        decimals: Of a price and of a size, as the venue prints all of this book's; None while it
            is empty. The checksum does not see the point, so this is what guards its place.
        ask_digits, bid_digits: By price, what the level adds to the checksum's text.
    """

    __slots__ = ("ask_digits", "bid_digits", "decimals", "depth")

    def __init__(
        self,
        px_e: int,
        sz_e: int,
        depth: int,
        decimals: Decimals | None,
        bids: Sequence[CheckedLevel],
        asks: Sequence[CheckedLevel],
    ) -> None:
        """A snapshot's book."""
        super().__init__(px_e, sz_e)
        self.depth, self.decimals = depth, decimals
        self.bid_digits: dict[int, str] = {}
        self.ask_digits: dict[int, str] = {}
        self.take(bids, asks)

    def checksum(self) -> int:
        """Of the book as it stands."""
        ask, bid = self.ask_digits, self.bid_digits
        asks = [ask[px] for px in self.asks.prices[:CHECKED_LEVELS]]
        bids = [bid[px] for px in self.bids.prices[: -CHECKED_LEVELS - 1 : -1]]
        return crc32("".join(asks + bids).encode())

    def take(
        self, bids: Sequence[CheckedLevel], asks: Sequence[CheckedLevel]
    ) -> tuple[dict[int, int], dict[int, int], list[Change]]:
        """Apply a whole message, then cut both sides to the depth.

        Returns:
            (bids changed, asks changed, what `put_back` needs); changes are new sizes by price,
            with levels that the cut removed as 0: a reader of the records cuts nothing.
        """
        undo: list[Change] = []
        changed_bids: dict[int, int] = {}
        changed_asks: dict[int, int] = {}
        depth = self.depth
        if bids:
            _set(self.bids, self.bid_digits, bids, changed_bids, undo)
            prices = self.bids.prices
            if len(prices) > depth:
                cut = [(px, 0, "") for px in prices[:-depth]]
                _set(self.bids, self.bid_digits, cut, changed_bids, undo)
        if asks:
            _set(self.asks, self.ask_digits, asks, changed_asks, undo)
            prices = self.asks.prices
            if len(prices) > depth:
                cut = [(px, 0, "") for px in prices[depth:]]
                _set(self.asks, self.ask_digits, cut, changed_asks, undo)
        return changed_bids, changed_asks, undo

    @staticmethod
    def put_back(undo: list[Change]) -> None:
        """Make a `take` undone; nothing else may have changed since."""
        for ladder, digits, px, before, text in reversed(undo):
            ladder.set(px, before)
            if before:
                digits[px] = text
            else:
                digits.pop(px, None)

    def refine(self, px_e: int, sz_e: int) -> None:
        """Express the same book in finer units; the digits stay what the wire said."""
        px = 10 ** (self.px_e - px_e) if px_e <= self.px_e else 1
        super().refine(px_e, sz_e)
        if px > 1:
            self.bid_digits = {p * px: text for p, text in self.bid_digits.items()}
            self.ask_digits = {p * px: text for p, text in self.ask_digits.items()}


def _set(
    ladder: Ladder,
    digits: dict[int, str],
    levels: Sequence[CheckedLevel],
    changed: dict[int, int],
    undo: list[Change],
) -> None:
    for px, sz, text in levels:
        before = ladder.set(px, sz)
        undo.append((ladder, digits, px, before, digits[px] if before else ""))
        if sz:
            digits[px] = text
        elif before:
            del digits[px]
        changed[px] = sz
