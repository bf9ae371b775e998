"""One symbol's channels at Kraken, each message to the records it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Final

from streams.events import DayStats, Event, Instrument, Kline, Quote, Ticker, Trade
from streams.venues.decimals import TEXT_MAX, common_step, together
from streams.venues.kraken import urls
from streams.venues.kraken.book import BookFeed
from streams.venues.kraken.schema import (
    VENUE,
    CandleEntry,
    Number,
    Pair,
    TickerEntry,
    TradeEntry,
    text_of,
)
from streams.venues.kraken.times import micros
from streams.venues.market import CLOCK_SKEW_MS, Market
from tapeline.errors import FrameError

TRADE_RESTART_MS: Final = 1_000
"""A trade this much newer than the last one, yet with a lower id: the venue's ids began anew."""

CLOSE_GRACE_MS: Final = 5_000
"""A candle is called closed this long after its end on our clock: ours may be ahead of the
venue's, and its last trades may be on their way."""

ONLINE: Final = "online"


class SymbolFeed:
    """All channels of one symbol. Each event is passed on once, whatever sockets bring it.

    Attributes:
        market: What is known of the symbol.
        book: Its book.
        confirmed: Whether the symbol has been announced: one that joins an open socket is when
            the venue has answered.
    """

    def __init__(
        self, market: Market, ask_book: Callable[[int], None], *, infer_instrument: bool = False
    ) -> None:
        """``ask_book(now_ms)`` is called whenever the book has to be subscribed anew."""
        self.market = market
        self.book = BookFeed(market, ask_book, infer_instrument=infer_instrument)
        self.confirmed = True
        self._trade_prefix = f"{VENUE}:{market.symbol}:"
        self._trade_id: int | None = None
        self._trade_ms = 0
        self._ticker_us = 0
        self._candle: Kline | None = None  # the newest told, maybe closed
        self._unsure = False  # it may have changed while there was no socket

    def connected(self) -> None:
        """A first socket is open. Trade ids go on, to show what was missed without one."""
        self._ticker_us = 0
        self.book.connected()

    def disconnected(self) -> None:
        """No socket is left."""
        self._unsure = True
        self.book.disconnected()

    # --- instrument ---

    def on_pair(self, pair: Pair, system: str, now_ms: int) -> list[Event]:
        """``instrument``: this symbol's steps and status.

        Args:
            pair: As the venue says it.
            system: The venue's state; unless online, it is every symbol's.
            now_ms: Time put on the record.
        """
        market = self.market
        decimals_max = market.px.decimals_max
        # A step of 0 is no step: one unit of the usual decimals stands for it.
        tick = _step(pair.price_increment or pair.tick_size)
        lot = _step(pair.qty_increment)
        tick_size, px_e = common_step({tick}, "price_increment", decimals_max=decimals_max)
        lot_size, sz_e = common_step({lot}, "qty_increment", decimals_max=decimals_max)
        rules = Instrument(
            venue=VENUE,
            symbol=market.symbol,
            ts_event_ms=now_ms,
            ts_recv_ms=now_ms,
            px_e=px_e,
            sz_e=sz_e,
            tick_size=tick_size,
            lot_size=lot_size,
            status=pair.status.lower() if system == ONLINE else system,
            base=pair.base,
            quote=pair.quote,
            synthetic=pair.synthetic,
        )
        return [market.know(rules), *self.book.instrument_known(now_ms)]

    # --- trade ---

    def on_trade(self, entry: TradeEntry, recv_ms: int) -> list[Event]:
        """``trade``, as it happens."""
        us = micros(entry.timestamp)
        previous = self._trade_id
        if (
            previous is not None
            and entry.trade_id <= previous
            and us // 1_000 - self._trade_ms <= TRADE_RESTART_MS
        ):
            self.market.counts.trade_duplicates += 1
            return []
        return self._trade(entry, us // 1_000, recv_ms)

    def recent_trades(self, entries: Iterable[TradeEntry], recv_ms: int) -> list[TradeEntry]:
        """Of the ``trade`` snapshot, the last 50, those for `on_trade`: it fills a short hole.

        What was made before we began to follow the symbol is history, not news, and tells only
        from which id on. Neither is it news when it is older than a minute: it would be counted
        as traded now.
        """
        trades = sorted(entries, key=lambda entry: entry.trade_id)
        counts, previous = self.market.counts, self._trade_id
        if not trades:
            return []
        if previous is None:
            counts.ignored += 1
            self._trade_id = trades[-1].trade_id
            self._trade_ms = micros(trades[-1].timestamp) // 1_000
            return []
        new = [entry for entry in trades if entry.trade_id > previous]
        counts.trade_duplicates += len(trades) - len(new)
        return [e for e in new if recv_ms - micros(e.timestamp) // 1_000 <= CLOCK_SKEW_MS]

    def _trade(self, entry: TradeEntry, trade_ms: int, recv_ms: int) -> list[Event]:
        market, counts = self.market, self.market.counts
        (price,), px_e = together(market.px, (text_of(entry.price),))
        (size,), sz_e = together(market.sz, (text_of(entry.qty),))
        if self._trade_id is not None:
            counts.trades_missing += max(0, entry.trade_id - self._trade_id - 1)
        self._trade_id, self._trade_ms = entry.trade_id, trade_ms
        counts.trades += 1
        return [
            Trade(
                venue=VENUE,
                symbol=market.symbol,
                ts_event_ms=market.event_ms(trade_ms, recv_ms),
                ts_recv_ms=recv_ms,
                px_e=px_e,
                sz_e=sz_e,
                px=price,
                sz=size,
                side=entry.side,
                event_id=f"{self._trade_prefix}{entry.trade_id}",
                trade_id=entry.trade_id,
            )
        ]

    # --- ticker ---

    def on_ticker(self, entry: TickerEntry, recv_ms: int) -> list[Event]:
        """``ticker``: a quote and the day's figures.

        A side that is empty, or a day without a trade, is told as zeros: that half is left out.
        """
        market = self.market
        us = micros(entry.timestamp)
        if us < self._ticker_us and us:
            market.counts.stale += 1  # a slower socket's
            return []
        change = text_of(entry.change)
        prices = [text_of(n) for n in (entry.bid, entry.ask, entry.last, entry.low, entry.high)]
        quoted = not any(map(_is_zero, prices[:2]))
        traded = not any(map(_is_zero, prices[2:]))
        # Zeros are no prices; nor is a change of zero.
        texts = [text for text in (*prices, change.removeprefix("-")) if not _is_zero(text)]
        values, px_e = together(market.px, texts)
        read = dict(zip(texts, values, strict=True))
        sizes = [text_of(n) for n in (entry.bid_qty, entry.ask_qty, entry.volume)]
        (bid_sz, ask_sz, volume), sz_e = together(market.sz, sizes)
        bid, ask, last, low, high = (read.get(text, 0) for text in prices)
        moved = read.get(change.removeprefix("-"), 0) * (-1 if change[:1] == "-" else 1)
        ticker = Ticker(
            venue=VENUE,
            symbol=market.symbol,
            ts_event_ms=market.event_ms(us // 1_000, recv_ms) if us else recv_ms,
            ts_recv_ms=recv_ms,
            px_e=px_e,
            sz_e=sz_e,
        )
        if quoted:
            ticker.quote = Quote(bid_px=bid, bid_sz=bid_sz, ask_px=ask, ask_sz=ask_sz)
        if traded and last > moved:
            ticker.day = DayStats(
                last=last,
                # Not sent. The venue's change is against the price of 24 h ago.
                open=last - moved,
                high=high,
                low=low,
                volume=volume,
                change_pct=_percent(entry.change_pct),
            )
        if ticker.quote is None and ticker.day is None:
            market.counts.ignored += 1
            return []
        self._ticker_us = us
        return [ticker]

    # --- ohlc ---

    def on_candle(self, entry: CandleEntry, recv_ms: int) -> list[Event]:
        """``ohlc``: the candle as it is now; a later one closes the one before it."""
        candle = self._kline(entry, recv_ms)
        known, unsure = self._candle, self._unsure
        self._unsure = False
        closing: list[Event] = []
        if known is not None and known.interval == candle.interval:
            same = candle.open_ms == known.open_ms
            if candle.open_ms < known.open_ms or (same and candle.trades <= known.trades):
                self.market.counts.stale += 1
                return []
            if same:
                # A trade that comes after all corrects a candle closed by the clock.
                candle.closed = known.closed
            elif not unsure:
                closing = self._close(recv_ms)
        self._candle = candle
        return [*closing, candle]

    def recent_candles(self, entries: Iterable[CandleEntry]) -> list[CandleEntry]:
        """Of the ``ohlc`` snapshot those for `on_candle`: from the last one told on.

        That is how a candle that changed, or ended, while there was no socket is put right; at
        first only the newest one is news.
        """
        candles = sorted(entries, key=lambda entry: micros(entry.interval_begin))
        known = self._candle
        if known is None:
            return candles[-1:]
        return [c for c in candles if micros(c.interval_begin) // 1_000 >= known.open_ms]

    def keep_time(self, now_ms: int) -> list[Event]:
        """Close the candle whose time is over: without a trade no later one comes."""
        candle = self._candle
        if candle is None or self._unsure or now_ms <= candle.close_ms + CLOSE_GRACE_MS:
            return []
        return self._close(now_ms)

    def _close(self, now_ms: int) -> list[Event]:
        candle = self._candle
        if candle is None or candle.closed:
            return []
        closed = Kline(
            **{name: getattr(candle, name) for name in _CANDLE_FIELDS},
            ts_event_ms=self.market.event_ms(candle.close_ms, now_ms),
            ts_recv_ms=now_ms,
            closed=True,
        )
        self._candle = closed
        return [closed]

    def _kline(self, entry: CandleEntry, recv_ms: int) -> Kline:
        market = self.market
        begin_us = micros(entry.interval_begin)
        interval = urls.INTERVALS.get(entry.interval)
        if not begin_us or interval is None:
            said = f"{entry.interval_begin[:40]!r}, interval {entry.interval}"
            raise FrameError(f"a candle of {said}: expected a time and one of {urls.INTERVALS}")
        prices = [text_of(n) for n in (entry.open, entry.high, entry.low, entry.close)]
        (open_, high, low, close), px_e = together(market.px, prices)
        (volume,), sz_e = together(market.sz, (text_of(entry.volume),))
        open_ms = begin_us // 1_000
        return Kline(
            venue=VENUE,
            symbol=market.symbol,
            ts_event_ms=recv_ms,
            ts_recv_ms=recv_ms,
            px_e=px_e,
            sz_e=sz_e,
            interval=interval,
            open_ms=open_ms,
            close_ms=open_ms + entry.interval * 60_000 - 1,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            trades=entry.trades,
            closed=False,
        )


_CANDLE_FIELDS: Final = (
    "venue", "symbol", "px_e", "sz_e", "interval", "open_ms", "close_ms", "open", "high", "low",
    "close", "volume", "trades",
)  # fmt: skip


def _is_zero(text: str) -> bool:
    return not text.strip("-0.")


def _step(number: Number) -> str:
    """A step in plain digits: such have been seen as ``1E-8``.

    Raises:
        FrameError: It is no number, or beyond any step there could be.
    """
    text = text_of(number)
    if text.isascii() and "e" in text.lower():
        try:
            exact = Decimal(text)
        except InvalidOperation:
            exact = Decimal("nan")
        if not exact.is_finite() or not -TEXT_MAX < exact.adjusted() < TEXT_MAX:
            raise FrameError(f"{text[:60]!r} is not a step")
        return f"{exact:f}"
    return text


def _percent(number: Number) -> float:
    try:
        value = float(text_of(number))
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise FrameError(f"change_pct {number!r:.60} is not a plain decimal number")
    return value
