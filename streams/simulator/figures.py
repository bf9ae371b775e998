"""What a venue remembers of its trades: candles, 24 h figures, and the trades before the first."""

from __future__ import annotations

import random
from typing import Final

from streams.simulator.flow import Market
from streams.simulator.resting import Print

MINUTE_MS: Final = 60_000


class Candle:
    """The trades of one interval, in ticks and lots.

    Attributes:
        quote, buy_quote: Ticks times lots, of all and of those that a taker bought.
    """

    __slots__ = ("buy_quote", "buys", "close", "first_id", "high", "last_id", "low", "open",
                 "open_ms", "quote", "span_ms", "trades", "volume")  # fmt: skip

    def __init__(self, open_ms: int, px: int, span_ms: int = MINUTE_MS) -> None:
        self.open_ms = open_ms
        self.span_ms = span_ms
        self.open = self.high = self.low = self.close = px
        self.volume = self.buys = self.quote = self.buy_quote = self.trades = 0
        self.first_id = self.last_id = -1

    @property
    def end_ms(self) -> int:
        """Where the next one begins."""
        return self.open_ms + self.span_ms

    def add(self, trade: Print) -> None:
        """Count a trade in it."""
        px, sz = trade.px, trade.sz
        if not self.trades:
            self.open = self.high = self.low = px
            self.first_id = trade.trade_id
        self.high, self.low = max(self.high, px), min(self.low, px)
        self.close, self.last_id = px, trade.trade_id
        self.trades += 1
        self.volume += sz
        self.quote += px * sz
        if not trade.buyer_is_maker:
            self.buys += sz
            self.buy_quote += px * sz

    def next(self, at_ms: int) -> Candle:
        """The one that a time after its end falls into."""
        return Candle(at_ms - at_ms % self.span_ms, self.close, self.span_ms)


class Day:
    """The 24 h figures: an invented past, then every trade since. It never rolls."""

    __slots__ = ("first_id", "high", "last", "last_id", "last_sz", "low", "open", "quote",
                 "trades", "volume")  # fmt: skip

    def __init__(self, market: Market) -> None:
        rng, px = market.rng, market.spec.start_px
        self.open = max(1, round(px * (1 + rng.uniform(-0.02, 0.02))))
        self.high = round(max(px, self.open) * (1 + rng.uniform(0.001, 0.01)))
        self.low = max(1, round(min(px, self.open) * (1 - rng.uniform(0.001, 0.01))))
        self.last, self.last_sz = px, 1
        self.volume = round(rng.uniform(20_000, 40_000) * market.spec.lots_per_unit)
        self.quote = self.volume * (px + self.open) // 2
        self.last_id = market.book.trade_id
        self.trades = min(self.last_id, 900_000)
        self.first_id = self.last_id - self.trades + 1

    def add(self, trade: Print) -> None:
        """Count a trade in them."""
        self.high, self.low = max(self.high, trade.px), min(self.low, trade.px)
        self.last, self.last_sz, self.last_id = trade.px, trade.sz, trade.trade_id
        self.trades += 1
        self.volume += trade.sz
        self.quote += trade.px * trade.sz


def past_prints(market: Market, now_ms: int, count: int) -> list[Print]:
    """Invented trades up to the opening, oldest first; the market's own ids follow on them."""
    rng = random.Random(f"past:{market.spec.symbol}:{market.book.trade_id}")
    px, last_id = market.spec.start_px, market.book.trade_id
    found: list[Print] = []
    ts_ms = now_ms
    for n in range(min(count, last_id)):
        ts_ms -= 1 + int(rng.expovariate(1 / 500))
        sells = rng.random() < 0.5
        sz = max(1, round(market.spec.lots_per_unit * rng.lognormvariate(-4.5, 1.5)))
        # A taker that sells meets the bid, one tick below the ask.
        found.append(Print(ts_ms, last_id - n, px if sells else px + 1, sz, sells))
    return found[::-1]


def past_candles(market: Market, now_ms: int, count: int, span_ms: int) -> list[Candle]:
    """Invented candles before the one that holds ``now_ms``, oldest first."""
    rng = random.Random(f"candles:{market.spec.symbol}:{market.book.trade_id}")
    close = market.spec.start_px
    open_ms = now_ms - now_ms % span_ms
    found: list[Candle] = []
    for _ in range(count):
        open_ms -= span_ms
        candle = Candle(open_ms, close, span_ms)
        candle.open = max(1, round(close * (1 + rng.gauss(0, 0.0005))))
        candle.high = max(candle.open, close) + rng.randrange(3)
        candle.low = max(1, min(candle.open, close) - rng.randrange(3))
        candle.trades = rng.randrange(5, 500)
        candle.volume = max(1, round(market.spec.lots_per_unit * rng.uniform(1, 50)))
        candle.quote = candle.volume * (candle.open + close) // 2
        found.append(candle)
        close = candle.open
    return found[::-1]
