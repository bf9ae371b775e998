"""Trades, tickers, candles and instruments of Kraken, each to its record."""

from __future__ import annotations

from typing import Any

import pytest

from streams.events import Instrument, Kline, Ticker, Trade
from streams.venues.kraken.feed import CLOSE_GRACE_MS
from tapeline.errors import FrameError
from tests.support.kraken import (
    BTC,
    ETH,
    HEARTBEAT,
    NOW_MS,
    Session,
    candle,
    candle_entry,
    data_frame,
    instrument,
    pair,
    ticker,
    trade,
    trade_entry,
)

MINUTE_END_MS = NOW_MS - 39_000 + 60_000


def live(*listings: Any) -> Session:
    session = Session(*listings)
    session.connect()
    session.receive(instrument(pair(), pair("ETH/USD")))
    return session


# --- trade ---


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_trade_carries_the_takers_side_and_its_id(side: str) -> None:
    (event,) = live().receive(trade(70_635_299, 250_000, side=side))
    assert isinstance(event, Trade)
    assert (event.side, event.trade_id, event.event_id) == (
        side,
        70_635_299,
        "kraken:BTCUSD:70635299",
    )
    assert (event.px, event.px_e, event.sz, event.sz_e) == (1001, -1, 1_044_926, -8)
    assert (event.ts_event_ms, event.ts_recv_ms) == (NOW_MS + 250, NOW_MS)


def test_trades_of_one_frame_come_in_their_order() -> None:
    events = live().receive(data_frame("trade", "update", trade_entry(7), trade_entry(8)))
    assert [event.trade_id for event in events] == [7, 8]


def test_trades_twice_are_dropped_and_missing_ones_counted() -> None:
    session = live()
    events = session.receive(trade(7), trade(8), trade(8), trade(7), trade(12))
    assert [event.trade_id for event in events] == [7, 8, 12]
    counts = session.assembler.counts
    assert (counts.trades, counts.trade_duplicates, counts.trades_missing) == (3, 2, 3)


def test_the_first_snapshot_of_trades_is_history_and_says_where_to_go_on() -> None:
    session = live()
    old = data_frame("trade", "snapshot", *(trade_entry(n) for n in (5, 6, 7)))
    assert session.receive(old) == []
    assert [e.trade_id for e in session.receive(trade(8))] == [8]
    counts = session.assembler.counts
    assert (counts.trades, counts.trade_duplicates, counts.trades_missing) == (1, 0, 0)


def test_the_snapshot_after_a_reconnect_fills_the_hole() -> None:
    """Each trade once; what is older than a minute is not traded now, and stays missing."""
    session = live()
    session.receive(trade(7))
    session.disconnect()
    session.now_ms += 70_000
    session.connect()
    late = [trade_entry(n, us) for n, us in ((6, 0), (7, 0), (8, 5_000_000), (9, 15_000_000))]
    events = session.receive(data_frame("trade", "snapshot", *late))
    assert [e.trade_id for e in events] == [9]
    assert events[0].ts_event_ms == NOW_MS + 15_000
    counts = session.assembler.counts
    assert (counts.trades, counts.trade_duplicates, counts.trades_missing) == (2, 2, 1)


def test_trade_ids_that_begin_anew_are_followed() -> None:
    session = live()
    session.receive(trade(1_000))
    (event,) = session.receive(trade(1, 2_000_000))
    assert event.trade_id == 1


def test_a_finer_price_has_its_own_exponent() -> None:
    (event,) = live().receive(trade(7, price="=100.12345"))
    assert (event.px, event.px_e) == (10_012_345, -5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"price": "=-1.0"}, "'-1.0'"),
        ({"price": "=0.0"}, "out of range"),
        ({"side": "both"}, "both"),
        ({"trade_id": -1}, "trade_id"),
        ({"qty": None}, "None is not a number"),
    ],
)
def test_a_trade_that_cannot_be_is_refused_by_value(change: dict[str, Any], named: str) -> None:
    session = live()
    session.receive(trade(6))
    with pytest.raises(FrameError, match=named):
        session.receive(trade(7, **change))
    counts = session.assembler.counts
    assert (counts.errors, counts.trades, counts.resyncs) == (1, 1, 0)
    assert [e.trade_id for e in session.receive(trade(7))] == [7]


