"""One market in the words of Kraken's websocket v2: book, trades, ticker, candles, instrument.

Book updates go out on a grid of 100 ms, for each depth that somebody has asked for; trades and
quotes when they happen. Numbers are JSON numbers with all the digits of their step, and each
book message carries the CRC32 of the best ten levels as they are printed.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections import deque
from typing import Any, Final

from streams.ladder import Ladder
from streams.simulator.dialect import Feed, Message, decimal
from streams.simulator.figures import MINUTE_MS, Candle, past_candles, past_prints
from streams.simulator.flow import LevelChanges, Market
from streams.simulator.listing import E8, SymbolSpec
from streams.simulator.resting import ASK, BID, Print, Side, Top
from streams.simulator.times import rfc3339

DEPTHS: Final = (10, 25, 100, 500, 1000)
INTERVALS: Final = (1, 5, 15, 30, 60, 240, 1440, 10_080, 21_600)
TRADES_KEPT: Final = 50
CANDLES_KEPT: Final = 720
CANDLES_INVENTED: Final = 10
CHECKED: Final = 10
"""Levels a side that the checksum covers."""


class KrakenFeed(Feed):
    """A market and all that Kraken publishes of it.

    Attributes:
        depths: Depths of the book that updates are made for.
    """

    def __init__(self, market: Market, now_ms: int) -> None:
        super().__init__(market, now_ms)
        self.depths: set[int] = set()
        spec = market.spec
        self._tick, self._lot = spec.tick_e8, spec.lot_e8
        self._px_digits, self._sz_digits = digits(spec.tick_e8), digits(spec.lot_e8)
        self._px_unit = 10 ** (8 - self._px_digits)
        self._sz_unit = 10 ** (8 - self._sz_digits)
        self._prints = deque(past_prints(market, now_ms, TRADES_KEPT), TRADES_KEPT)
        self._candles: dict[int, deque[Candle]] = {}
        self._gathered: list[Print] = []
        self._top: Top | None = None

    # --- what a subscription begins with ---

    def book_snapshot(self, depth: int) -> str:
        """The book as published, cut to a depth."""
        bids, asks = self.book
        body = self._book_body(
            bids.highest(depth), asks.lowest(depth), self.checksum(), self.book_ms
        )
        return _framed("book", "snapshot", body)

    def trade_snapshot(self) -> str:
        """The last 50 trades, oldest first."""
        return _framed("trade", "snapshot", ",".join(map(self._trade, self._prints)))

    def ticker_snapshot(self) -> str:
        """The 24 h figures and the published top."""
        bids, asks = self.book
        (bid,), (ask,) = bids.highest(1), asks.lowest(1)
        return _framed("ticker", "snapshot", self._ticker(*bid, *ask))

    def ohlc_snapshot(self, interval: int, now_ms: int) -> str:
        """Candles that hold a trade; those before somebody first asked are invented."""
        rows = [self._candle(c) for c in self.candles(interval) if c.trades]
        return _framed("ohlc", "snapshot", ",".join(rows), now_ms)

    def candles(self, interval: int) -> deque[Candle]:
        """Candles of so many minutes, the open one last; kept from the first call on."""
        kept = self._candles.get(interval)
        if kept is None:
            span_ms = interval * MINUTE_MS
            past = past_candles(self.market, self.now_ms, CANDLES_INVENTED, span_ms)
            first = Candle(self.now_ms - self.now_ms % span_ms, self.day.last, span_ms)
            kept = self._candles[interval] = deque([*past, first], CANDLES_KEPT)
        return kept

    def checksum(self) -> int:
        """CRC32 of the ten best asks, then bids: the digits of price and size, no leading zeros."""
        bids, asks = self.book
        tick, lot = self._tick // self._px_unit, self._lot // self._sz_unit
        best = (*asks.lowest(CHECKED), *bids.highest(CHECKED))
        return zlib.crc32("".join(f"{px * tick}{sz * lot}" for px, sz in best).encode())

    def whole(self) -> dict[str, Any]:
        return {**super().whole(), "checksum": self.checksum()}

    # --- what goes on ---

    def px(self, px: int) -> str:
        return decimal(px * self._tick, self._px_digits)

    def sz(self, sz: int) -> str:
        return decimal(sz * self._lot, self._sz_digits)

    def on_print(self, trade: Print, out: list[Message]) -> None:
        if self._gathered and self._gathered[0].ts_ms != trade.ts_ms:
            self.on_news_over(out)
        self._gathered.append(trade)
        self._prints.append(trade)
        self.day.add(trade)
        for kept in self._candles.values():
            if trade.ts_ms >= kept[-1].end_ms:
                kept.append(kept[-1].next(trade.ts_ms))
            kept[-1].add(trade)

    def on_top(self, top: Top, out: list[Message]) -> None:
        if self._top is not None and self._top.ts_ms != top.ts_ms:
            self.on_news_over(out)
        self._top = top

    def on_news_over(self, out: list[Message]) -> None:
        prints, self._gathered = self._gathered, []
        top, self._top = self._top, None
        if prints:
            at_ms = prints[-1].ts_ms
            rows = ",".join(map(self._trade, prints))
            self.say(at_ms, "trade", "trade", _framed("trade", "update", rows), out)
            for interval, kept in self._candles.items():
                row = self._candle(kept[-1])
                text = _framed("ohlc", "update", row, at_ms)
                self.say(at_ms, f"ohlc-{interval}", "kline", text, out)
        if top is not None:
            row = self._ticker(top.bid_px, top.bid_sz, top.ask_px, top.ask_sz)
            self.say(top.ts_ms, "ticker-bbo", "ticker", _framed("ticker", "update", row), out)
        if prints:
            bids, asks = self.market.book.levels(BID, 1), self.market.book.levels(ASK, 1)
            row = self._ticker(*bids[0], *asks[0])
            text = _framed("ticker", "update", row)
            self.say(prints[-1].ts_ms, "ticker-trades", "ticker", text, out)

    def on_grid(self, at_ms: int, changes: LevelChanges | None, out: list[Message]) -> None:
        if changes is None:
            return
        bids, asks = self.book
        gone = (_standing(bids, changes.bids), _standing(asks, changes.asks))
        ends = {depth: (_end(bids, depth, BID), _end(asks, depth, ASK)) for depth in self.depths}
        if not self.publish(at_ms, changes) or not ends:
            return
        checksum = self.checksum()
        for depth, (bid_end, ask_end) in sorted(ends.items()):
            shown_bids = _shown(bids, changes.bids, gone[BID], bid_end, depth, BID)
            shown_asks = _shown(asks, changes.asks, gone[ASK], ask_end, depth, ASK)
            if shown_bids or shown_asks:
                body = self._book_body(shown_bids, shown_asks, checksum, at_ms)
                self.say(at_ms, f"book-{depth}", "book", _framed("book", "update", body), out)

    def _levels(self, levels: list[tuple[int, int]]) -> str:
        return ",".join(f'{{"price":{self.px(px)},"qty":{self.sz(sz)}}}' for px, sz in levels)

    def _book_body(
        self,
        bids: list[tuple[int, int]],
        asks: list[tuple[int, int]],
        checksum: int,
        at_ms: int,
    ) -> str:
        return (
            f'{{"symbol":"{self.symbol}","bids":[{self._levels(bids)}],'
            f'"asks":[{self._levels(asks)}],"checksum":{checksum},'
            f'"timestamp":"{rfc3339(at_ms)}"}}'
        )

    def _trade(self, trade: Print) -> str:
        side = "sell" if trade.buyer_is_maker else "buy"
        kind = "limit" if trade.trade_id % 3 else "market"
        return (
            f'{{"symbol":"{self.symbol}","side":"{side}","price":{self.px(trade.px)},'
            f'"qty":{self.sz(trade.sz)},"ord_type":"{kind}","trade_id":{trade.trade_id},'
            f'"timestamp":"{rfc3339(trade.ts_ms)}"}}'
        )

    def _ticker(self, bid_px: int, bid_sz: int, ask_px: int, ask_sz: int) -> str:
        day = self.day
        change = decimal((day.last - day.open) * self._tick, self._px_digits)
        return (
            f'{{"symbol":"{self.symbol}","bid":{self.px(bid_px)},"bid_qty":{self.sz(bid_sz)},'
            f'"ask":{self.px(ask_px)},"ask_qty":{self.sz(ask_sz)},"last":{self.px(day.last)},'
            f'"volume":{self.sz(day.volume)},"vwap":{self.px(day.quote // day.volume)},'
            f'"low":{self.px(day.low)},"high":{self.px(day.high)},"change":{change},'
            f'"change_pct":{100 * (day.last - day.open) / day.open:.2f}}}'
        )

    def _candle(self, candle: Candle) -> str:
        return (
            f'{{"symbol":"{self.symbol}","open":{self.px(candle.open)},'
            f'"high":{self.px(candle.high)},"low":{self.px(candle.low)},'
            f'"close":{self.px(candle.close)},"trades":{candle.trades},'
            f'"volume":{self.sz(candle.volume)},"vwap":{self.px(candle.quote // candle.volume)},'
            f'"interval_begin":"{rfc3339(candle.open_ms, 9)}",'
            f'"interval":{candle.span_ms // MINUTE_MS},'
            f'"timestamp":"{rfc3339(candle.end_ms)}"}}'
        )


def pair(spec: SymbolSpec) -> str:
    """A symbol's entry in ``instrument``; ``synthetic`` is ours, the venue has no such key."""
    px_digits, sz_digits = digits(spec.tick_e8), digits(spec.lot_e8)
    tick, lot = decimal(spec.tick_e8, px_digits), decimal(spec.lot_e8, sz_digits)
    return (
        f'{{"symbol":"{spec.symbol}","base":"{spec.base}","quote":"{spec.quote}",'
        f'"status":"online","qty_precision":{sz_digits},"qty_increment":{lot},'
        f'"price_precision":{px_digits},"cost_precision":5,"marginable":false,'
        f'"has_index":true,"cost_min":0.50,"tick_size":{tick},"price_increment":{tick},'
        f'"qty_min":{lot},"synthetic":true}}'
    )


