"""Frames to their readers, replies to their requests, and what the connection means for them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from streams.events import Feed as FeedStamp
from streams.events import FeedStatus, Instrument, decode, encode, kind_of, stamp
from streams.symbols import Listing
from streams.venues.base import Assembler, HttpRequest
from streams.venues.binance.assembler import SYMBOLS_MAX, BinanceAssembler
from tapeline.errors import ConfigError, FrameError, UnknownSymbol
from tests.support.binance import (
    BTC,
    ETH,
    NOW_MS,
    Session,
    agg_trade,
    day_ticker,
    depth,
    frame,
    info_body,
    info_entry,
    kline,
    level,
    quote,
    snapshot_body,
    trade,
)

FRAMES: dict[str, Callable[[], str]] = {
    "book_delta": lambda: depth(10, 10, [level(99, 1)]),
    "trade": lambda: trade(1),
    "trade (aggregate)": lambda: agg_trade(1, 2),
    "ticker (quote)": lambda: quote(10),
    "ticker (day)": day_ticker,
    "kline": kline,
}


def statuses(events: list[object]) -> list[tuple[str, str]]:
    return [(e.symbol, e.status) for e in events if isinstance(e, FeedStatus)]


def test_it_is_an_assembler() -> None:
    assembler: Assembler = BinanceAssembler([BTC])
    assert assembler.venue == "binance"
    assert assembler.symbols() == ("BTCUSDT",)
    assert assembler.frames_to_send() == []


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_means_the_same_raw_combined_reordered_as_text_and_as_bytes(kind: str) -> None:
    combined = FRAMES[kind]()
    name, data = json.loads(combined)["stream"], json.loads(combined)["data"]
    spellings: list[str | bytes] = [
        combined,
        combined.encode(),
        json.dumps(data, separators=(",", ":")),
        json.dumps({"data": data, "stream": name}),
        json.dumps({"stream": name, "data": data}, indent=1),
    ]
    results = []
    for spelling in spellings:
        session = Session()
        session.sync(at=9)
        results.append(session.receive(spelling))
        assert session.assembler.counts.errors == 0
    assert len(results[0]) == 1
    assert all(result == results[0] for result in results)
    assert kind_of(results[0][0]) == kind.partition(" ")[0]


@pytest.mark.parametrize("kind", FRAMES)
def test_every_event_is_a_record_once_stamped(kind: str) -> None:
    session = Session()
    for event in [*session.sync(at=9), *session.receive(FRAMES[kind]())]:
        stamp(event, FeedStamp(1, 1), 0)
        assert decode(encode(event)) == event


def test_events_are_counted_by_kind() -> None:
    session = Session()
    session.sync(at=9)
    for make in FRAMES.values():
        session.receive(make())
    assert session.assembler.counts.events == {
        "feed_status": 1,
        "instrument": 1,
        "book_snapshot": 1,
        "book_delta": 1,
        "trade": 2,
        "ticker": 2,
        "kline": 1,
    }
    assert session.assembler.counts.frames == len(FRAMES)


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "null",
        "[]",
        "{}",
        "not json",
        '{"stream":"btcusdt@trade"',
        '{"stream":"btcusdt@trade","data":{}}',
        '{"stream":"btcusdt@trade","data":[]}',
        '{"stream":"btcusdt@trade","data":null}',
        frame("depth@100ms", {"e": "depthUpdate"}),
        depth(10, 10, [["1.00000000"]]),
        depth(10, 10, [[1, 2]]),
        depth(-1, 10),
        trade(2**53),
        b"\xff\xfe",
        b'{"stream":"btcusdt@trade","data":"\xff"}',
        trade(1, note="?").encode().replace(b"?", b"\xff"),
    ],
)
def test_a_frame_that_does_not_parse_is_refused_and_counted(wire: str | bytes) -> None:
    session = Session()
    session.sync(at=9)
    with pytest.raises(FrameError):
        session.receive(wire)
    assert session.assembler.counts.errors == 1
    assert len(session.receive(depth(10, 10))) == 1


def test_a_refused_frame_is_quoted_but_not_at_length() -> None:
    with pytest.raises(FrameError) as caught:
        Session().receive('{"x":"' + "y" * 5_000_000 + '"}')
    assert '{"x":"yyy' in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "wire",
    [
        frame("miniTicker", {"e": "24hrMiniTicker", "E": 1, "s": "BTCUSDT"}),
        frame("trade", {"e": "trade", "s": "ETHUSDT"}, symbol="ETHUSDT"),
        '{"stream":"!miniTicker@arr","data":{"e":"x"}}',
        '{"e":"24hrMiniTicker","E":1,"s":"BTCUSDT"}',
        '{"e":"trade","s":"ETHUSDT"}',
        '{"stream":"btcusdt@blockTrade","data":{"e":"blockTrade"}}',
        '{"lastUpdateId":5,"bids":[],"asks":[]}',
        '{"stream":"x@y"}',
    ],
)
def test_kinds_and_symbols_nobody_asked_for_are_counted_and_passed_over(wire: str) -> None:
    session = Session()
    session.connect()
    assert session.receive(wire) == []
    assert session.assembler.counts.ignored == 1
    assert session.assembler.counts.errors == 0


def test_an_answer_to_a_subscription_is_no_event() -> None:
    session = Session()
    for wire in ('{"result":null,"id":1}', '{"result":["btcusdt@trade"],"id":"a"}'):
        assert session.receive(wire) == []
    assert session.assembler.counts.errors == session.assembler.counts.ignored == 0


@pytest.mark.parametrize(
    "wire",
    [
        '{"code":2,"msg":"Invalid request: unknown variant","id":7}',
        '{"error":{"code":2,"msg":"Invalid request: unknown variant"},"id":7}',
    ],
)
def test_a_refused_subscription_is_told_with_the_venues_words(wire: str) -> None:
    with pytest.raises(FrameError, match="request 7 refused: 2 Invalid request: unknown variant"):
        Session().receive(wire)


@pytest.mark.parametrize(
    "wire",
    [
        '{"e":"serverShutdown","E":1723161255000}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1723161255000}}',
    ],
)
def test_an_announced_shutdown_asks_for_a_new_socket_until_there_is_one(wire: str) -> None:
    session = Session()
    session.sync(at=9)
    assert not session.assembler.wants_new_socket()
    assert session.receive(wire) == []
    assert session.assembler.wants_new_socket()
    assert session.connect() == []
    assert not session.assembler.wants_new_socket()


def test_all_symbols_are_subscribed_by_one_path() -> None:
    assert BinanceAssembler([BTC, ETH]).stream_path() == (
        "/stream?streams=btcusdt@depth@100ms/ethusdt@depth@100ms/btcusdt@trade/ethusdt@trade/"
        "btcusdt@ticker/ethusdt@ticker/btcusdt@bookTicker/ethusdt@bookTicker/"
        "btcusdt@kline_1m/ethusdt@kline_1m"
    )


def test_more_symbols_than_one_connection_carries_are_refused() -> None:
    many = [Listing("binance", f"A{n}", f"A{n}") for n in range(SYMBOLS_MAX + 1)]
    with pytest.raises(ConfigError, match="205 symbols"):
        BinanceAssembler(many)


def test_a_first_socket_asks_for_rules_and_snapshots() -> None:
    session = Session(BTC, ETH)
    assert statuses([*session.connect()]) == [("BTCUSDT", "connected"), ("ETHUSDT", "connected")]
    assert session.waiting == [
        HttpRequest(
            "instrument", "/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D", "", 20
        ),
        HttpRequest("snapshot", "/api/v3/depth?symbol=BTCUSDT&limit=1000", "BTCUSDT", 50),
        HttpRequest("snapshot", "/api/v3/depth?symbol=ETHUSDT&limit=1000", "ETHUSDT", 50),
    ]


def test_a_second_socket_restarts_nothing() -> None:
    session = Session()
    session.sync(at=9)
    assert session.connect() == []
    assert session.waiting == []
    assert len(session.receive(depth(10, 10))) == 1


def test_the_last_socket_gone_mutes_the_books_and_a_new_one_syncs_afresh() -> None:
    session = Session()
    session.sync(at=9)
    (event,) = session.disconnect("server closed")
    assert isinstance(event, FeedStatus)
    assert (event.status, event.reason) == ("disconnected", "server closed")
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "refresh") is None
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "x", stale_ok=True) is not None
    assert session.assembler.resync("BTCUSDT", NOW_MS, "operator") != []
    assert session.assembler.requests_to_send() == []
    session.connect()
    assert session.purposes() == ["instrument", "snapshot"]
    session.answer("snapshot", snapshot_body(3, [level(98, 1)], []))  # lower ids than before
    assert len(session.receive(depth(4, 4))) == 1


def test_an_answer_from_before_a_reconnect_is_ignored() -> None:
    session = Session()
    session.connect()
    late = session.pop("instrument")
    session.disconnect()
    assert session.assembler.http_response(late, 200, info_body(), NOW_MS) == []
    assert session.assembler.instrument("BTCUSDT", NOW_MS) is None


def test_the_instrument_is_what_exchange_info_says() -> None:
    session = Session()
    session.connect()
    body = info_body(info_entry(tick="0.05000000", synthetic=True), info_entry("ETHUSDT"))
    (event,) = session.answer("instrument", body)
    assert isinstance(event, Instrument)
    assert (event.tick_size, event.px_e, event.lot_size, event.sz_e) == (5, -2, 1, -5)
    assert (event.status, event.base, event.quote) == ("trading", "BTC", "USDT")
    assert (event.origin, event.synthetic) == ("venue", True)
    again = session.assembler.instrument("BTCUSDT", NOW_MS + 5)
    assert again is not None
    assert again.ts_recv_ms == NOW_MS + 5
    assert again.tick_size == 5


def test_a_step_of_zero_is_a_rule_switched_off() -> None:
    session = Session()
    session.connect()
    (event,) = session.answer("instrument", info_body(info_entry(tick="0.00000000")))
    assert isinstance(event, Instrument)
    assert (event.tick_size, event.px_e) == (1, -8)


def test_a_symbol_without_rules_gets_the_wires_own_steps() -> None:
    session = Session()
    session.connect()
    (event,) = session.answer("instrument", info_body(info_entry(filters=[])))
    assert isinstance(event, Instrument)
    assert (event.px_e, event.sz_e) == (-8, -8)


def test_rules_that_change_refine_the_book_at_once() -> None:
    session = Session()
    session.sync(at=9)
    session.disconnect()
    session.connect()
    session.answer("snapshot", snapshot_body(9, [level(98, 1)], []))
    session.answer("instrument", info_body(info_entry(tick="0.00100000")))
    (delta,) = session.receive(depth(10, 10))
    assert delta.px_e == -3
    session.disconnect()
    session.connect()
    session.answer("instrument", info_body(info_entry(tick="0.10000000")))
    (event,) = session.answer("snapshot", snapshot_body(9, [level(98, 1)], []))
    assert event.px_e == -3


def test_a_symbol_the_venue_does_not_list_costs_the_others_nothing() -> None:
    """It is asked for by itself before anything is said of it."""
    session = Session(BTC, ETH)
    session.connect()
    events = session.answer("instrument", info_body(info_entry("BTCUSDT")))
    assert [kind_of(event) for event in events] == ["instrument"]
    request = session.pop("instrument")
    assert (request.venue_symbol, request.path) == (
        "ETHUSDT",
        "/api/v3/exchangeInfo?symbol=ETHUSDT",
    )
    with pytest.raises(UnknownSymbol, match="binance does not list 'ETHUSDT'"):
        session.assembler.http_response(request, 200, info_body(), NOW_MS)


def test_a_refusal_that_names_no_symbol_is_followed_up_one_by_one() -> None:
    session = Session(BTC, ETH)
    session.connect()
    invalid = b'{"code":-1121,"msg":"Invalid symbol."}'
    assert session.answer("instrument", invalid, 400) == []
    first, second = session.pop("instrument"), session.pop("instrument")
    assert len(session.assembler.http_response(first, 200, info_body(), NOW_MS)) == 1
    with pytest.raises(UnknownSymbol, match="ETHUSDT"):
        session.assembler.http_response(second, 400, invalid, NOW_MS)
    # The snapshot's own refusal is no second piece of news, and nobody asks again.
    snapshots = [session.pop("snapshot"), session.pop("snapshot")]
    assert session.assembler.http_response(snapshots[1], 400, invalid, NOW_MS) == []
    assert session.assembler.resync("ETHUSDT", NOW_MS, "operator") != []
    assert session.assembler.requests_to_send() == []


@pytest.mark.parametrize("purpose", ["instrument", "snapshot"])
@pytest.mark.parametrize("status", [0, 403, 500, 503, 400])
def test_a_failed_request_is_owed_again_and_later_each_time(purpose: str, status: int) -> None:
    session = Session()
    session.connect()
    waits = []
    for _ in range(4):
        before_ms = session.now_ms
        assert session.answer(purpose, b"<html>", status) == []
        (again,) = [r for r in session.waiting if r.purpose == purpose]
        waits.append(again.not_before_ms - session.now_ms)
        assert session.now_ms >= before_ms
    assert waits == [1_000, 2_000, 4_000, 8_000]


def test_an_answer_that_can_be_used_ends_the_row_of_failures() -> None:
    session = Session()
    session.sync(at=9)
    for _ in range(2):
        session._took(session.assembler.resync("BTCUSDT", session.now_ms, "operator"))
        session.answer("snapshot", b"", 503)
        assert session.waiting[0].not_before_ms == session.now_ms + 1_000
        session.answer("snapshot", snapshot_body(9, [level(100, 5)], []))


@pytest.mark.parametrize("status", [418, 429])
def test_a_ban_is_waited_out_by_all_requests(status: int) -> None:
    session = Session(BTC, ETH)
    session.connect()
    session.answer("snapshot", b"", status, retry_after_s=120)
    (again,) = [r for r in session.waiting if r.not_before_ms]
    assert again.not_before_ms == NOW_MS + 120_000
    session.answer("instrument", info_body(info_entry("BTCUSDT")))
    assert session.pop("instrument").not_before_ms == NOW_MS + 120_000


@pytest.mark.parametrize(
    ("purpose", "body"),
    [
        ("snapshot", b"<html>"),
        ("snapshot", b'{"lastUpdateId":5}'),
        ("snapshot", snapshot_body(5, [["-1.00000000", "1.00000000"]], [])),
        ("snapshot", b"\xff"),
        ("instrument", b"{}"),
        ("instrument", info_body(info_entry(tick="x"))),
    ],
)
def test_an_unreadable_answer_is_told_counted_and_asked_for_again(
    purpose: str, body: bytes
) -> None:
    session = Session()
    session.connect()
    if purpose == "snapshot":
        session.answer("instrument", info_body())
    request = session.pop(purpose)
    with pytest.raises(FrameError, match="/api/v3/"):
        session.assembler.http_response(request, 200, body, NOW_MS)
    assert session.assembler.counts.errors == 1
    (again,) = session.assembler.requests_to_send()
    assert (again.purpose, again.not_before_ms) == (purpose, NOW_MS + 1_000)


def test_one_symbols_trouble_is_not_anothers() -> None:
    session = Session(BTC, ETH)
    session.connect()
    session.answer("instrument", info_body(info_entry("BTCUSDT"), info_entry("ETHUSDT")))
    for _ in range(2):
        session.answer("snapshot", snapshot_body(9, [level(100, 5)], [level(101, 5)]))
    session.receive(depth(20, 20))
    session.wait()
    eth = json.loads(depth(10, 10))["data"] | {"s": "ETHUSDT"}
    assert len(session.receive(frame("depth@100ms", eth, "ETHUSDT"))) == 1
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "x") is None
    assert session.assembler.snapshot("ETHUSDT", NOW_MS, "x") is not None
