"""Frames to their readers, symbols that come and go, and what the venue is asked."""

from __future__ import annotations

import json

import pytest

from streams.events import Instrument
from streams.symbols import Listing
from streams.venues.base import Assembler
from streams.venues.coinbase.asks import ANSWER_WITHIN_MS
from streams.venues.coinbase.assembler import CoinbaseAssembler
from tapeline.errors import ConfigError, FrameError, UnknownSymbol
from tests.support.coinbase import (
    BTC,
    ETH,
    NOW_MS,
    USDC,
    Session,
    ack,
    book,
    error,
    frame,
    heartbeat,
    level2,
    product,
    products,
    ticker,
    told,
    trade,
    trades,
)


def test_it_is_an_assembler() -> None:
    assembler: Assembler = CoinbaseAssembler([BTC])
    assert assembler.venue == "coinbase"
    assert assembler.symbols() == ("BTCUSD",)
    assert assembler.stream_path() == ""
    assert not assembler.wants_new_socket()


def test_the_same_venue_symbol_twice_is_refused() -> None:
    with pytest.raises(ConfigError):
        CoinbaseAssembler([BTC, Listing("coinbase", "btc-usd", "OTHER")])


# --- frames ---


@pytest.mark.parametrize("spelling", ["text", "bytes", "reordered", "spaced", "with client_id"])
def test_a_frame_means_the_same_however_it_is_written(spelling: str) -> None:
    session = Session()
    session.sync()
    wire: str | bytes = level2(1)
    if spelling == "bytes":
        wire = level2(1).encode()
    elif spelling == "reordered":
        wire = json.dumps(dict(reversed(json.loads(level2(1)).items())))
    elif spelling == "spaced":
        wire = json.dumps(json.loads(level2(1)), indent=1)
    elif spelling == "with client_id":
        wire = json.dumps(json.loads(level2(1)) | {"client_id": ""})
    assert told(session.receive(wire)) == ["BTCUSD book_delta"]


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"channel":"l2_data"',
        '{"channel":"l2_data","events":[]}',
        '{"channel":"ticker","sequence_num":-1,"events":[]}',
        '{"channel":"ticker","sequence_num":9007199254740992,"events":[]}',
        '{"channel":"status","events":[]}',
        '{"sequence_num":1,"events":[]}',
        b"\xff\xfe",
    ],
)
def test_what_is_not_the_venues_dialect_is_refused_counted_and_changes_nothing(
    wire: str | bytes,
) -> None:
    session = Session()
    session.sync()
    with pytest.raises(FrameError):
        session.receive(wire)
    counts = session.assembler.counts
    assert (counts.errors, counts.sequence_last) == (1, 0)
    assert told(session.feed(level2)) == ["BTCUSD book_delta"]


def test_signs_of_life_acks_and_unknown_channels_have_their_numbers_and_say_nothing() -> None:
    session = Session()
    session.sync()
    assert session.feed(heartbeat) == []
    assert session.feed(ack, level2=["BTC-USD"]) == []
    assert session.receive(frame("status", 3, {"products": []})) == []
    counts = session.assembler.counts
    assert (counts.sequence_last, counts.sequence_gaps, counts.ignored) == (3, 0, 1)


def test_products_that_nobody_follows_are_passed_over() -> None:
    session = Session()
    session.sync()
    assert session.feed(level2, product="SOL-USD") == []
    assert session.feed(ticker, product_id="SOL-USD") == []
    assert session.feed(trades, trade(1, product_id="SOL-USD")) == []
    assert session.assembler.counts.ignored == 3


def test_a_frame_about_several_products_is_shared_out() -> None:
    session = Session(BTC, ETH)
    session.sync()
    events = session.feed(trades, trade(9), trade(70, product_id="ETH-USD"), trade(8))
    assert [(e.symbol, e.trade_id) for e in events] == [
        ("BTCUSD", 8),
        ("BTCUSD", 9),
        ("ETHUSD", 70),
    ]


def test_what_is_wrong_of_one_product_costs_the_others_nothing() -> None:
    session = Session(BTC, ETH)
    session.sync()
    with pytest.raises(FrameError, match="ETH-USD"):
        session.feed(trades, trade(9), trade(70, product_id="ETH-USD", size="?"))
    assert told(session.feed(heartbeat)) == ["BTCUSD trade"]


# --- aliases ---


def test_a_usdc_product_is_answered_under_its_usd_name() -> None:
    session = Session(USDC)
    session.connect()
    session.answer(products(product("BTC-USDC")))
    assert json.loads(session.assembler.subscribe_frames()[1])["product_ids"] == ["BTC-USDC"]
    assert told(session.feed(book)) == ["BTCUSDC book_snapshot:initial"]
    assert told(session.feed(trades, trade(1))) == ["BTCUSDC trade"]
    assert told(session.feed(level2, product="BTC-USDC")) == ["BTCUSDC book_delta"]