def asset(name: str) -> str:
    """An asset's entry in ``instrument``."""
    fine = name not in {"USD", "EUR", "GBP"}
    return (
        f'{{"id":"{name}","status":"enabled","precision":{10 if fine else 4},'
        f'"precision_display":{5 if fine else 2},"borrowable":false}}'
    )


def digits(step_e8: int) -> int:
    """Decimals that a step needs, such as 1 for 0.1."""
    return next(n for n in range(9) if step_e8 * 10**n % E8 == 0)


def _framed(channel: str, kind: str, rows: str, at_ms: int | None = None) -> str:
    stamp = "" if at_ms is None else f'"timestamp":"{rfc3339(at_ms, 9)}",'
    return f'{{"channel":"{channel}","type":"{kind}",{stamp}"data":[{rows}]}}'


def _standing(ladder: Ladder, changes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The changes that take away a level which stands."""
    return [(px, 0) for px, sz in changes if not sz and px in ladder.sizes]


def _end(ladder: Ladder, depth: int, side: Side) -> int | None:
    """The last price within a depth; None if the side ends before it."""
    prices = ladder.prices
    if len(prices) < depth:
        return None
    return prices[depth - 1] if side else prices[-depth]


def _within(px: int, end: int | None, side: Side) -> bool:
    return end is None or (px <= end if side else px >= end)


def _shown(
    ladder: Ladder,
    changes: list[tuple[int, int]],
    gone: list[tuple[int, int]],
    old_end: int | None,
    depth: int,
    side: Side,
) -> list[tuple[int, int]]:
    """What a client of a depth must be told so that it has the best levels again, best first.

    Levels that left because better ones came are not told: the client drops them itself. So a
    level that comes back within the depth is told again with its size.
    """
    new_end = _end(ladder, depth, side)
    told = dict(level for level in gone if _within(level[0], old_end, side))
    told.update((px, sz) for px, sz in changes if sz and _within(px, new_end, side))
    if old_end is not None:
        prices = ladder.prices
        if side:
            back = prices[bisect_left(prices, old_end + 1) : depth]
        else:
            back = prices[max(0, len(prices) - depth) : bisect_left(prices, old_end)]
        told.update((px, ladder.sizes[px]) for px in back)
    return sorted(told.items(), reverse=side == BID)
