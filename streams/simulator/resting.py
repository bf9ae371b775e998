"""Orders that rest in one symbol's book, in integer ticks and lots, first in, first out."""

from __future__ import annotations

import sys
from typing import Final, Literal, NamedTuple

from streams.ladder import Ladder

Side = Literal[0, 1]
BID: Final[Side] = 0
ASK: Final[Side] = 1

LEVELS_KEPT: Final = 3
"""A taker never eats the last levels of a side: the book has no empty side."""


class Order:
    """One resting order.

    Attributes:
        px: Price, ticks.
        sz: Size shown, lots; 0 once it is gone.
        touch: Its maker follows the best price.
        peak: Size shown again after each fill, while ``hidden`` lasts; 0 for a plain order.
        hidden: Lots not shown.
    """

    __slots__ = ("hidden", "peak", "px", "side", "sz", "touch")

    def __init__(
        self, side: Side, px: int, sz: int, *, touch: bool = False, peak: int = 0, hidden: int = 0
    ) -> None:
        self.side: Side = side
        self.px = px
        self.sz = sz
        self.touch = touch
        self.peak = peak
        self.hidden = hidden


class Print(NamedTuple):
    """One execution: a taker order against one resting order."""

    ts_ms: int
    trade_id: int
    px: int
    sz: int
    buyer_is_maker: bool


class Top(NamedTuple):
    """The best prices and their sizes have changed with book change ``update_id``."""

    ts_ms: int
    update_id: int
    bid_px: int
    bid_sz: int
    ask_px: int
    ask_sz: int


class Book:
    """Both sides, with a number for each change.

    Attributes:
        sides: (bids, asks), each price to total size.
        update_id: Number of the last change; each change raises it by one.
        touched: (bids, asks), prices changed since the last `take_touched`.
        news: Tops and prints since the last `take_news`, in order.
        now_ms: Time of whatever happens now; the owner sets it.
    """

    __slots__ = ("_queues", "_top", "news", "now_ms", "sides", "touched", "trade_id", "update_id")

    def __init__(self, update_id: int, trade_id: int, now_ms: int) -> None:
        self.sides = (Ladder(), Ladder())
        self.update_id = update_id
        self.trade_id = trade_id
        self.now_ms = now_ms
        self.touched: tuple[set[int], set[int]] = (set(), set())
        self.news: list[Top | Print] = []
        # A dict as a queue: first in is first, and anything can leave at once.
        self._queues: tuple[dict[int, dict[Order, None]], dict[int, dict[Order, None]]] = ({}, {})
        self._top = (0, 0, sys.maxsize, 0)

    def best(self, side: Side) -> int:
        """Best price of a side, ticks."""
        prices = self.sides[side].prices
        return prices[0] if side else prices[-1]

    def best_size(self, side: Side) -> int:
        """Lots shown at the best price of a side."""
        return self.sides[side].sizes[self.best(side)]

    def spread(self) -> int:
        """Best ask minus best bid, ticks; at least 1."""
        return self.sides[ASK].prices[0] - self.sides[BID].prices[-1]

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        """The best ``count`` levels, best first."""
        ladder = self.sides[side]
        return ladder.lowest(count) if side else ladder.highest(count)

    def orders_at(self, side: Side, px: int) -> list[Order]:
        """Orders resting at a price, first in first."""
        return list(self._queues[side].get(px, ()))

    def add(self, order: Order) -> Order:
        """Let a new order rest. The caller sees to it that it does not cross."""
        side, px = order.side, order.px
        self._queues[side].setdefault(px, {})[order] = None
        ladder = self.sides[side]
        ladder.set(px, ladder.sizes.get(px, 0) + order.sz)
        self._changed(side, px)
        return order

    def cancel(self, order: Order) -> bool:
        """Take an order out; False if it was gone already."""
        if not order.sz:
            return False
        left = self.sides[order.side].sizes[order.px] - order.sz
        order.sz = order.hidden = 0
        self._leave(order)
        self.sides[order.side].set(order.px, left)
        self._changed(order.side, order.px)
        return True

    def take(self, side: Side, lots: int, limit_px: int | None = None) -> int:
        """A taker order against a side: best price first, oldest order first.

        Args:
            side: The side that is eaten; BID for a sell order.
            lots: How much it wants.
            limit_px: Worst price it accepts, inclusive.

        Returns:
            Lots executed; less than asked if the price limit or the end of the book is met.
        """
        ladder = self.sides[side]
        queues = self._queues[side]
        left = lots
        while left > 0 and len(ladder) > LEVELS_KEPT:
            px = self.best(side)
            if limit_px is not None and (px > limit_px if side else px < limit_px):
                break
            order = next(iter(queues[px]))
            fill = min(left, order.sz)
            left -= fill
            order.sz -= fill
            shown = ladder.sizes[px] - fill
            if order.peak and order.hidden:
                refill = min(order.hidden, order.peak - order.sz)
                order.hidden -= refill
                order.sz += refill
                shown += refill
            self.trade_id += 1
            self.news.append(Print(self.now_ms, self.trade_id, px, fill, side == BID))
            if not order.sz:
                self._leave(order)
            ladder.set(px, shown)
            self._changed(side, px)
        return lots - left

    def _leave(self, order: Order) -> None:
        queues = self._queues[order.side]
        queue = queues[order.px]
        del queue[order]
        if not queue:
            del queues[order.px]

    def _changed(self, side: Side, px: int) -> None:
        self.update_id += 1
        self.touched[side].add(px)
        top = self._top
        if px > top[2] if side else px < top[0]:
            return
        bids, asks = self.sides
        if not bids.prices or not asks.prices:
            return
        bid, ask = bids.prices[-1], asks.prices[0]
        now = (bid, bids.sizes[bid], ask, asks.sizes[ask])
        if now != top:
            self._top = now
            self.news.append(Top(self.now_ms, self.update_id, *now))

    def take_news(self) -> list[Top | Print]:
        """Tops and prints since the last call."""
        news, self.news = self.news, []
        return news

    def take_touched(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(bids, asks): levels changed since the last call, best first, 0 for a removed one."""
        bids, asks = self.touched
        self.touched = (set(), set())
        bid_sizes, ask_sizes = self.sides[BID].sizes, self.sides[ASK].sizes
        return (
            [(px, bid_sizes.get(px, 0)) for px in sorted(bids, reverse=True)],
            [(px, ask_sizes.get(px, 0)) for px in sorted(asks)],
        )