def test_both_names_of_a_product_may_be_followed() -> None:
    session = Session(BTC, USDC)
    session.connect()
    session.answer(products(product(), product("BTC-USDC")))
    assert told(session.feed(book)) == [
        "BTCUSD book_snapshot:initial",
        "BTCUSDC book_snapshot:initial",
    ]
    session.assembler.remove("BTCUSDC", NOW_MS)
    assert session.sent() == [], "it would end the other's stream, too"
    assert told(session.feed(level2)) == ["BTCUSD book_delta"]


def test_an_alias_that_the_products_tell_is_heeded() -> None:
    session = Session(Listing("coinbase", "OLD-EUR", "OLDEUR"))
    session.connect()
    session.answer(products(product("OLD-EUR", alias="NEW-EUR")))
    assert told(session.feed(ticker, product_id="NEW-EUR")) == ["OLDEUR ticker"]


# --- products ---


def test_an_instrument_is_what_the_product_says() -> None:
    session = Session()
    session.connect()
    assert [r.path for r in session.waiting] == ["/market/products/BTC-USD"]
    (rules,) = session.answer(json.dumps(product()).encode())
    assert isinstance(rules, Instrument)
    assert (rules.tick_size, rules.px_e, rules.lot_size, rules.sz_e) == (1, -2, 1, -5)
    assert (rules.status, rules.base, rules.quote) == ("online", "BTC", "USD")
    assert (rules.origin, rules.synthetic) == ("venue", False)
    again = session.assembler.instrument("BTCUSD", NOW_MS + 5)
    assert again is not None
    assert again.ts_recv_ms == NOW_MS + 5


@pytest.mark.parametrize("flag", ["trading_disabled", "cancel_only", "post_only", "auction_mode"])
def test_what_restricts_trading_is_the_status(flag: str) -> None:
    session = Session()
    session.connect()
    (rules,) = session.answer(products(product(**{flag: True})))
    assert rules.status == flag


def test_several_are_asked_for_at_once_and_one_left_out_by_itself() -> None:
    session = Session(BTC, ETH)
    session.connect()
    (request,) = session.waiting
    assert request.path == "/market/products?product_ids=BTC-USD&product_ids=ETH-USD"
    assert told(session.answer(products(product()))) == ["BTCUSD instrument"]
    assert [r.path for r in session.waiting] == ["/market/products/ETH-USD"]
    with pytest.raises(UnknownSymbol, match="ETH-USD"):
        session.answer(b'{"error":"NOT_FOUND"}', 404)
    assert all("ETH-USD" not in text for text in session.assembler.subscribe_frames())


def test_a_delisted_product_is_not_listed() -> None:
    session = Session()
    session.connect()
    with pytest.raises(UnknownSymbol):
        session.answer(products(product(status="delisted")))


def test_the_frame_that_named_an_unknown_product_is_repeated_without_it() -> None:
    """The venue may have refused it as a whole."""
    session = Session(BTC, ETH)
    session.connect()
    session.feed(ticker)
    session.answer(products(product("ETH-USD")))
    with pytest.raises(UnknownSymbol):
        session.answer(b"", 404)
    assert {name for f in session.sent() for name in f["product_ids"]} == {"ETH-USD"}


@pytest.mark.parametrize(("status", "body"), [(429, b""), (500, b""), (0, b""), (200, b"<html>")])
def test_a_request_that_failed_is_owed_again_later(status: int, body: bytes) -> None:
    session = Session()
    session.connect()
    if status == 200:
        with pytest.raises(FrameError):
            session.answer(body, status)
        session.waiting += session.assembler.requests_to_send()
    else:
        assert session.answer(body, status) == []
    (request,) = session.waiting
    assert request.not_before_ms > NOW_MS
    assert told(session.answer(products())) == ["BTCUSD instrument"]


def test_without_products_the_steps_are_read_off_the_book() -> None:
    session = Session(infer_instruments=True)
    session.connect()
    assert session.waiting == []
    events = session.feed(book)
    assert told(events) == ["BTCUSD instrument", "BTCUSD book_snapshot:initial"]
    assert (events[0].px_e, events[0].origin) == (-2, "inferred")


# --- errors ---


def test_an_error_is_refused_with_the_venues_words_and_has_no_number() -> None:
    session = Session()
    session.sync()
    with pytest.raises(FrameError, match="authentication failure"):
        session.receive(error("authentication failure"))
    assert told(session.feed(level2)) == ["BTCUSD book_delta"]


def test_an_error_that_names_a_product_of_ours_says_that_it_is_not_listed() -> None:
    session = Session(BTC, ETH)
    session.connect()
    with pytest.raises(UnknownSymbol, match="ETH-USD"):
        session.receive(error("eth-usd is not a valid product"))
    assert session.receive(error("ETH-USD is not a valid product")) == []  # each channel says it
    assert all("ETH-USD" not in text for text in session.assembler.subscribe_frames())


# --- symbols that come and go ---