def test_one_bad_entry_costs_the_others_nothing() -> None:
    session = live(BTC, ETH)
    bad = data_frame(
        "trade", "update", trade_entry(7, price="=-1.0"), trade_entry(3, symbol="ETH/USD")
    )
    with pytest.raises(FrameError, match=r"BTC/USD: price '-1\.0'"):
        session.receive(bad)
    assert [e.symbol for e in session.receive(HEARTBEAT)] == ["ETHUSD"]
    assert session.assembler.counts.events["trade"] == 1


# --- ticker ---


def test_a_ticker_is_a_quote_and_the_days_figures() -> None:
    (event,) = live().receive(ticker())
    assert isinstance(event, Ticker)
    quote, day = event.quote, event.day
    assert quote is not None
    assert day is not None
    assert (event.px_e, event.sz_e) == (-1, -8)
    assert (quote.bid_px, quote.bid_sz, quote.ask_px, quote.ask_sz) == (
        1000,
        50_000_000,
        1001,
        125_000_000,
    )
    assert (day.last, day.open, day.high, day.low) == (1001, 1050, 1060, 914)
    assert (day.volume, day.change_pct, day.trades) == (421_661_829_370, -4.67, None)
    assert event.ts_event_ms == event.ts_recv_ms == NOW_MS


@pytest.mark.parametrize(
    ("change", "opened"), [("=0.0", 1001), ("=0", 1001), ("=4.9", 952), ("=-0.05", 10_015)]
)
def test_the_open_is_the_last_price_less_the_change(change: str, opened: int) -> None:
    (event,) = live().receive(ticker(change=change))
    assert event.day.open == opened


def test_a_ticker_with_a_time_has_it_and_an_older_one_is_dropped() -> None:
    session = live()
    (event,) = session.receive(ticker(timestamp="2026-07-19T17:54:40.500000Z"))
    assert event.ts_event_ms == NOW_MS + 1_500
    assert session.receive(ticker(timestamp="2026-07-19T17:54:40.400000Z")) == []
    assert session.assembler.counts.stale == 1


def test_zeros_are_no_prices() -> None:
    """An empty side, a day without a trade, or neither: that half is not told."""
    session = live()
    nothing = {"last": "=0.0", "low": "=0.0", "high": "=0.0", "change": "=0.0"}
    (event,) = session.receive(ticker(bid="=0.0", bid_qty="=0.0"))
    assert event.quote is None
    assert event.day is not None
    (event,) = session.receive(ticker(**nothing))
    assert event.day is None
    assert event.quote is not None
    assert session.receive(ticker(bid="=0.0", **nothing)) == []
    assert session.assembler.counts.ignored == 1


@pytest.mark.parametrize(
    ("change", "named"), [({"last": "=-5.0"}, "'-5.0'"), ({"change_pct": "=1e999"}, "change_pct")]
)
def test_a_ticker_that_cannot_be_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(FrameError, match=named):
        live().receive(ticker(**change))


# --- ohlc ---


def test_a_candle_is_open_until_a_later_one_comes() -> None:
    session = live()
    (first,) = session.receive(candle(54, 3))
    assert isinstance(first, Kline)
    assert (first.interval, first.open_ms, first.close_ms) == (
        "1m",
        MINUTE_END_MS - 60_000,
        MINUTE_END_MS - 1,
    )
    assert (first.open, first.high, first.low, first.close) == (1000, 1004, 999, 1001)
    assert (first.volume, first.trades, first.closed) == (750_000_000, 3, False)
    session.receive(candle(54, 5, close="=100.2"))
    closed, opened = session.receive(candle(56, 1))
    assert (closed.open_ms, closed.trades, closed.close, closed.closed) == (
        first.open_ms,
        5,
        1002,
        True,
    )
    assert (opened.open_ms, opened.closed) == (first.open_ms + 120_000, False)
    assert closed is not first


def test_a_candle_is_closed_by_time_on_the_venues_heartbeat() -> None:
    session = live()
    session.receive(candle())
    session.now_ms = MINUTE_END_MS - 1 + CLOSE_GRACE_MS
    assert session.receive(HEARTBEAT) == []
    session.now_ms += 1
    (closed,) = session.receive(HEARTBEAT)
    assert closed.closed
    assert closed.ts_event_ms == closed.close_ms
    assert session.receive(HEARTBEAT) == []
    (opened,) = session.receive(candle(55, 1))
    assert not opened.closed


def test_a_trade_after_all_corrects_a_candle_closed_by_time() -> None:
    session = live()
    session.receive(candle())
    session.now_ms = MINUTE_END_MS + CLOSE_GRACE_MS
    session.receive(HEARTBEAT)
    (again,) = session.receive(candle(54, 4))
    assert (again.trades, again.closed) == (4, True)


