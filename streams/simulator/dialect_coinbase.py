"""One market in the words of Coinbase Advanced Trade: level2, trades, ticker, candles, product.

Level changes and trades go out on a grid of 50 ms, the ticker with them, candles every 5 s. A
payload is one entry of a frame's ``events``; the frame around it is numbered for each connection
by `talk_coinbase`. Numbers are texts without trailing zeros.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from streams.simulator.dialect import Feed, Message, decimal
from streams.simulator.figures import MINUTE_MS, Candle, past_candles, past_prints
from streams.simulator.flow import LevelChanges, Market
from streams.simulator.listing import E8
from streams.simulator.resting import Print
from streams.simulator.times import rfc3339_short

GRID_MS: Final = 50
CANDLE_MS: Final = 5 * MINUTE_MS
CANDLES_EVERY_MS: Final = 5000
TRADES_KEPT: Final = 100
CANDLES_KEPT: Final = 100

DATA_CHANNELS: Final = {
    "level2": "l2_data", "market_trades": "market_trades", "ticker": "ticker",
    "candles": "candles",
}  # fmt: skip
"""Channels about products, and what their frames call themselves."""


class CoinbaseFeed(Feed):
    """A market and all that Coinbase publishes of it. A payload is the one entry of ``events``."""

    GRID_MS = GRID_MS

    def __init__(self, market: Market, now_ms: int) -> None:
        super().__init__(market, now_ms)
        self._tick, self._lot = market.spec.tick_e8, market.spec.lot_e8
        self._prints = deque(past_prints(market, now_ms, TRADES_KEPT), TRADES_KEPT)
        past = past_candles(market, now_ms, CANDLES_KEPT - 1, CANDLE_MS)
        first = Candle(now_ms - now_ms % CANDLE_MS, self.day.last, CANDLE_MS)
        self._candles = deque([*past, first], CANDLES_KEPT)
        self._gathered: list[Print] = []
        self._told = 0

    def px(self, px: int) -> str:
        return plain(px * self._tick)

    def sz(self, sz: int) -> str:
        return plain(sz * self._lot)

    # --- what a subscription begins with ---

    def snapshot(self, channel: str) -> str:
        """The events of a channel's first frame; KeyError for a channel it does not have."""
        if channel == "level2":
            return self._level2("snapshot", self.book_ms, *self.levels())
        if channel == "market_trades":
            return self._trades("snapshot", self._prints)
        if channel == "ticker":
            return self._ticker("snapshot")
        return self._candle_rows("snapshot", [c for c in self._candles if c.trades])

    def levels(self, count: int | None = None) -> tuple[list[tuple[int, int]], ...]:
        """(bids, asks) as published, best first; all of them without ``count``."""
        bids, asks = self.book
        return bids.highest(count or len(bids)), asks.lowest(count or len(asks))

    def product_book(self, limit: int | None) -> dict[str, Any]:
        """The body of ``product_book``: no sequence, so nothing can be spliced to it."""
        bids, asks = self.levels(limit)
        bid, ask = bids[0][0], asks[0][0]
        mid_e8 = (bid + ask) * self._tick // 2
        return {
            "pricebook": {
                "product_id": self.symbol,
                "bids": [{"price": self.px(px), "size": self.sz(sz)} for px, sz in bids],
                "asks": [{"price": self.px(px), "size": self.sz(sz)} for px, sz in asks],
                "time": rfc3339_short(self.book_ms),
            },
            "last": self.px(self.day.last),
            "mid_market": plain(mid_e8),
            "spread_bps": f"{20_000 * (ask - bid) / (ask + bid):.12f}",
            "spread_absolute": self.px(ask - bid),
        }

    def product(self) -> dict[str, Any]:
        """A product's entry; ``synthetic`` is ours, the venue has no such key."""
        spec, day = self.market.spec, self.day
        return {
            "product_id": self.symbol,
            "price": self.px(day.last),
            "price_percentage_change_24h": self._change_pct(),
            "volume_24h": self.sz(day.volume),
            "base_increment": plain(spec.lot_e8),
            "quote_increment": plain(spec.tick_e8),
            "quote_min_size": "1",
            "quote_max_size": "150000000",
            "base_min_size": plain(spec.lot_e8),
            "base_max_size": "3400",
            "base_name": spec.base,
            "quote_name": spec.quote,
            "watched": False,
            "is_disabled": False,
            "new": False,
            "status": "online",
            "cancel_only": False,
            "limit_only": False,
            "post_only": False,
            "trading_disabled": False,
            "auction_mode": False,
            "product_type": "SPOT",
            "quote_currency_id": spec.quote,
            "base_currency_id": spec.base,
            "mid_market_price": "",
            "alias": "",
            "alias_to": [f"{spec.base}-USDC"] if spec.quote == "USD" else [],
            "base_display_symbol": spec.base,
            "quote_display_symbol": spec.quote,
            "view_only": False,
            "price_increment": plain(spec.tick_e8),
            "display_name": self.symbol,
            "product_venue": "CBE",
            "high_24h": self.px(day.high),
            "low_24h": self.px(day.low),
            "synthetic": True,
        }

    # --- what goes on ---

    def on_print(self, trade: Print, out: list[Message]) -> None:
        self._gathered.append(trade)
        self._prints.append(trade)
        self.day.add(trade)
        if trade.ts_ms >= self._candles[-1].end_ms:
            self._candles.append(self._candles[-1].next(trade.ts_ms))
        self._candles[-1].add(trade)

    def on_grid(self, at_ms: int, changes: LevelChanges | None, out: list[Message]) -> None:
        prints, self._gathered = self._gathered, []
        if prints:
            self._tell(at_ms, "market_trades", "trade", self._trades("update", prints), out)
        if changes is not None:
            sent = self.publish(at_ms, changes)
            events = self._level2("update", at_ms, changes.bids, changes.asks) if sent else ""
            self._tell(at_ms, "level2", "book", events, out)
        if prints:
            self._tell(at_ms, "ticker", "ticker", self._ticker("update"), out)
        candle = self._candles[-1]
        if at_ms % CANDLES_EVERY_MS == 0 and candle.last_id > self._told:
            self._told = candle.last_id
            self._tell(at_ms, "candles", "kline", self._candle_rows("update", [candle]), out)

    def _tell(self, at_ms: int, channel: str, kind: str, events: str, out: list[Message]) -> None:
        if events:
            self.say(at_ms, channel, kind, events, out)
        else:
            # The venue lost it: the connection's numbers have a hole where it was.
            out.append(Message(at_ms, self._prefix + channel, "", self.symbol, kind))

    def _level2(
        self, kind: str, at_ms: int, bids: list[tuple[int, int]], asks: list[tuple[int, int]]
    ) -> str:
        stamp = rfc3339_short(at_ms)
        rows = [
            f'{{"side":"{side}","event_time":"{stamp}","price_level":"{self.px(px)}",'
            f'"new_quantity":"{self.sz(sz)}"}}'
            for side, levels in (("bid", bids), ("offer", asks))
            for px, sz in levels
        ]
        return f'{{"type":"{kind}","product_id":"{self.symbol}","updates":[' + ",".join(rows) + "]}"

    def _trades(self, kind: str, prints: Sequence[Print]) -> str:
        rows = [
            f'{{"product_id":"{self.symbol}","trade_id":"{trade.trade_id}",'
            f'"price":"{self.px(trade.px)}","size":"{self.sz(trade.sz)}",'
            f'"time":"{rfc3339_short(trade.ts_ms)}",'
            # The maker's side, not the taker's.
            f'"side":"{"BUY" if trade.buyer_is_maker else "SELL"}"}}'
            for trade in reversed(prints)
        ]
        return f'{{"type":"{kind}","trades":[' + ",".join(rows) + "]}"

    def _ticker(self, kind: str) -> str:
        day = self.day
        ((bid, bid_sz), *_), ((ask, ask_sz), *_) = self.levels(1)
        return (
            f'{{"type":"{kind}","tickers":[{{"type":"ticker","product_id":"{self.symbol}",'
            f'"price":"{self.px(day.last)}","volume_24_h":"{self.sz(day.volume)}",'
            f'"low_24_h":"{self.px(day.low)}","high_24_h":"{self.px(day.high)}",'
            f'"low_52_w":"{self.px(day.low * 9 // 10)}","high_52_w":"{self.px(day.high * 2)}",'
            f'"price_percent_chg_24_h":"{self._change_pct()}",'
            f'"best_bid":"{self.px(bid)}","best_ask":"{self.px(ask)}",'
            f'"best_bid_quantity":"{self.sz(bid_sz)}","best_ask_quantity":"{self.sz(ask_sz)}"}}]}}'
        )

    def _change_pct(self) -> str:
        change = 100 * (self.day.last - self.day.open) / self.day.open
        return f"{change:.14f}".rstrip("0").rstrip(".")

    def _candle_rows(self, kind: str, candles: Sequence[Candle]) -> str:
        rows = [
            f'{{"start":"{candle.open_ms // 1000}","high":"{self.px(candle.high)}",'
            f'"low":"{self.px(candle.low)}","open":"{self.px(candle.open)}",'
            f'"close":"{self.px(candle.close)}","volume":"{self.sz(candle.volume)}",'
            f'"product_id":"{self.symbol}"}}'
            for candle in candles
        ]
        return f'{{"type":"{kind}","candles":[' + ",".join(rows) + "]}"


def plain(value_e8: int) -> str:
    """Without trailing zeros: ``65083.67``, ``126296``, ``0``."""
    if value_e8 % E8 == 0:
        return str(value_e8 // E8)
    return decimal(value_e8).rstrip("0")
