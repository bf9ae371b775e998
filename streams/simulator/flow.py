"""A seeded market in one symbol: limit orders, cancels and market orders over a price ladder.

Pure: no clock, no I/O. Time is an argument, events happen at their own exact times, and the
random numbers are drawn in the order of events. So what a market does depends on its seed
alone, not on how the caller cuts the time into steps, and it runs as fast as it can compute.

The shape of the flow comes from `streams.simulator.fitted`. Scaling the rate scales all of it,
lifetimes too, so a slower market has the same book.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from streams.simulator import fitted
from streams.simulator.draws import Waves, exponential, mean_life_ms, pick, tables_for
from streams.simulator.listing import SymbolSpec
from streams.simulator.resting import ASK, BID, Book, Order, Print, Side, Top
from streams.simulator.restraint import DEPTH_LEVELS, Restraint

RATE_DEFAULT: Final = 300.0
SIZES_KEPT: Final = 10_000
_SIZES_ENOUGH: Final = 500


class LevelChanges(NamedTuple):
    """What a diff-depth event says: ids covered, and new sizes by price, best first."""

    first_id: int
    last_id: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


class Market:
    """One symbol's order flow.

    Attributes:
        book: The orders that rest.
        pinned: (bid, ask) prices that the flow holds while set; episodes pin.
        closed: (side, lowest, highest) price ranges that take no new order.
        thinned: Chance that a new resting order of a side is left out.
        wide: Nobody closes a wide spread while set.
    """

    def __init__(
        self, spec: SymbolSpec, seed: int | str, start_ms: int, rate: float = RATE_DEFAULT
    ) -> None:
        """Open the market with a standing book.

        Args:
            spec: What is traded.
            seed: With the symbol, all that chance depends on.
            start_ms: When it opens, milliseconds since the epoch.
            rate: Book changes a second in the long run, positive.
        """
        self.spec = spec
        self.rate = rate
        self.rng = random.Random(f"{seed}:{spec.symbol}")
        self.pinned: tuple[int, int] | None = None
        self._holders = 0
        self.closed: list[tuple[Side, int, int]] = []
        self.thinned = [0.0, 0.0]
        self.wide = False
        self.sizes: deque[int] = deque(maxlen=SIZES_KEPT)
        rng = self.rng
        self.book = Book(rng.randrange(10**9, 2 * 10**9), rng.randrange(10**6, 10**7), start_ms)
        self._tables = tables_for(spec)
        self._slowness = fitted.CHANGES_PER_S / rate
        self._per_ms = fitted.ARRIVALS_PER_S / self._slowness / 1000
        self._waves = Waves()
        self._buying = rng.random() < 0.5
        self._repairing = False
        self._order = 0
        self._agenda: list[tuple[float, int, Order | Callable[[], None]]] = []
        self._grid_ms = float(start_ms)
        self._next_ms = float(start_ms)
        self._open()
        usual_net = fitted.NET_10S * spec.lots_per_unit * self.pace
        self._restraint = Restraint(usual_net, (self.depth(BID), self.depth(ASK)), start_ms)
        self._sent_id = self.book.update_id
        self.book.take_touched()
        self.book.take_news()
        self._draw_next(float(start_ms))

    @property
    def mid(self) -> float:
        """Between the best prices, ticks."""
        return (self.book.best(BID) + self.book.best(ASK)) / 2

    @property
    def pace(self) -> float:
        """This market's rate relative to the fitted one."""
        return 1 / self._slowness

    def percentile(self, percent: float) -> int:
        """Percentile of the recent new level sizes, lots; a fitted one while there are few."""
        if len(self.sizes) < _SIZES_ENOUGH:
            fallback = fitted.SIZE_P95 if percent >= 50 else fitted.SIZE_P10
            return max(1, round(fallback * self.spec.lots_per_unit))
        ranked = sorted(self.sizes)
        return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]

    # --- time ---

    def at(self, ts_ms: float, action: Callable[[], None]) -> None:
        """Have ``action`` called at a time, in order with everything else."""
        self._order += 1
        heapq.heappush(self._agenda, (ts_ms, self._order, action))

    def advance(self, to_ms: float) -> list[Top | Print]:
        """Let everything up to and including ``to_ms`` happen; tops and prints, in order."""
        agenda, book = self._agenda, self.book
        while True:
            due_ms = agenda[0][0] if agenda else math.inf
            if due_ms > self._next_ms:
                due_ms = self._next_ms
                if due_ms > to_ms:
                    break
                book.now_ms = int(due_ms)
                if due_ms < self._grid_ms:
                    self._arrive()
                else:
                    self._ride_waves()
                self._draw_next(due_ms)
                continue
            if due_ms > to_ms:
                break
            _, _, what = heapq.heappop(agenda)
            book.now_ms = int(due_ms)
            if isinstance(what, Order):
                self._expire(what)
            else:
                what()
            if not self._repairing:
                self._watch_spread(due_ms)
        book.now_ms = int(to_ms)
        return book.take_news()

    def level_changes(self) -> LevelChanges | None:
        """The book's changes since the last call; None if there were none."""
        book = self.book
        if book.update_id == self._sent_id:
            return None
        first, self._sent_id = self._sent_id + 1, book.update_id
        bids, asks = book.take_touched()
        self.sizes.extend(sz for _, sz in bids if sz)
        self.sizes.extend(sz for _, sz in asks if sz)
        return LevelChanges(first, book.update_id, bids, asks)

    def renumber(self, first_id: int) -> None:
        """The next change is numbered ``first_id`` + 1; changes nobody asked for are forgotten."""
        self.book.update_id = self._sent_id = first_id
        self.book.take_touched()

    def _draw_next(self, now_ms: float) -> None:
        """Next arrival, or the next turn of the waves if that comes first (memoryless)."""
        if now_ms >= self._grid_ms:
            self._grid_ms += fitted.ACTIVITY_STEP_MS
        wait = exponential(self.rng, 1 / (self._per_ms * self._waves.activity))
        self._next_ms = min(now_ms + wait, self._grid_ms)

    def _ride_waves(self) -> None:
        self._waves.ride(self.rng)
        if not self.wide:
            depths = (self.depth(BID), self.depth(ASK))
            self._restraint.sample(self.book.now_ms, depths)
            for side, depth in zip((BID, ASK), depths, strict=True):
                self._fill_up(side, depth)

    def depth(self, side: Side) -> int:
        """Lots on the best 20 levels of a side."""
        return sum(sz for _, sz in self.book.levels(side, DEPTH_LEVELS))

    def _fill_up(self, side: Side, depth: int) -> None:
        lots = self._restraint.lacking(side, depth)
        if lots and not self.thinned[side]:
            self.join(side, lots)

    # --- for episodes ---

    def hold(self) -> None:
        """Keep the best prices where they are, until as many `release` calls."""
        self._holders += 1
        if self.pinned is None:
            bid = self.book.best(BID)
            self.pinned = (bid, bid + 1)

    def release(self) -> None:
        """Undo one `hold`."""
        self._holders -= 1
        if not self._holders:
            self.pinned = None

    # --- what happens ---

    def _arrive(self) -> None:
        draw = self.rng.random() * fitted.ARRIVALS_PER_S
        if draw < fitted.DEEP_PER_S:
            self._deepen()
        elif draw < fitted.DEEP_PER_S + fitted.JOINS_PER_S:
            self.join(BID if self.rng.random() < 0.5 else ASK)
        elif draw < fitted.DEEP_PER_S + fitted.JOINS_PER_S + fitted.TAKERS_PER_S:
            self._trade()
        else:
            self._shift()
        if not self._repairing:
            self._watch_spread(self._next_ms)

    def rest(self, order: Order, life_ms: float) -> None:
        """Add an order that is cancelled after ``life_ms``, unless it trades first."""
        self.book.add(order)
        self._order += 1
        heapq.heappush(self._agenda, (self.book.now_ms + life_ms, self._order, order))

    def _welcome(self, side: Side, px: int) -> bool:
        if self.thinned[side] and self.rng.random() < self.thinned[side]:
            return False
        return not any(s == side and low <= px <= high for s, low, high in self.closed)

    def _deepen(self) -> None:
        rng, tables = self.rng, self._tables
        side: Side = BID if rng.random() < 0.5 else ASK
        kind = rng.random()
        if kind < fitted.FAR_LARGE_SHARE:
            distance = int(self.mid * 0.0006 * rng.lognormvariate(1.0, 0.6)) + 1
            sz = pick(rng, tables.far_large)
            life = fitted.FAR_LARGE_LIFE_MIN_MS * (1 + rng.expovariate(1.0))
        elif kind < fitted.FAR_LARGE_SHARE + fitted.NEAR_LARGE_SHARE:
            distance = max(1, round(rng.uniform(*fitted.NEAR_LARGE_TICKS) * self.spec.reach))
            sz = pick(rng, tables.near_large)
            life = rng.expovariate(1 / fitted.NEAR_LARGE_LIFE_MS) * self._slowness
        else:
            distance = pick(rng, tables.distance)
            sz = pick(rng, tables.level)
            life = self._life(distance, dust=sz <= tables.dust)
        if sz >= tables.large and distance > self.mid * fitted.FAR:
            life = max(life, fitted.FAR_LARGE_LIFE_MIN_MS)
        best = self.book.best(side)
        px = best + distance if side else best - distance
        if px > 0 and self._welcome(side, px):
            self.rest(Order(side, px, sz), life)

    def _life(self, distance: int, *, dust: bool) -> float:
        rng = self.rng
        mean = mean_life_ms(distance / self.spec.reach) * (fitted.DUST_LIFE_FACTOR if dust else 1.0)
        share, short = fitted.LIFE_SHORT
        factor = short if rng.random() < share else fitted.LIFE_LONG[1]
        return exponential(rng, mean * factor * self._slowness)

    def join(self, side: Side, sz: int = 0, px: int | None = None) -> None:
        """A maker at the best price, or at ``px``."""
        rng = self.rng
        size = sz or pick(rng, self._tables.touch)
        life = exponential(rng, fitted.TOUCH_LIFE_MS * self._slowness)
        at = self.book.best(side) if px is None else px
        if self._welcome(side, at):
            self.rest(Order(side, at, size, touch=True), life)

    def _trade(self) -> None:
        rng = self.rng
        if rng.random() < fitted.TAKER_REGIME_ENDS:
            self._buying = not self._buying
        buys = self._buying == (rng.random() < fitted.TAKER_SIDE_KEPT)
        wanted = pick(rng, self._tables.taker)
        now_ms = self.book.now_ms
        lots = self._restraint.allowed(now_ms, wanted, buys=buys)
        if not lots:
            buys = not buys
            lots = self._restraint.allowed(now_ms, wanted, buys=buys)
        eaten = ASK if buys else BID
        if self.pinned is not None:
            lots = min(lots, self.book.best_size(eaten) // 2)
        self._restraint.traded(now_ms, self.book.take(eaten, lots), buys=buys)
        if rng.random() < fitted.TAKER_FOLLOWED:
            self.at(now_ms + rng.expovariate(1 / fitted.TAKER_FOLLOWED_MS), self._trade)

    def _shift(self) -> None:
        """Makers of one side step back; the other side follows the price."""
        if self.pinned is not None or self.wide:
            return
        rng, book = self.rng, self.book
        side: Side = ASK if rng.random() < 0.5 else BID
        median, spread = fitted.SHIFT_TICKS
        far = median * self.spec.fineness * rng.lognormvariate(0.0, spread)
        ticks = int(far) + (rng.random() < far % 1)
        if not ticks:
            return
        best = book.best(side)
        limit = best + ticks - 1 if side else best - ticks + 1
        near = [px for px, _ in book.levels(side, 200) if (px <= limit if side else px >= limit)]
        for px in near:
            self.withdraw(side, px)
        new_best = book.best(side)
        if new_best != best:
            self.follow(ASK if side == BID else BID, new_best - 1 if side else new_best + 1)
        self._fill_up(side, self.depth(side))

    def withdraw(self, side: Side, px: int) -> None:
        """All makers at a price step back; those of the best price return at the next one."""
        for order in self.book.orders_at(side, px):
            lots, touch = order.sz, order.touch
            self.book.cancel(order)
            if touch:
                self._come_back(side, lots)

    def follow(self, side: Side, px: int) -> None:
        """A side improves its best price to ``px``; makers at the old one move with it."""
        left_behind = self.book.best(side)
        self.join(side, px=px)
        now_ms = self.book.now_ms
        for order in self.book.orders_at(side, left_behind):
            if order.touch:
                delay = self.rng.expovariate(1 / fitted.REPEG_MS)
                self.at(now_ms + delay, lambda order=order: self._move_up(order))  # type: ignore[misc]

    def _move_up(self, order: Order) -> None:
        lots = order.sz
        if lots and order.px != self.book.best(order.side) and self.pinned is None:
            self.book.cancel(order)
            self.join(order.side, lots)

    def _come_back(self, side: Side, lots: int) -> None:
        delay = self.rng.expovariate(1 / fitted.REPEG_MS)
        self.at(self.book.now_ms + delay, lambda: self.join(side, lots))

    def _expire(self, order: Order) -> None:
        if order.sz and len(self.book.sides[order.side]) > fitted.LEVELS_LEAST:
            self.book.cancel(order)

    def _watch_spread(self, now_ms: float) -> None:
        if self.book.spread() > 1 and not self.wide:
            self._repairing = True
            self.at(now_ms + self.rng.expovariate(1 / fitted.REPAIR_MS), self._repair)

    def _repair(self) -> None:
        """Close a wide spread: back where it was if pinned, else from either side."""
        self._repairing = False
        book = self.book
        bid, ask = book.best(BID), book.best(ASK)
        if ask - bid <= 1 or self.wide:
            return
        if self.pinned is not None:
            pinned_bid, pinned_ask = self.pinned
            if bid < pinned_bid < ask:
                self.join(BID, px=pinned_bid)
            if bid < pinned_ask < ask:
                self.join(ASK, px=pinned_ask)
        elif self.rng.random() < 0.5:
            self.follow(BID, ask - 1)
        else:
            self.follow(ASK, bid + 1)

    def _open(self) -> None:
        """The standing book: bands of distance, each filled as it is in the long run."""
        rng, spec, tables = self.rng, self.spec, self._tables
        dustiest = tables.level[: round(len(tables.level) * fitted.STANDING_DUST_OF)]
        sides: tuple[tuple[Side, int], ...] = ((BID, spec.start_px), (ASK, spec.start_px + 1))
        for side, best in sides:
            for _ in range(round(fitted.JOINS_PER_S * fitted.TOUCH_LIFE_MS / 2000)):
                self.join(side, px=best)
            for low, high, count in fitted.STANDING:
                for _ in range(int(count) + (rng.random() < count % 1)):
                    ticks = low * (high / low) ** rng.random()
                    distance = max(1, round(ticks * spec.reach))
                    px = best + distance if side else best - distance
                    dusty = rng.random() < fitted.STANDING_DUST
                    sz = pick(rng, dustiest if dusty else tables.level)
                    life = mean_life_ms(ticks) * fitted.LIFE_LONG[1] * self._slowness
                    if px > 0:
                        self.rest(Order(side, px, sz), exponential(rng, life))