def test_a_copy_and_an_older_state_of_a_candle_are_dropped() -> None:
    session = live()
    session.receive(candle(54, 3))
    assert session.receive(candle(54, 3), candle(54, 2), candle(53, 9)) == []
    assert session.assembler.counts.stale == 3


def test_of_the_first_snapshot_only_the_newest_candle_is_news() -> None:
    session = live()
    history = data_frame("ohlc", "snapshot", *(candle_entry(n) for n in (52, 54, 53)))
    (event,) = session.receive(history)
    assert event.open_ms == MINUTE_END_MS - 60_000


def test_a_candle_that_changed_without_a_socket_is_put_right_before_it_is_closed() -> None:
    session = live()
    session.receive(candle(54, 3))
    session.disconnect()
    session.now_ms = MINUTE_END_MS + 30_000
    session.connect()
    assert session.receive(HEARTBEAT) == []  # what it came to is not known yet
    history = data_frame("ohlc", "snapshot", *(candle_entry(n, 8) for n in (53, 54, 55)))
    events = session.receive(history)
    assert [(e.trades, e.closed) for e in events] == [(8, False), (8, True), (8, False)]


def test_a_candle_of_which_nothing_more_is_heard_is_not_closed_with_what_it_was() -> None:
    session = live()
    session.receive(candle(54, 3))
    session.disconnect()
    session.connect()
    (event,) = session.receive(candle(58, 1))
    assert not event.closed


@pytest.mark.parametrize(
    ("change", "named"),
    [({"interval": 7}, "interval 7"), ({"interval_begin": "now"}, "'now'"), ({"low": "=0"}, "'0'")],
)
def test_a_candle_that_cannot_be_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(FrameError, match=named):
        live().receive(candle(**change))


# --- instrument and status ---


def test_an_instrument_says_steps_status_and_currencies() -> None:
    session = Session()
    session.connect()
    (event,) = session.receive(
        instrument(pair(price_increment="=0.05", qty_increment="=0.00001", status="Cancel_Only"))
    )
    assert isinstance(event, Instrument)
    assert (event.tick_size, event.px_e, event.lot_size, event.sz_e) == (5, -2, 1, -5)
    assert (event.status, event.base, event.quote) == ("cancel_only", "BTC", "USD")
    assert (event.origin, event.synthetic) == ("venue", False)


def test_a_step_of_ten_decimals_is_taken() -> None:
    session = Session()
    session.connect()
    (event,) = session.receive(instrument(pair(price_increment="=0.0000000001")))
    assert (event.tick_size, event.px_e) == (1, -10)


def test_a_step_may_be_printed_as_a_power_of_ten() -> None:
    """So it stands in a real snapshot."""
    session = Session()
    session.connect()
    (event,) = session.receive(instrument(pair(qty_increment="=1E-8", price_increment="=5e-05")))
    assert (event.lot_size, event.sz_e, event.tick_size, event.px_e) == (1, -8, 5, -5)


@pytest.mark.parametrize("step", ["=1E-999999999", "=1e999", "=-0.1", "=0.0000000000001"])
def test_a_step_that_cannot_be_is_refused(step: str) -> None:
    session = Session()
    session.connect()
    with pytest.raises(FrameError, match="BTC/USD: "):
        session.receive(instrument(pair(price_increment=step)))


def test_an_instrument_that_changes_is_told_again() -> None:
    session = live()
    (event,) = session.receive(instrument(pair(status="maintenance"), kind="update"))
    assert event.status == "maintenance"
    rules = session.assembler.instrument("BTCUSD", NOW_MS + 5)
    assert rules is not None
    assert (rules.status, rules.ts_recv_ms) == ("maintenance", NOW_MS + 5)


def test_the_systems_state_is_every_symbols_until_it_is_online_again() -> None:
    session = live(BTC, ETH)
    assert session.receive(data_frame("status", "update", '{"system":"online"}')) == []
    down = session.receive(data_frame("status", "update", '{"system":"maintenance"}'))
    assert [(e.symbol, e.status) for e in down] == [
        ("BTCUSD", "maintenance"),
        ("ETHUSD", "maintenance"),
    ]
    up = session.receive(data_frame("status", "update", '{"system":"online"}'))
    assert [e.status for e in up] == ["online", "online"]


def test_pairs_of_others_are_neither_told_nor_counted() -> None:
    session = live()
    assert session.receive(instrument(pair("XRP/USD"), kind="update")) == []
    assert session.assembler.counts.ignored == 0
