"""One market in Binance spot's words: stream payloads, depth snapshot, listing.

Pure: `SymbolFeed.step` takes the time and returns what the venue would have sent since the
last call. Trades and quotes go out when they happen; depth, ticker and candles on grids of
100 ms, 1 s and 2 s of the market's own time.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from streams.simulator.flow import LevelChanges, Market
from streams.simulator.listing import E8, SymbolSpec
from streams.simulator.resting import ASK, BID, Print, Top

DEPTH_MS: Final = 100
TICKER_MS: Final = 1000
KLINE_MS: Final = 2000
MINUTE_MS: Final = 60_000
DEPTH_LIMITS: Final = 5000

STREAMS: Final = ("depth@100ms", "depth", "trade", "ticker", "bookTicker", "kline_1m")
"""Suffixes of the streams of a symbol. Like the venue, others are accepted and stay silent."""


class Message(NamedTuple):
    """One payload for the subscribers of ``stream``, as JSON text."""

    ts_ms: int
    stream: str
    data: str


def decimal(value_e8: int) -> str:
    """Eight decimals, as the venue prints."""
    whole, rest = divmod(value_e8, E8)
    return f"{whole}.{rest:08d}"


class _Candle:
    """One minute of trades, in ticks and lots."""

    __slots__ = ("buy_quote", "buys", "close", "first_id", "high", "last_id", "low", "open",
                 "open_ms", "quote", "trades", "volume")  # fmt: skip

    def __init__(self, open_ms: int, px: int) -> None:
        self.open_ms = open_ms
        self.open = self.high = self.low = self.close = px
        self.volume = self.buys = self.quote = self.buy_quote = self.trades = 0
        self.first_id = self.last_id = -1

    def add(self, trade: Print) -> None:
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


class _Day:
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
        self.high, self.low = max(self.high, trade.px), min(self.low, trade.px)
        self.last, self.last_sz, self.last_id = trade.px, trade.sz, trade.trade_id
        self.trades += 1
        self.volume += trade.sz
        self.quote += trade.px * trade.sz


class SymbolFeed:
    """A market and all that a venue publishes of it.

    Attributes:
        market: The order flow behind it.
        made: Payloads produced, by stream suffix; level changes in them as ``levels``.
        swallowed: Depth payloads kept back by an episode.
        swallow: How many of the next 100 ms depth payloads will be kept back.
    """

    def __init__(self, market: Market, now_ms: int) -> None:
        self.market = market
        self.made: Counter[str] = Counter()
        self.swallowed = 0
        self.swallow = 0
        self.now_ms = now_ms
        spec = market.spec
        self._tick, self._lot = spec.tick_e8, spec.lot_e8
        self._symbol = spec.symbol
        self._names = {suffix: f"{spec.symbol.lower()}@{suffix}" for suffix in STREAMS}
        self._day = _Day(market)
        self._candle = _Candle(now_ms - now_ms % MINUTE_MS, self._day.last)
        self._grid_ms = now_ms - now_ms % DEPTH_MS + DEPTH_MS
        self._slow_first = self._slow_last = 0
        self._slow_levels: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def step(self, now_ms: int) -> list[Message]:
        """All payloads due up to and including ``now_ms``, in the order of their times."""
        out: list[Message] = []
        while self._grid_ms <= now_ms:
            at_ms = self._grid_ms
            # What happens at the very instant of the grid belongs to the next interval.
            self._realtime(at_ms - 0.001, out)
            self._depth(at_ms, out)
            if at_ms % TICKER_MS == 0:
                self._slow_depth(at_ms, out)
                self._send(at_ms, "ticker", self._ticker(at_ms), out)
            if at_ms % KLINE_MS == 0 or at_ms % MINUTE_MS == 0:
                self._klines(at_ms, out)
            self._grid_ms += DEPTH_MS
        self._realtime(now_ms, out)
        self.now_ms = now_ms
        return out

    def snapshot(self, limit: int) -> str:
        """The body of ``GET /api/v3/depth``: the book as it is now."""
        book = self.market.book
        count = max(1, min(limit, DEPTH_LIMITS))
        return (
            f'{{"lastUpdateId":{book.update_id},"bids":{self._levels(book.levels(BID, count))},'
            f'"asks":{self._levels(book.levels(ASK, count))}}}'
        )

    def _send(self, ts_ms: int, suffix: str, data: str, out: list[Message]) -> None:
        self.made[suffix] += 1
        out.append(Message(ts_ms, self._names[suffix], data))

    def _levels(self, levels: list[tuple[int, int]]) -> str:
        tick, lot = self._tick, self._lot
        return (
            "["
            + ",".join(
                f'["{px // E8}.{px % E8:08d}","{sz // E8}.{sz % E8:08d}"]'
                for px, sz in [(px * tick, sz * lot) for px, sz in levels]
            )
            + "]"
        )

    def _realtime(self, to_ms: float, out: list[Message]) -> None:
        tick, lot, symbol = self._tick, self._lot, self._symbol
        for news in self.market.advance(to_ms):
            if isinstance(news, Print):
                if news.ts_ms >= self._candle.open_ms + MINUTE_MS:
                    self._close_candle(news.ts_ms, out)
                self._day.add(news)
                self._candle.add(news)
                maker = "true" if news.buyer_is_maker else "false"
                self._send(
                    news.ts_ms,
                    "trade",
                    f'{{"e":"trade","E":{news.ts_ms},"s":"{symbol}","t":{news.trade_id},'
                    f'"p":"{decimal(news.px * tick)}","q":"{decimal(news.sz * lot)}",'
                    f'"T":{news.ts_ms},"m":{maker},"M":true}}',
                    out,
                )
            elif isinstance(news, Top):
                self._send(
                    news.ts_ms,
                    "bookTicker",
                    f'{{"u":{news.update_id},"s":"{symbol}","b":"{decimal(news.bid_px * tick)}",'
                    f'"B":"{decimal(news.bid_sz * lot)}","a":"{decimal(news.ask_px * tick)}",'
                    f'"A":"{decimal(news.ask_sz * lot)}"}}',
                    out,
                )

    def _depth_update(
        self,
        at_ms: int,
        first: int,
        last: int,
        bids: list[tuple[int, int]],
        asks: list[tuple[int, int]],
    ) -> str:
        return (
            f'{{"e":"depthUpdate","E":{at_ms},"s":"{self._symbol}","U":{first},"u":{last},'
            f'"b":{self._levels(bids)},"a":{self._levels(asks)}}}'
        )

    def _depth(self, at_ms: int, out: list[Message]) -> None:
        changes = self.market.level_changes()
        if changes is None:
            return
        self.made["levels"] += len(changes.bids) + len(changes.asks)
        self._gather(changes)
        if self.swallow:
            self.swallow -= 1
            self.swallowed += 1
            return
        self._send(at_ms, "depth@100ms", self._depth_update(at_ms, *changes), out)

    def _gather(self, changes: LevelChanges) -> None:
        self._slow_first = self._slow_first or changes.first_id
        self._slow_last = changes.last_id
        self._slow_levels[BID].update(changes.bids)
        self._slow_levels[ASK].update(changes.asks)

    def _slow_depth(self, at_ms: int, out: list[Message]) -> None:
        if not self._slow_first:
            return
        bids, asks = self._slow_levels
        data = self._depth_update(
            at_ms,
            self._slow_first,
            self._slow_last,
            sorted(bids.items(), reverse=True),
            sorted(asks.items()),
        )
        self._slow_first, self._slow_levels = 0, ({}, {})
        self._send(at_ms, "depth", data, out)

    def _ticker(self, at_ms: int) -> str:
        day, book, tick, lot = self._day, self.market.book, self._tick, self._lot
        change = day.last - day.open
        average = day.quote // day.volume
        bid, ask = book.best(BID), book.best(ASK)
        sign = "-" if change < 0 else ""
        return (
            f'{{"e":"24hrTicker","E":{at_ms},"s":"{self._symbol}",'
            f'"p":"{sign}{decimal(abs(change) * tick)}","P":"{100 * change / day.open:.3f}",'
            f'"w":"{decimal(average * tick)}","x":"{decimal((day.last - 1) * tick)}",'
            f'"c":"{decimal(day.last * tick)}","Q":"{decimal(day.last_sz * lot)}",'
            f'"b":"{decimal(bid * tick)}","B":"{decimal(book.best_size(BID) * lot)}",'
            f'"a":"{decimal(ask * tick)}","A":"{decimal(book.best_size(ASK) * lot)}",'
            f'"o":"{decimal(day.open * tick)}","h":"{decimal(day.high * tick)}",'
            f'"l":"{decimal(day.low * tick)}","v":"{decimal(day.volume * lot)}",'
            f'"q":"{decimal(day.quote * tick * lot // E8)}","O":{at_ms - 86_400_000},'
            f'"C":{at_ms},"F":{day.first_id},"L":{day.last_id},"n":{day.trades}}}'
        )

    def _klines(self, at_ms: int, out: list[Message]) -> None:
        if at_ms >= self._candle.open_ms + MINUTE_MS:
            self._close_candle(at_ms, out)
        else:
            self._send(at_ms, "kline_1m", self._kline(at_ms, closed=False), out)

    def _close_candle(self, at_ms: int, out: list[Message]) -> None:
        self._send(at_ms, "kline_1m", self._kline(at_ms, closed=True), out)
        self._candle = _Candle(at_ms - at_ms % MINUTE_MS, self._candle.close)

    def _kline(self, at_ms: int, *, closed: bool) -> str:
        candle, tick, lot = self._candle, self._tick, self._lot
        scale = tick * lot
        return (
            f'{{"e":"kline","E":{at_ms},"s":"{self._symbol}","k":{{"t":{candle.open_ms},'
            f'"T":{candle.open_ms + MINUTE_MS - 1},"s":"{self._symbol}","i":"1m",'
            f'"f":{candle.first_id},"L":{candle.last_id},"o":"{decimal(candle.open * tick)}",'
            f'"c":"{decimal(candle.close * tick)}","h":"{decimal(candle.high * tick)}",'
            f'"l":"{decimal(candle.low * tick)}","v":"{decimal(candle.volume * lot)}",'
            f'"n":{candle.trades},"x":{"true" if closed else "false"},'
            f'"q":"{decimal(candle.quote * scale // E8)}","V":"{decimal(candle.buys * lot)}",'
            f'"Q":"{decimal(candle.buy_quote * scale // E8)}","B":"0"}}}}'
        )


def listing(spec: SymbolSpec) -> dict[str, object]:
    """A symbol's entry in ``exchangeInfo``; ``synthetic`` is ours, the venue has no such key."""
    tick, lot = decimal(spec.tick_e8), decimal(spec.lot_e8)
    return {
        "symbol": spec.symbol,
        "status": "TRADING",
        "baseAsset": spec.base,
        "baseAssetPrecision": 8,
        "quoteAsset": spec.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": decimal(spec.start_px * spec.tick_e8 * 100),
                "tickSize": tick,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": lot,
                "maxQty": decimal(9_000_000 * spec.lot_e8 * 1000),
                "stepSize": lot,
            },
        ],
        "permissions": ["SPOT"],
        "synthetic": True,
    }
