"""Trades, tickers and candles: what each message becomes."""

from __future__ import annotations

from typing import Any

import pytest

from streams.events import Feed as FeedStamp
from streams.events import Kline, Ticker, Trade, decode, encode, stamp
from tapeline.errors import FrameError
from tests.support.coinbase import (
    NOW_MS,
    Session,
    candle,
    candles,
    ticker,
    told,
    trade,
    trades,
)


@pytest.fixture
def session() -> Session:
    session = Session()
    session.sync()
    return session


# --- market_trades ---


def test_trades_come_newest_first_and_go_on_oldest_first(session: Session) -> None:
    events = session.feed(trades, trade(12), trade(11), trade(10))
    assert [event.trade_id for event in events] == [10, 11, 12]


def test_the_side_on_the_wire_is_the_makers(session: Session) -> None:
    events = session.feed(trades, trade(2, side="BUY"), trade(1, side="SELL"))
    assert [event.side for event in events] == ["buy", "sell"]


def test_a_trade_is_a_record_of_the_contract(session: Session) -> None:
    (event,) = session.feed(trades, trade(7, price="100.015", size="0.25"))
    assert isinstance(event, Trade)
    assert (event.px, event.px_e, event.sz, event.sz_e) == (100_015, -3, 25_000, -5)
    assert (event.ts_event_ms, event.event_id) == (NOW_MS, "coinbase:BTCUSD:7")
    stamp(event, FeedStamp(1, 1), 1)
    assert decode(encode(event)) == event


def test_a_snapshot_after_a_reconnect_brings_only_what_was_missed(session: Session) -> None:
    session.feed(trades, trade(11), trade(10))
    session.assembler.disconnected(NOW_MS, "closed")
    session.connect()
    events = session.feed(trades, *(trade(n) for n in range(14, 8, -1)), kind="snapshot")
    assert [e.trade_id for e in events if isinstance(e, Trade)] == [12, 13, 14]
    counts = session.assembler.counts
    assert (counts.trade_duplicates, counts.trades_missing) == (3, 0)


def test_ids_jumped_over_are_counted(session: Session) -> None:
    session.feed(trades, trade(10))
    session.feed(trades, trade(14))
    assert session.assembler.counts.trades_missing == 3


def test_ids_that_begin_anew_do_not_silence_the_trades(session: Session) -> None:
    session.feed(trades, trade(1_000))
    later = "2026-08-09T21:05:49.500000Z"
    assert [e.trade_id for e in session.feed(trades, trade(1, time=later))] == [1]
    assert session.feed(trades, trade(1, time=later)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": "UNKNOWN_ORDER_SIDE"},
        {"trade_id": "x1"},
        {"trade_id": "9" * 16},
        {"price": "0"},
        {"price": "1e5"},
        {"size": "0"},
        {"size": ""},
    ],
)
def test_one_that_cannot_be_read_costs_its_batch_and_nothing_else(
    session: Session, wrong: dict[str, Any]
) -> None:
    with pytest.raises(FrameError):
        session.feed(trades, trade(12), trade(11) | wrong, trade(10))
    assert session.assembler.counts.trades == 0
    assert [e.trade_id for e in session.feed(trades, trade(13))] == [13]


@pytest.mark.parametrize("odd", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "soon", ""])
def test_an_odd_time_is_replaced_by_ours_and_counted(session: Session, odd: str) -> None:
    (event,) = session.feed(trades, trade(1, time=odd))
    assert event.ts_event_ms == NOW_MS
    assert session.assembler.counts.ts_replaced == 1
    assert session.feed(trades, trade(1)) == []  # and it is known all the same


# --- ticker ---


def test_a_ticker_is_a_quote_and_the_day(session: Session) -> None:
    (event,) = session.feed(ticker)
    assert isinstance(event, Ticker)
    assert event.quote is not None
    assert event.day is not None
    quote, day = event.quote, event.day
    assert (event.px_e, event.sz_e, event.seq) == (-2, -5, None)
    assert (quote.bid_px, quote.bid_sz) == (10_000, 500_000)
    assert (quote.ask_px, quote.ask_sz) == (10_001, 100_000)
    assert (day.last, day.low, day.high, day.volume) == (9_900, 9_800, 10_150, 1_250_000)
    assert (day.change_pct, day.trades) == (-1.0, None)
    stamp(event, FeedStamp(1, 1), 1)
    assert decode(encode(event)) == event


def test_the_opening_price_is_worked_out_to_the_tick(session: Session) -> None:
    """Figures of the real venue: 65023.75 is what 65086.18 was before it rose."""
    change = {"price": "65086.18", "price_percent_chg_24_h": "0.09601107287722"}
    (event,) = session.feed(ticker, **change)
    assert event.day.open == 6_502_375


