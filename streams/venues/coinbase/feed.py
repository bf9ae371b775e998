"""One symbol's channels at Coinbase, each message to the records it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Final

import msgspec

from streams.events import DayStats, Event, Kline, Quote, Ticker, Trade
from streams.venues.coinbase.book import BookFeed
from streams.venues.coinbase.schema import VENUE, CandleEntry, TickerEntry, TradeEntry
from streams.venues.coinbase.times import millis
from streams.venues.coinbase.urls import wire_names
from streams.venues.decimals import together
from streams.venues.market import Market
from tapeline.errors import FrameError

TRADE_RESTART_MS: Final = 1_000
"""A trade this much newer than the last one, yet with a lower id: the venue's ids began anew."""

CANDLE_MS: Final = 300_000
INTERVAL: Final = "5m"
"""The venue's only one."""

_ID_DIGITS_MAX: Final = 15
_TAKER: Final = {"BUY": "sell", "SELL": "buy"}
"""The venue names the maker's side."""


class SymbolFeed:
    """All channels of one symbol. Each event is passed on once, whatever sockets bring it.

    Attributes:
        market: What is known of the symbol.
        book: Its book.
        names: What the websocket may call it.
        announced: Whether ``connected`` has been told of it: of one that joins an open socket when
            the venue has answered.
        heard: Whether anything came of it since the first socket was opened.
    """

    def __init__(
        self, market: Market, ask: Callable[[int], None], *, infer_instrument: bool = False
    ) -> None:
        """``ask(now_ms)`` is called whenever the book has to be subscribed anew."""
        self.market = market
        self.book = BookFeed(market, ask, infer_instrument=infer_instrument)
        self.names = dict.fromkeys(wire_names(market.venue_symbol))
        self.announced = True
        self.heard = False
        self._trade_prefix = f"{VENUE}:{market.symbol}:"
        self._trade_id: int | None = None
        self._trade_ms = 0
        self._ticker_connection = -1
        self._candle_connection = -1
        self._candle: Kline | None = None  # the newest told, open

    def connected(self) -> None:
        """A first socket is open. Trade ids go on, to show what was missed without one."""
        self.heard = False
        self._ticker_connection = self._candle_connection = -1

    def closed(self, connection: int, now_ms: int) -> list[Event]:
        """One of several sockets is gone."""
        if self._ticker_connection == connection:
            self._ticker_connection = -1
        if self._candle_connection == connection:
            self._candle_connection = -1
        return self.book.closed(connection, now_ms)

    # --- market_trades ---

    def on_trades(self, entries: Iterable[TradeEntry], recv_ms: int) -> list[Event]:
        """Trades in any order, those of a snapshot among them; the oldest comes out first.

        Raises:
            FrameError: One of them can't be read. None of them is taken.
        """
        trades = sorted((self._trade(entry, recv_ms) for entry in entries), key=_trade_id)
        counts = self.market.counts
        events: list[Event] = []
        for trade, venue_ms in trades:
            previous, number = self._trade_id, trade.trade_id or 0
            if previous is not None:
                newer = self._trade_ms and venue_ms - self._trade_ms > TRADE_RESTART_MS
                if number <= previous and not newer:
                    counts.trade_duplicates += 1
                    continue
                counts.trades_missing += max(0, number - previous - 1)
            self._trade_id, self._trade_ms = number, venue_ms or self._trade_ms
            trade.ts_event_ms = self.market.event_ms(venue_ms, recv_ms)
            events.append(trade)
        counts.trades += len(events)
        return events

    def _trade(self, entry: TradeEntry, recv_ms: int) -> tuple[Trade, int]:
        """A trade and its time as the venue says it, 0 if that is none."""
        market, text = self.market, entry.trade_id
        if not (text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS_MAX):
            raise FrameError(f"trade id {text[:60]!r} is not a plain number")
        side = _TAKER.get(entry.side)
        if side is None:
            raise FrameError(f"side {entry.side[:60]!r} of trade {text}: expected BUY or SELL")
        (price,), px_e = together(market.px, (entry.price,))
        (size,), sz_e = together(market.sz, (entry.size,))
        if not size:
            raise FrameError(f"trade {text} has size {entry.size[:60]!r}: expected more than 0")
        trade = Trade(
            venue=VENUE,
            symbol=market.symbol,
            ts_event_ms=recv_ms,
            ts_recv_ms=recv_ms,
            px_e=px_e,
            sz_e=sz_e,
            px=price,
            sz=size,
            side=side,  # type: ignore[arg-type]
            event_id=f"{self._trade_prefix}{int(text)}",
            trade_id=int(text),
        )
        return trade, millis(entry.time)

    # --- ticker ---

    def on_ticker(
        self, entry: TickerEntry, sent_ms: int, recv_ms: int, connection: int
    ) -> list[Event]:
        """A quote and the day's figures, of the newest connection that brings them.

        What the venue leaves empty, or tells as zero, is left out. The quote has no ``seq``: it is
        not in step with the book's messages.
        """
        market = self.market
        if connection < self._ticker_connection:
            market.counts.stale += 1
            return []
        ticker = Ticker(
            venue=VENUE,
            symbol=market.symbol,
            ts_event_ms=recv_ms,
            ts_recv_ms=recv_ms,
            px_e=market.px.exponent,
            sz_e=market.sz.exponent,
        )
        texts = (entry.price, entry.low_24_h, entry.high_24_h, entry.best_bid, entry.best_ask)
        given = [text for text in texts if not _nothing(text)]
        prices, ticker.px_e = together(market.px, given)
        px = dict(zip(given, prices, strict=True))
        amounts = (entry.volume_24_h, entry.best_bid_quantity, entry.best_ask_quantity)
        (volume, bid_sz, ask_sz), ticker.sz_e = together(market.sz, (a or "0" for a in amounts))
        last, low, high, bid, ask = (px.get(text, 0) for text in texts)
        if bid and ask:
            ticker.quote = Quote(bid_px=bid, bid_sz=bid_sz, ask_px=ask, ask_sz=ask_sz)
        change_pct = _percent(entry.price_percent_chg_24_h)
        open_ = self._opening(last, change_pct, ticker.px_e)
        if last and low and high and open_ > 0:
            ticker.day = DayStats(
                last=last, open=open_, high=high, low=low, volume=volume, change_pct=change_pct
            )
        if ticker.quote is None and ticker.day is None:
            market.counts.ignored += 1
            return []
        self._ticker_connection = connection
        ticker.ts_event_ms = market.event_ms(sent_ms, recv_ms)
        return [ticker]

    def _opening(self, last: int, change_pct: float, px_e: int) -> int:
        """The price of 24 h ago, which is not sent: ``last`` without the change.

        The change has some 13 digits, so what comes out lies on a tick but for an error that the
        rounding takes away.
        """
        if change_pct <= -100:
            return 0
        rules = self.market.rules
        step = rules.tick_size * 10 ** (rules.px_e - px_e) if rules else 1
        return round(last / (1 + change_pct / 100) / step) * step

    # --- candles ---

    def on_candles(
        self, entries: Iterable[CandleEntry], sent_ms: int, recv_ms: int, connection: int
    ) -> list[Event]:
        """Candles of any age, of the newest connection that brings them.

        The venue does not say when one is closed: it is when a later one comes.

        Raises:
            FrameError: One of them can't be read. None of them is taken.
        """
        market = self.market
        if connection < self._candle_connection:
            market.counts.stale += 1
            return []
        candles = sorted((self._kline(entry, recv_ms) for entry in entries), key=_open_ms)
        self._candle_connection = connection
        event_ms = market.event_ms(sent_ms, recv_ms) if candles else recv_ms
        events: list[Event] = []
        for candle, later in zip(candles, [*candles[1:], None], strict=True):
            candle.ts_event_ms = event_ms
            known = self._candle
            if known is not None and candle.open_ms < known.open_ms:
                market.counts.stale += 1
                continue
            if known is not None and candle.open_ms > known.open_ms:
                times = {"ts_event_ms": event_ms, "ts_recv_ms": recv_ms}
                events.append(msgspec.structs.replace(known, closed=True, **times))
            if later is not None and later.open_ms > candle.open_ms:
                candle.closed, self._candle = True, None
            elif known is not None and _figures(candle) == _figures(known):
                continue  # said again
            else:
                self._candle = candle
            events.append(candle)
        return events

    def _kline(self, entry: CandleEntry, recv_ms: int) -> Kline:
        market, start = self.market, entry.start
        if not (start.isascii() and start.isdecimal() and len(start) <= 12 and int(start)):
            raise FrameError(f"candle start {start[:60]!r}: expected seconds since the epoch")
        prices = (entry.open, entry.high, entry.low, entry.close)
        (open_, high, low, close), px_e = together(market.px, prices)
        (volume,), sz_e = together(market.sz, (entry.volume,))
        open_ms = int(start) * 1_000
        return Kline(
            venue=VENUE,
            symbol=market.symbol,
            ts_event_ms=recv_ms,
            ts_recv_ms=recv_ms,
            px_e=px_e,
            sz_e=sz_e,
            interval=INTERVAL,
            open_ms=open_ms,
            close_ms=open_ms + CANDLE_MS - 1,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            trades=0,  # not sent
            closed=False,
        )


def _trade_id(trade: tuple[Trade, int]) -> int:
    return trade[0].trade_id or 0


def _open_ms(candle: Kline) -> int:
    return candle.open_ms


def _figures(candle: Kline) -> tuple[int, ...]:
    prices = (candle.open, candle.high, candle.low, candle.close)
    return (candle.open_ms, candle.px_e, candle.sz_e, *prices, candle.volume)


def _nothing(text: str) -> bool:
    return not text.strip("0.")


def _percent(text: str) -> float:
    try:
        value = float(text or "0")
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise FrameError(f"change {text[:60]!r} is not a plain decimal number")
    return value
