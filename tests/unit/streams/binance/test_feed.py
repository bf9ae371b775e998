"""Trades, quotes, tickers and candles: each passed on once, exact, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import Kline, Ticker, Trade
from streams.venues.ordering import LATE_MS, ROOM
from tapeline.errors import FrameError
from tests.support.binance import (
    NOW_MS,
    Session,
    agg_trade,
    day_ticker,
    depth,
    kline,
    quote,
    trade,
)


@pytest.fixture
def session() -> Session:
    session = Session()
    session.sync(at=9)
    return session


def test_a_trade_carries_its_exact_price_the_takers_side_and_an_id(session: Session) -> None:
    (event,) = session.receive(trade(41, T=NOW_MS - 3))
    assert isinstance(event, Trade)
    assert (event.px, event.px_e, event.sz, event.sz_e) == (10_001, -2, 50_000, -5)
    assert (event.side, event.trade_id, event.first_id) == ("sell", 41, None)
    assert event.event_id == "binance:BTCUSDT:41"
    assert (event.ts_event_ms, event.ts_recv_ms) == (NOW_MS - 3, NOW_MS)
    (event,) = session.receive(trade(42, m=False))
    assert isinstance(event, Trade)
    assert event.side == "buy"


def test_an_aggregate_is_one_trade_with_its_first_and_last_id(session: Session) -> None:
    (event,) = session.receive(agg_trade(5, 8))
    assert isinstance(event, Trade)
    assert (event.first_id, event.trade_id, event.event_id) == (5, 8, "binance:BTCUSDT:8")
    session.receive(agg_trade(9, 9))
    assert session.assembler.counts.trades_missing == 0
    assert session.receive(agg_trade(12, 14)) == []
    assert [event.trade_id for event in session.wait()] == [14]
    assert session.assembler.counts.trades_missing == 2
    assert session.receive(agg_trade(12, 14)) == []


def test_an_aggregate_whose_ids_run_backwards_is_refused(session: Session) -> None:
    with pytest.raises(FrameError, match="f=9, l=8"):
        session.receive(agg_trade(9, 8))


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0, 0, 40, 200])), min_size=1))
def test_trade_ids_only_rise_and_every_other_one_is_counted(steps: list[tuple[int, int]]) -> None:
    """Each that comes is passed on, repeated or late; each that does not is missing."""
    session = Session()
    session.connect()
    events = []
    for number, wait_ms in steps:
        events += session.receive(trade(number))
        events += session.wait(wait_ms)
    events += session.wait()
    passed = [event.trade_id for event in events]
    counts = session.assembler.counts
    assert passed == sorted(set(passed))
    assert counts.trades == len(passed)
    assert counts.trade_duplicates + counts.late == len(steps) - len(passed)
    assert counts.trades_missing == passed[-1] - passed[0] + 1 - len(passed)


def test_trades_that_change_places_come_out_in_order(session: Session) -> None:
    session.receive(trade(10))
    assert session.receive(trade(13)) == []
    assert session.receive(trade(12)) == []
    assert session.wait(LATE_MS - 1) == []
    assert [event.trade_id for event in session.receive(trade(11))] == [11, 12, 13]
    counts = session.assembler.counts
    assert (counts.trades_missing, counts.late, counts.trade_duplicates) == (0, 0, 0)


def test_a_hole_is_given_up_in_time_and_what_fills_it_then_is_late(session: Session) -> None:
    session.receive(trade(10))
    session.receive(trade(12))
    assert session.wait(LATE_MS - 1) == []
    assert [event.trade_id for event in session.wait(1)] == [12]
    assert session.receive(trade(11)) == []
    assert session.receive(trade(10)) == []
    counts = session.assembler.counts
    assert (counts.trades_missing, counts.late, counts.trade_duplicates) == (1, 1, 1)
    ((symbol, kind, seq, lateness_ms),) = counts.late_events
    assert (symbol, kind, seq) == ("BTCUSDT", "trade", 11)
    assert 0 <= lateness_ms < 1_000


def test_each_hole_has_its_own_time(session: Session) -> None:
    session.receive(trade(10))
    session.receive(trade(12))
    session.wait(100)
    session.receive(trade(14))
    assert [event.trade_id for event in session.wait(50)] == [12]
    assert [event.trade_id for event in session.receive(trade(13))] == [13, 14]
    assert session.assembler.counts.trades_missing == 1


def test_trades_do_not_wait_without_end(session: Session) -> None:
    session.receive(trade(1))
    events = [e for n in range(3, 3 + ROOM) for e in session.receive(trade(n))]
    assert len(events) == ROOM
    assert session.assembler.counts.trades_missing == 1


def test_trades_missed_while_no_socket_was_open_are_counted(session: Session) -> None:
    session.receive(trade(10))
    session.disconnect()
    session.connect()
    session.receive(trade(15))
    session.wait()
    assert session.assembler.counts.trades_missing == 4


def test_trade_ids_that_begin_anew_are_told_by_the_venues_clock(session: Session) -> None:
    """A venue's test network is reset each month, a simulator at each start."""
    session.receive(trade(1_000))
    assert session.receive(trade(1, T=NOW_MS + 1_000)) == []
    assert len(session.receive(trade(2, T=NOW_MS + 1_001))) == 1
    assert len(session.receive(trade(3, T=NOW_MS + 1_002))) == 1
    assert session.assembler.counts.trades_missing == 0


