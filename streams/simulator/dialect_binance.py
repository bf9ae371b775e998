"""One market in Binance spot's words: stream payloads, depth snapshot, listing.

Pure: `SymbolFeed.step` takes the time and returns what the venue would have sent since the
last call. Trades and quotes go out when they happen; depth, ticker and candles on grids of
100 ms, 1 s and 2 s of the market's own time.
"""

from __future__ import annotations

from typing import Final

from streams.simulator.dialect import Feed, Message, decimal
from streams.simulator.figures import MINUTE_MS, Candle
from streams.simulator.flow import LevelChanges, Market
from streams.simulator.listing import E8, SymbolSpec
from streams.simulator.resting import ASK, BID, Print, Top

DEPTH_MS: Final = 100
TICKER_MS: Final = 1000
KLINE_MS: Final = 2000
DEPTH_LIMITS: Final = 5000

STREAMS: Final = ("depth@100ms", "depth", "trade", "ticker", "bookTicker", "kline_1m")
"""Suffixes of the streams of a symbol. Like the venue, others are accepted and stay silent."""


class SymbolFeed(Feed):
    """A market and all that Binance publishes of it."""

    GRID_MS = DEPTH_MS

    def __init__(self, market: Market, now_ms: int) -> None:
        super().__init__(market, now_ms)
        spec = market.spec
        self._tick, self._lot = spec.tick_e8, spec.lot_e8
        self._candle = Candle(now_ms - now_ms % MINUTE_MS, self.day.last)
        self._slow_first = self._slow_last = 0
        self._slow_levels: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._old = self.snapshot(DEPTH_LIMITS)

    def px(self, px: int) -> str:
        return decimal(px * self._tick)

    def sz(self, sz: int) -> str:
        return decimal(sz * self._lot)

    def on_grid(self, at_ms: int, changes: LevelChanges | None, out: list[Message]) -> None:
        if changes is not None:
            self._gather(changes)
            if self.publish(at_ms, changes):
                self.say(at_ms, "depth@100ms", "book", self._depth_update(at_ms, *changes), out)
        if at_ms % TICKER_MS == 0:
            self._slow_depth(at_ms, out)
            self.say(at_ms, "ticker", "ticker", self._ticker(at_ms), out)
        if at_ms % KLINE_MS == 0 or at_ms % MINUTE_MS == 0:
            self._klines(at_ms, out)

    def on_print(self, trade: Print, out: list[Message]) -> None:
        if trade.ts_ms >= self._candle.end_ms:
            self._close_candle(trade.ts_ms, out)
        self.day.add(trade)
        self._candle.add(trade)
        maker = "true" if trade.buyer_is_maker else "false"
        self.say(
            trade.ts_ms,
            "trade",
            "trade",
            f'{{"e":"trade","E":{trade.ts_ms},"s":"{self.symbol}","t":{trade.trade_id},'
            f'"p":"{self.px(trade.px)}","q":"{self.sz(trade.sz)}",'
            f'"T":{trade.ts_ms},"m":{maker},"M":true}}',
            out,
        )

    def on_top(self, top: Top, out: list[Message]) -> None:
        self.say(
            top.ts_ms,
            "bookTicker",
            "ticker",
            f'{{"u":{top.update_id},"s":"{self.symbol}","b":"{self.px(top.bid_px)}",'
            f'"B":"{self.sz(top.bid_sz)}","a":"{self.px(top.ask_px)}",'
            f'"A":"{self.sz(top.ask_sz)}"}}',
            out,
        )

    def renumber(self, first_id: int) -> None:
        super().renumber(first_id)
        self._slow_first, self._slow_levels = 0, ({}, {})
        self._old = self.snapshot(DEPTH_LIMITS)

    def old_snapshot(self) -> str:
        """What `snapshot` said when the venue came up: older than any diff by now."""
        return self._old

    def snapshot(self, limit: int) -> str:
        """The body of ``GET /api/v3/depth``: the book as it is now."""
        book = self.market.book
        count = max(1, min(limit, DEPTH_LIMITS))
        return (
            f'{{"lastUpdateId":{book.update_id},"bids":{self._levels(book.levels(BID, count))},'
            f'"asks":{self._levels(book.levels(ASK, count))}}}'
        )

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

    def _depth_update(
        self,
        at_ms: int,
        first: int,
        last: int,
        bids: list[tuple[int, int]],
        asks: list[tuple[int, int]],
    ) -> str:
        return (
            f'{{"e":"depthUpdate","E":{at_ms},"s":"{self.symbol}","U":{first},"u":{last},'
            f'"b":{self._levels(bids)},"a":{self._levels(asks)}}}'
        )

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
        self.say(at_ms, "depth", "book", data, out)

    def _ticker(self, at_ms: int) -> str:
        day, book, tick, lot = self.day, self.market.book, self._tick, self._lot
        change = day.last - day.open
        average = day.quote // day.volume
        bid, ask = book.best(BID), book.best(ASK)
        sign = "-" if change < 0 else ""
        return (
            f'{{"e":"24hrTicker","E":{at_ms},"s":"{self.symbol}",'
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
        if at_ms >= self._candle.end_ms:
            self._close_candle(at_ms, out)
        else:
            self.say(at_ms, "kline_1m", "kline", self._kline(at_ms, closed=False), out)

    def _close_candle(self, at_ms: int, out: list[Message]) -> None:
        self.say(at_ms, "kline_1m", "kline", self._kline(at_ms, closed=True), out)
        self._candle = self._candle.next(at_ms)

    def _kline(self, at_ms: int, *, closed: bool) -> str:
        candle, tick, lot = self._candle, self._tick, self._lot
        scale = tick * lot
        return (
            f'{{"e":"kline","E":{at_ms},"s":"{self.symbol}","k":{{"t":{candle.open_ms},'
            f'"T":{candle.open_ms + MINUTE_MS - 1},"s":"{self.symbol}","i":"1m",'
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