def test_a_batched_ticker_has_no_quote(session: Session) -> None:
    absent = dict.fromkeys(("best_bid", "best_ask", "best_bid_quantity", "best_ask_quantity"), "")
    (event,) = session.feed(ticker, "ticker_batch", **absent)
    assert (event.quote, event.day.last) == (None, 9_900)


def test_a_day_without_a_trade_is_left_out(session: Session) -> None:
    (event,) = session.feed(ticker, price="0", low_24_h="0", high_24_h="0")
    assert event.day is None
    assert event.quote is not None


def test_a_ticker_of_nothing_is_passed_over(session: Session) -> None:
    assert session.feed(ticker, price="", best_bid="0") == []
    assert session.assembler.counts.ignored == 1


@pytest.mark.parametrize("wrong", [{"price_percent_chg_24_h": "nan"}, {"best_bid": "-1"}])
def test_a_ticker_that_cannot_be_read_is_refused(session: Session, wrong: dict[str, str]) -> None:
    with pytest.raises(FrameError):
        session.feed(ticker, **wrong)


def test_of_two_sockets_the_newer_ones_tickers_are_taken(session: Session) -> None:
    assert told(session.feed(ticker)) == ["BTCUSD ticker"]
    session.connect(1)
    assert told(session.receive(ticker(0), 1)) == ["BTCUSD ticker"]
    assert session.receive(ticker(2), 0) == []
    session.assembler.closed(1, NOW_MS)
    assert "BTCUSD ticker" in told(session.receive(ticker(3), 0))


# --- candles ---

START_S = NOW_MS // 300_000 * 300


def shown(events: list[Any]) -> list[tuple[int, bool, int]]:
    """(number of the candle, closed, close) of each."""
    klines = [event for event in events if isinstance(event, Kline)]
    return [((k.open_ms // 1_000 - START_S) // 300, k.closed, k.close) for k in klines]


def nth(number: int, close: str = "100.5") -> dict[str, Any]:
    return candle(START_S + 300 * number, close=close)


def test_a_candle_is_closed_when_a_later_one_comes(session: Session) -> None:
    assert shown(session.feed(candles, nth(0))) == [(0, False, 10_050)]
    assert shown(session.feed(candles, nth(0, "100.6"))) == [(0, False, 10_060)]
    assert shown(session.feed(candles, nth(2))) == [(0, True, 10_060), (2, False, 10_050)]


def test_of_a_snapshot_all_but_the_last_are_closed_whatever_their_order(session: Session) -> None:
    events = session.feed(candles, nth(1), nth(-1), nth(0))
    assert shown(events) == [(-1, True, 10_050), (0, True, 10_050), (1, False, 10_050)]


def test_after_a_reconnect_closed_ones_are_not_told_again(session: Session) -> None:
    """The one that was open is told as it became."""
    session.feed(candles, nth(0), nth(1))
    session.assembler.disconnected(NOW_MS, "closed")
    session.connect()
    events = session.feed(candles, nth(0), nth(1, "99.9"), nth(2))
    assert shown(events) == [(1, True, 9_990), (2, False, 10_050)]


def test_a_candle_said_again_is_not_told_again(session: Session) -> None:
    session.feed(candles, nth(0))
    assert session.feed(candles, nth(0)) == []
    assert shown(session.feed(candles, nth(-1), nth(0))) == []


def test_a_candle_is_a_record_of_the_contract(session: Session) -> None:
    (event,) = session.feed(candles, nth(0))
    assert (event.interval, event.trades) == ("5m", 0)
    assert (event.open, event.high, event.low, event.volume) == (10_000, 10_100, 9_950, 700_000)
    assert event.close_ms == event.open_ms + 299_999
    stamp(event, FeedStamp(1, 1), 1)
    assert decode(encode(event)) == event


@pytest.mark.parametrize("wrong", [{"start": "now"}, {"start": "0"}, {"low": "-1"}])
def test_a_candle_that_cannot_be_read_costs_its_batch(
    session: Session, wrong: dict[str, str]
) -> None:
    with pytest.raises(FrameError):
        session.feed(candles, nth(1), nth(0) | wrong)
    assert shown(session.feed(candles, nth(0))) == [(0, False, 10_050)]


def test_the_frames_own_time_is_the_events(session: Session) -> None:
    far = "2026-08-09T21:07:48Z"
    (event,) = session.receive(ticker(session.number).replace("21:05:48.000000Z", "21:05:47Z"))
    assert event.ts_event_ms == NOW_MS - 1_000
    session.number += 1
    wire = ticker(session.number).replace("2026-08-09T21:05:48.000000Z", far)
    assert session.receive(wire)[0].ts_event_ms == NOW_MS