def test_a_quote_has_the_books_id_and_our_time(session: Session) -> None:
    (event,) = session.receive(quote(10, (100, 5), (101, 7)))
    assert isinstance(event, Ticker)
    assert event.quote is not None
    assert event.day is None
    assert (event.seq, event.ts_event_ms, event.ts_recv_ms) == (10, NOW_MS, NOW_MS)
    assert (event.quote.bid_px, event.quote.bid_sz) == (100, 5)
    assert (event.quote.ask_px, event.quote.ask_sz) == (101, 7)


def test_a_quote_comes_once_whatever_socket_brings_it(session: Session) -> None:
    assert len(session.receive(quote(10))) == 1
    assert session.receive(quote(10)) == []
    assert session.receive(quote(9)) == []
    session.disconnect()
    session.connect()
    assert len(session.receive(quote(3))) == 1


def test_the_day_ticker_holds_the_venues_24_hours(session: Session) -> None:
    (event,) = session.receive(day_ticker())
    assert isinstance(event, Ticker)
    assert event.day is not None
    assert event.quote is None
    day = event.day
    assert (day.last, day.open, day.high, day.low) == (9_875, 10_000, 10_100, 9_800)
    assert (day.volume, day.change_pct, day.trades) == (1_200_000, -1.25, 42)
    assert (event.px_e, event.sz_e, event.seq) == (-2, -5, None)


def test_tickers_and_candles_come_once_each_in_the_order_of_their_times(session: Session) -> None:
    for make in (day_ticker, kline):
        assert len(session.receive(make())) == 1
        assert session.receive(make()) == []
        older = make(E=NOW_MS - 1) if make is day_ticker else kline(NOW_MS - 1)
        assert session.receive(older) == []
        newer = make(E=NOW_MS + 1) if make is day_ticker else kline(NOW_MS + 1)
        assert len(session.receive(newer)) == 1


def test_a_venues_clock_set_back_does_not_silence_its_tickers(session: Session) -> None:
    session.receive(day_ticker(E=NOW_MS + 3_600_000))
    assert len(session.receive(day_ticker())) == 1


def test_a_day_without_a_trade_has_no_prices_to_tell(session: Session) -> None:
    nothing = dict.fromkeys("cohlv", "0.00000000") | {"n": 0}
    assert session.receive(day_ticker(**nothing)) == []
    assert session.assembler.counts.ignored == 1


@pytest.mark.parametrize("change", ["NaN", "inf", "much"])
def test_a_change_that_is_no_number_is_refused(session: Session, change: str) -> None:
    with pytest.raises(FrameError, match=change):
        session.receive(day_ticker(P=change))


