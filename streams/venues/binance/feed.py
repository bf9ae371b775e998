"""One symbol's streams at Binance, each message to the records it stands for."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Final

from streams.events import DayStats, Event, Kline, Quote, Ticker, Trade
from streams.venues.base import LateEvent
from streams.venues.binance.depth import DepthFeed
from streams.venues.binance.schema import (
    VENUE,
    AggTradeUpdate,
    BookTickerUpdate,
    DayTickerUpdate,
    DepthUpdate,
    KlineUpdate,
    TradeUpdate,
)
from streams.venues.decimals import TooFine, together
from streams.venues.market import Market
from streams.venues.ordering import LATE_MS, Ahead, Holes
from tapeline.errors import FrameError

TRADE_RESTART_MS: Final = 1_000
"""A trade this much newer than the last one, yet with a lower id: the venue's ids began anew."""

REPEAT_MS: Final = 60_000
"""A ticker or candle up to this much older than the last one is a second socket's copy; one that
is older still means that the venue's clock was set back."""


HeldTrade = tuple[TradeUpdate | AggTradeUpdate, int, int | None, int]
"""The message, its last id, its first one where it is an aggregate, and when it came."""


class SymbolFeed:
    """All streams of one symbol. Each event is passed on once, whatever sockets bring it.

    Attributes:
        market: What is known of the symbol.
        depth: Its book.
    """

    def __init__(
        self,
        market: Market,
        ask_snapshot: Callable[[int], None],
        *,
        infer_instrument: bool = False,
        late_ms: int = LATE_MS,
    ) -> None:
        """``ask_snapshot(now_ms)`` is called whenever a depth snapshot is needed."""
        self.market = market
        self.depth = DepthFeed(
            market, ask_snapshot, infer_instrument=infer_instrument, late_ms=late_ms
        )
        self._trade_prefix = f"{VENUE}:{market.symbol}:"
        self._trade_id: int | None = None
        self._trade_ms = 0
        self._ahead: Ahead[HeldTrade] = Ahead(late_ms)
        self._given_up = Holes()
        self._quote_id = -1
        self._day_ms: int | None = None
        self._kline_ms: dict[str, int] = {}

    def connected(self, now_ms: int) -> None:
        """A first socket is open. Trade ids go on, to show what was missed without one."""
        self._quote_id = -1
        self._day_ms = None
        self._kline_ms.clear()
        self.depth.connected(now_ms)

    def tick(self, now_ms: int) -> list[Event]:
        """Give up holes that were not filled in time."""
        events = self.depth.tick(now_ms)
        while self._ahead.overdue(now_ms):
            assert self._trade_id is not None
            missing = self._ahead.first() - self._trade_id - 1
            self.market.counts.trades_missing += missing
            self._given_up.add(self._trade_id + 1, self._trade_id + missing, now_ms)
            self._trade_id += missing
            events += self._in_turn()
        return events

    def on_depth(self, msg: DepthUpdate, recv_ms: int) -> list[Event]:
        """``depthUpdate``."""
        self._own(msg.symbol)
        return self.depth.update(msg, recv_ms)

    def on_trade(self, msg: TradeUpdate, recv_ms: int) -> list[Event]:
        """``trade``."""
        self._own(msg.symbol)
        return self._ordered(msg, msg.id, None, recv_ms)

    def on_agg_trade(self, msg: AggTradeUpdate, recv_ms: int) -> list[Event]:
        """``aggTrade``: one record for all trades of the aggregate."""
        self._own(msg.symbol)
        if msg.first > msg.last:
            raise FrameError(f"aggregate's ids run backwards: f={msg.first}, l={msg.last}")
        return self._ordered(msg, msg.last, msg.first, recv_ms)

    def _ordered(
        self, msg: TradeUpdate | AggTradeUpdate, last: int, first: int | None, recv_ms: int
    ) -> list[Event]:
        """A trade, or what it has been waited for with; nothing while one before it is missing."""
        begins = last if first is None else first
        if self._trade_id is not None and begins > self._trade_id + 1:
            self._exact(msg)  # refuse it now, while there is a frame to blame
            self._ahead.put(begins, (msg, last, first, recv_ms), recv_ms)
            return self.tick(recv_ms)
        events = self._trade(msg, last, first, recv_ms)
        return events + self._in_turn() if self._ahead else events

    def _in_turn(self) -> list[Event]:
        """Trades held whose turn it is."""
        events: list[Event] = []
        while (held := self._ahead.take(self._trade_id or 0)) is not None:
            events += self._trade(*held)
        return events

    def _exact(self, msg: TradeUpdate | AggTradeUpdate) -> tuple[int, int, int, int]:
        """Price, its exponent, size, its exponent."""
        px, sz = self.market.px, self.market.sz
        try:
            return px[msg.px], px.exponent, sz[msg.sz], sz.exponent
        except TooFine:
            (price,), px_e = together(px, (msg.px,))
            (size,), sz_e = together(sz, (msg.sz,))
            return price, px_e, size, sz_e

    def _trade(
        self, msg: TradeUpdate | AggTradeUpdate, last: int, first: int | None, recv_ms: int
    ) -> list[Event]:
        market = self.market
        price, px_e, size, sz_e = self._exact(msg)
        counts = market.counts
        previous = self._trade_id
        if previous is not None and last <= previous:
            if msg.trade_ms - self._trade_ms <= TRADE_RESTART_MS:
                given_up_ms = self._given_up.given_up_ms(last)
                if given_up_ms is not None:
                    late_ms = max(0, recv_ms - given_up_ms)
                    counts.came_late(LateEvent(market.symbol, "trade", last, late_ms))
                else:
                    counts.trade_duplicates += 1
                return []
            counts.trades_missing += len(self._ahead.clear())
        self._trade_id, self._trade_ms = last, msg.trade_ms
        counts.trades += 1
        return [
            Trade(
                venue=VENUE,
                symbol=market.symbol,
                ts_event_ms=market.event_ms(msg.trade_ms, recv_ms),
                ts_recv_ms=recv_ms,
                px_e=px_e,
                sz_e=sz_e,
                px=price,
                sz=size,
                side="sell" if msg.buyer_made else "buy",
                event_id=f"{self._trade_prefix}{last}",
                trade_id=last,
                first_id=first,
            )
        ]

    def on_quote(self, msg: BookTickerUpdate, recv_ms: int) -> list[Event]:
        """``bookTicker``; it has no time, so ours stands for both."""
        market = self.market
        if msg.symbol != market.venue_symbol:
            self._own(msg.symbol)
        if msg.last <= self._quote_id:
            return []
        px, sz = market.px, market.sz
        px_e, sz_e = px.exponent, sz.exponent
        try:
            bid_px, ask_px = px[msg.bid_px], px[msg.ask_px]
            bid_sz, ask_sz = sz[msg.bid_sz], sz[msg.ask_sz]
        except TooFine:
            (bid_px, ask_px), px_e = together(px, (msg.bid_px, msg.ask_px))
            (bid_sz, ask_sz), sz_e = together(sz, (msg.bid_sz, msg.ask_sz))
        self._quote_id = msg.last
        ticker = Ticker(
            venue=VENUE,
            symbol=market.symbol,
            ts_event_ms=recv_ms,
            ts_recv_ms=recv_ms,
            seq=msg.last,
            px_e=px_e,
            sz_e=sz_e,
            quote=Quote(bid_px=bid_px, bid_sz=bid_sz, ask_px=ask_px, ask_sz=ask_sz),
        )
        wrong = self.depth.quote(msg.last, (bid_px, bid_sz, ask_px, ask_sz), px_e, sz_e, recv_ms)
        return [ticker, *wrong] if wrong else [ticker]

    def on_day_ticker(self, msg: DayTickerUpdate, recv_ms: int) -> list[Event]:
        """``24hrTicker``."""
        self._own(msg.symbol)
        market = self.market
        if _repeated(msg.event_ms, self._day_ms):
            return []
        if not msg.trades and not msg.high.strip("0."):
            market.counts.ignored += 1  # a day without a trade has no prices to tell
            return []
        try:
            change_pct = float(msg.change_pct)
        except ValueError:
            change_pct = float("nan")
        if not isfinite(change_pct):
            raise FrameError(f"change {msg.change_pct[:60]!r} is not a plain decimal number")
        (last, open_, high, low), px_e = together(
            market.px, (msg.last, msg.open, msg.high, msg.low)
        )
        (volume,), sz_e = together(market.sz, (msg.volume,))
        self._day_ms = msg.event_ms
        return [
            Ticker(
                venue=VENUE,
                symbol=market.symbol,
                ts_event_ms=market.event_ms(msg.event_ms, recv_ms),
                ts_recv_ms=recv_ms,
                px_e=px_e,
                sz_e=sz_e,
                day=DayStats(
                    last=last,
                    open=open_,
                    high=high,
                    low=low,
                    volume=volume,
                    change_pct=change_pct,
                    trades=msg.trades,
                ),
            )
        ]

    def on_kline(self, msg: KlineUpdate, recv_ms: int) -> list[Event]:
        """``kline``."""
        self._own(msg.symbol)
        market, candle = self.market, msg.candle
        if _repeated(msg.event_ms, self._kline_ms.get(candle.interval)):
            return []
        (open_, high, low, close), px_e = together(
            market.px, (candle.open, candle.high, candle.low, candle.close)
        )
        (volume,), sz_e = together(market.sz, (candle.volume,))
        self._kline_ms[candle.interval] = msg.event_ms
        return [
            Kline(
                venue=VENUE,
                symbol=market.symbol,
                ts_event_ms=market.event_ms(msg.event_ms, recv_ms),
                ts_recv_ms=recv_ms,
                px_e=px_e,
                sz_e=sz_e,
                interval=candle.interval,
                open_ms=candle.open_ms,
                close_ms=candle.close_ms,
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
                trades=candle.trades,
                closed=candle.closed,
            )
        ]

    def _own(self, symbol: str) -> None:
        if symbol != self.market.venue_symbol:
            raise FrameError(f"{symbol[:60]!r} came on the stream of {self.market.venue_symbol}")


def _repeated(event_ms: int, last_ms: int | None) -> bool:
    return last_ms is not None and 0 <= last_ms - event_ms <= REPEAT_MS