def test_one_more_symbol_is_asked_for_on_the_open_socket() -> None:
    session = Session()
    session.sync()
    assert session.assembler.add(ETH, NOW_MS) == []
    assert session.assembler.add(ETH, NOW_MS) == []
    frames = session.sent()
    assert [(f["type"], f["channel"]) for f in frames] == [
        ("subscribe", channel) for channel in ("level2", "market_trades", "ticker", "candles")
    ]
    assert all(f["product_ids"] == ["ETH-USD"] for f in frames)
    assert session.sent() == []
    assert [r.path for r in session.assembler.requests_to_send()] == ["/market/products/ETH-USD"]


def test_it_is_announced_when_the_venue_has_answered() -> None:
    session = Session()
    session.sync()
    session.assembler.add(ETH, NOW_MS)
    session.waiting += session.assembler.requests_to_send()
    assert session.answer(products(product("ETH-USD"))) == []
    assert told(session.feed(trades, trade(1, product_id="ETH-USD"))) == [
        "ETHUSD connected", "ETHUSD instrument", "ETHUSD trade",
    ]  # fmt: skip
    assert told(session.feed(ack, level2=["BTC-USD", "ETH-USD"])) == []
    assert told(session.feed(book, product="ETH-USD")) == ["ETHUSD book_snapshot:initial"]


def test_an_ack_announces_it_too() -> None:
    session = Session()
    session.sync()
    session.assembler.add(ETH, NOW_MS)
    assert told(session.feed(ack, level2=["BTC-USD", "ETH-USD"])) == ["ETHUSD connected"]


def test_one_that_the_venue_refuses_is_followed_no_more() -> None:
    session = Session()
    session.sync()
    session.assembler.add(ETH, NOW_MS)
    session.waiting += session.assembler.requests_to_send()
    assert told(session.answer(b"", 404)) == ["ETHUSD disconnected:refused"]
    assert session.assembler.symbols() == ("BTCUSD",)
    assert session.sent() == []


def test_a_symbol_added_before_there_is_a_socket_is_asked_for_with_the_others() -> None:
    session = Session()
    session.assembler.add(ETH, NOW_MS)
    assert session.sent() == []
    assert told(session.connect()) == ["BTCUSD connected", "ETHUSD connected"]
    assert "ETH-USD" in session.assembler.subscribe_frames()[1]


def test_a_symbol_removed_is_given_up_and_what_still_comes_is_passed_over() -> None:
    session = Session(BTC, ETH)
    session.sync()
    assert told(session.assembler.remove("ETHUSD", NOW_MS)) == ["ETHUSD disconnected:removed"]
    assert session.assembler.remove("ETHUSD", NOW_MS) == []
    assert {(f["type"], *f["product_ids"]) for f in session.sent()} == {("unsubscribe", "ETH-USD")}
    assert session.feed(level2, product="ETH-USD") == []
    assert session.assembler.snapshot("ETHUSD", NOW_MS, "refresh") is None
    assert session.assembler.instrument("ETHUSD", NOW_MS) is None
    assert told(session.feed(level2)) == ["BTCUSD book_delta"]


def test_what_joins_and_leaves_before_it_is_sent_is_no_frame() -> None:
    session = Session()
    session.sync()
    session.assembler.add(ETH, NOW_MS)
    session.assembler.remove("ETHUSD", NOW_MS)
    assert session.sent() == []


def test_what_nothing_was_heard_of_is_asked_for_on_all_channels() -> None:
    session = Session(BTC, ETH)
    session.connect()
    session.feed(ticker)
    session.now_ms += ANSWER_WITHIN_MS
    session.feed(heartbeat)
    btc, eth = session.sent(), session.sent()
    assert [f["channel"] for f in btc] == ["level2", "level2"]
    assert [f["channel"] for f in eth] == [
        "level2", "level2", "market_trades", "ticker", "candles",
    ]  # fmt: skip


# --- the connection ---


def test_a_second_socket_says_nothing_and_the_last_one_to_go_says_it_all() -> None:
    session = Session()
    assert told(session.connect(1)) == ["BTCUSD connected"]
    session.answer(products())
    session.feed(book)
    assert session.connect(2) == []
    events = session.assembler.disconnected(NOW_MS, "closed")
    assert told(events) == ["BTCUSD disconnected:closed"]
    assert session.levels() is None
    assert session.assembler.snapshot("BTCUSD", NOW_MS, "x", stale_ok=True) is not None


def test_a_new_connection_counts_from_nought() -> None:
    session = Session()
    session.sync()
    for _ in range(5):
        session.feed(heartbeat)
    session.assembler.disconnected(NOW_MS, "closed")
    session.connect()
    assert told(session.feed(book)) == ["BTCUSD book_snapshot:resync"]
    assert session.assembler.counts.sequence_gaps == 0


def test_events_are_counted_by_kind() -> None:
    session = Session()
    session.sync()
    session.feed(ticker)
    assert session.assembler.counts.events == {
        "feed_status": 1,
        "instrument": 1,
        "book_snapshot": 1,
        "ticker": 1,
    }