def test_a_candle_is_passed_on_with_its_interval(session: Session) -> None:
    (event,) = session.receive(kline(x=True))
    assert isinstance(event, Kline)
    assert (event.interval, event.closed, event.trades) == ("1m", True, 3)
    assert (event.open, event.high, event.low, event.close) == (10_000, 10_003, 9_999, 10_002)
    assert (event.open_ms, event.close_ms) == (NOW_MS - 15_000, NOW_MS + 44_999)
    assert event.volume == 700_000
    assert len(session.receive(kline(interval="5m"))) == 1


@pytest.mark.parametrize("off", [-60_001, 60_001, -NOW_MS])
def test_a_time_over_a_minute_off_ours_is_replaced_and_counted(off: int) -> None:
    session = Session()
    session.sync(at=9)
    frames = [
        trade(1, T=NOW_MS + off),
        day_ticker(E=NOW_MS + off),
        kline(NOW_MS + off),
        depth(10, 10, E=NOW_MS + off),
    ]
    for wire in frames:
        (event,) = session.receive(wire)
        assert event.ts_event_ms == NOW_MS
    assert session.assembler.counts.ts_replaced == 4
    (event,) = session.receive(trade(2, T=NOW_MS + (60_000 if off > 0 else -60_000)))
    assert abs(event.ts_event_ms - NOW_MS) == 60_000


@pytest.mark.parametrize(
    ("wire", "named"),
    [
        (trade(1, p="0.00000000"), "0.00000000"),
        (trade(1, p="-1.00000000"), "-1.00000000"),
        (trade(1, q="-1.00000000"), "-1.00000000"),
        (trade(1, q="NaN"), "NaN"),
        (agg_trade(1, 1, p="Infinity"), "Infinity"),
        (quote(10).replace("0.00005000", "-0.0000500"), "-0.0000500"),
        (day_ticker(h="x"), "'x'"),
        (kline(v="-7.00000000"), "-7.00000000"),
    ],
)
def test_a_value_that_can_not_be_is_refused_by_name_and_changes_nothing(
    session: Session, wire: str, named: str
) -> None:
    with pytest.raises(FrameError, match=named):
        session.receive(wire)
    assert session.assembler.counts.errors == 1
    assert len(session.receive(trade(1))) == 1
    assert len(session.receive(quote(10))) == 1
    assert len(session.receive(day_ticker())) == 1
    assert len(session.receive(kline())) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda s: trade(1, s=s),
        lambda s: agg_trade(1, 1, s=s),
        lambda s: quote(10).replace("BTCUSDT", s),
        lambda s: day_ticker(s=s),
        lambda s: depth(10, 10, s=s),
        lambda s: kline().replace('"s":"BTCUSDT","k"', f'"s":"{s}","k"'),
    ],
)
def test_another_symbols_payload_on_our_stream_is_refused(session: Session, make: Any) -> None:
    with pytest.raises(FrameError, match="'ETHUSDT' came on the stream of BTCUSDT"):
        session.receive(make("ETHUSDT"))


def test_a_value_finer_than_the_rules_gets_a_finer_record_and_only_that_one(
    session: Session,
) -> None:
    (event,) = session.receive(trade(1, p="100.01250000", q="0.12345678"))
    assert isinstance(event, Trade)
    assert (event.px, event.px_e, event.sz, event.sz_e) == (1_000_125, -4, 12_345_678, -8)
    (event,) = session.receive(trade(2))
    assert isinstance(event, Trade)
    assert (event.px_e, event.sz_e) == (-2, -5)
    (event,) = session.receive(quote(10).replace("1.01000000", "1.01100000"))
    assert isinstance(event, Ticker)
    assert event.px_e == -3
    assert event.quote is not None
    assert (event.quote.bid_px, event.quote.ask_px) == (1_000, 1_011)
    (event,) = session.receive(day_ticker(v="0.00000001"))
    assert isinstance(event, Ticker)
    assert event.sz_e == -8


def test_trades_before_the_rules_are_known_are_exact_too() -> None:
    session = Session()
    session.connect()
    (event,) = session.receive(trade(1))
    assert isinstance(event, Trade)
    assert (event.px, event.px_e, event.sz, event.sz_e) == (10_001, -2, 5, -1)
