"""Symbols that join and leave on live sockets: frames, answers, and what becomes of their books."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import FeedStatus, kind_of
from streams.symbols import Listing
from streams.venues.base import HttpRequest
from streams.venues.binance import urls
from streams.venues.binance.assembler import SYMBOLS_MAX, BinanceAssembler
from streams.venues.binance.streams import FRAME_SYMBOLS_MAX
from tapeline.errors import ConfigError, FrameError
from tests.support.binance import (
    BTC,
    ETH,
    NOW_MS,
    Session,
    depth,
    frame,
    info_body,
    info_entry,
    level,
    snapshot_body,
    trade,
)

SOL = Listing("binance", "SOLUSDT", "SOLUSDT")


def added(session: Session, *listings: Listing) -> list[dict[str, Any]]:
    """Add some; the frames owed then."""
    for listing in listings:
        assert session.assembler.add(listing, NOW_MS) == []
    return owed(session)


def owed(session: Session) -> list[dict[str, Any]]:
    return [json.loads(text) for text in session.assembler.frames_to_send()]


def ack(session: Session, ident: int) -> list[Any]:
    return session.receive(json.dumps({"result": None, "id": ident}))


def denial(ident: int | None) -> str:
    return json.dumps({"code": 2, "msg": "Invalid request: too many", "id": ident})


def said(events: list[Any]) -> list[tuple[str, str, str]]:
    return [(e.symbol, e.status, e.reason) for e in events if isinstance(e, FeedStatus)]


def synced() -> Session:
    session = Session()
    session.sync(at=9)
    return session


def test_a_symbol_that_joins_is_subscribed_and_its_book_begins_with_the_answer() -> None:
    session = synced()
    (asked,) = added(session, ETH)
    assert asked["method"] == "SUBSCRIBE"
    assert asked["params"] == [f"ethusdt@{kind}" for kind in urls.STREAMS]
    assert session.waiting == [], "no snapshot before the stream that continues it"
    assert said(ack(session, asked["id"])) == [("ETHUSDT", "connected", "")]
    assert {(r.purpose, r.venue_symbol) for r in session.waiting} == {
        ("instrument", "ETHUSDT"),
        ("snapshot", "ETHUSDT"),
    }
    session.receive(depth(5, 6, [level(99, 1)]).replace("btcusdt", "ethusdt").replace("BTC", "ETH"))
    session.answer("instrument", info_body(info_entry("ETHUSDT")))
    events = session.answer("snapshot", snapshot_body(4, [level(100, 5)], [level(101, 5)]))
    assert [kind_of(event) for event in events] == ["book_snapshot", "book_delta"]
    assert session.assembler.symbols() == ("BTCUSDT", "ETHUSDT")
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "") is not None, "others are left alone"


def test_one_that_is_followed_already_changes_nothing() -> None:
    session = synced()
    assert added(session, BTC) == []
    assert session.waiting == []


def test_the_answers_of_two_sockets_begin_one_book() -> None:
    session = synced()
    session.connect()
    (asked,) = added(session, ETH)
    ack(session, asked["id"])
    count = len(session.waiting)
    assert ack(session, asked["id"]) == []
    assert len(session.waiting) == count


def test_a_refused_symbol_is_followed_no_more_and_said_to_be() -> None:
    session = synced()
    (asked,) = added(session, ETH, SOL)
    assert said(session.receive(denial(asked["id"]))) == [
        ("ETHUSDT", "disconnected", "refused"),
        ("SOLUSDT", "disconnected", "refused"),
    ]
    assert session.assembler.symbols() == ("BTCUSDT",)
    assert (owed(session), session.waiting) == ([], [])
    assert session.assembler.counts.errors == 0, "it is an answer, not a bad frame"
    with pytest.raises(FrameError, match=f"request {asked['id']} refused: 2 Invalid"):
        session.receive(denial(asked["id"]))
    assert not session.assembler.wants_new_socket()


def test_a_refusal_on_a_second_socket_only_asks_for_another_socket() -> None:
    """The first one carries the symbol; one with an address of today would, too."""
    session = synced()
    session.connect()
    (asked,) = added(session, ETH)
    ack(session, asked["id"])
    with pytest.raises(FrameError):
        session.receive(denial(asked["id"]))
    assert session.assembler.symbols() == ("BTCUSDT", "ETHUSDT")
    assert session.assembler.wants_new_socket()


@pytest.mark.parametrize("ident", [None, 77])
def test_an_answer_to_nobody_s_question_is_no_answer(ident: int | None) -> None:
    session = synced()
    added(session, ETH)
    assert session.receive(json.dumps({"result": None, "id": ident})) == []
    with pytest.raises(FrameError):
        session.receive(denial(ident))
    assert session.assembler.symbols() == ("BTCUSDT", "ETHUSDT")


def test_a_symbol_that_leaves_is_unsubscribed_and_what_still_comes_is_passed_over() -> None:
    session = synced()
    assert len(session.receive(trade(1))) == 1
    assert said(session.assembler.remove("BTCUSDT", NOW_MS)) == [
        ("BTCUSDT", "disconnected", "removed")
    ]
    (asked,) = owed(session)
    assert asked["method"] == "UNSUBSCRIBE"
    assert asked["params"] == [f"btcusdt@{kind}" for kind in urls.STREAMS]
    ignored = session.assembler.counts.ignored
    assert session.receive(trade(2)) == []
    assert session.receive(depth(10, 10, [level(99, 1)])) == []
    assert session.assembler.counts.ignored == ignored + 2
    assert ack(session, asked["id"]) == []
    assert session.assembler.symbols() == ()
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "") is None
    assert session.assembler.instrument("BTCUSDT", NOW_MS) is None
    assert session.assembler.remove("BTCUSDT", NOW_MS) == []


def test_an_answer_on_its_way_when_its_symbol_leaves_is_not_waited_for() -> None:
    session = Session()
    session.connect()
    session.assembler.remove("BTCUSDT", NOW_MS)
    assert session.answer("snapshot", snapshot_body(9, [level(100, 5)], [level(101, 5)])) == []
    assert session.answer("instrument", info_body()) == []


def test_one_that_leaves_and_joins_again_begins_anew() -> None:
    session = synced()
    session.assembler.remove("BTCUSDT", NOW_MS)
    left, joined = added(session, BTC)
    assert (left["method"], joined["method"]) == ("UNSUBSCRIBE", "SUBSCRIBE")
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "") is None
    ack(session, joined["id"])
    session.answer("instrument", info_body())
    events = session.answer("snapshot", snapshot_body(20, [level(100, 5)], [level(101, 5)]))
    assert [kind_of(event) for event in events] == ["book_snapshot"]


def test_one_that_joins_and_leaves_before_a_frame_is_sent_leaves_no_trace() -> None:
    session = synced()
    session.assembler.add(ETH, NOW_MS)
    session.assembler.remove("ETHUSDT", NOW_MS)
    assert owed(session) == []


def test_what_joins_at_once_is_in_one_frame_and_frames_have_a_limit() -> None:
    session = synced()
    many = [Listing("binance", f"S{n}USDT", f"S{n}USDT") for n in range(FRAME_SYMBOLS_MAX + 1)]
    frames = added(session, *many)
    assert [len(each["params"]) for each in frames] == [urls.FRAME_STREAMS_MAX, len(urls.STREAMS)]
    assert len({each["id"] for each in frames}) == 2


def test_without_a_socket_nothing_is_owed_and_the_next_address_says_it_all() -> None:
    assembler = BinanceAssembler([BTC])
    assembler.add(ETH, NOW_MS)
    assembler.remove("BTCUSDT", NOW_MS)
    assert assembler.frames_to_send() == []
    assert urls.symbols_in_address(assembler.stream_path()) == ["ETHUSDT"]
    assert said(assembler.connected(NOW_MS)) == [("ETHUSDT", "connected", "")]
    assert (assembler.frames_to_send(), assembler.subscribe_frames()) == ([], [])


def test_one_that_joins_while_the_first_socket_is_being_opened_is_asked_for_then() -> None:
    session = Session()
    session.assembler.stream_path()
    session.assembler.add(ETH, NOW_MS)
    assert said(session.connect()) == [("BTCUSDT", "connected", "")]
    assert session.assembler.subscribe_frames() == [], "it is owed to every socket anyway"
    (asked,) = owed(session)
    assert {name.split("@")[0] for name in asked["params"]} == {"ethusdt"}
    assert said(ack(session, asked["id"])) == [("ETHUSDT", "connected", "")]


def test_a_further_socket_is_caught_up_with_what_changed_while_it_was_opened() -> None:
    session = synced()
    session.assembler.stream_path()
    session.assembler.remove("BTCUSDT", NOW_MS)
    (_, joined) = added(session, SOL)
    ack(session, joined["id"])
    assert session.connect() == []
    left, caught = [json.loads(text) for text in session.assembler.subscribe_frames()]
    assert (left["method"], caught["method"]) == ("UNSUBSCRIBE", "SUBSCRIBE")
    assert {name.split("@")[0] for name in caught["params"]} == {"solusdt"}
    assert ack(session, caught["id"]) == []


def test_a_lost_socket_forgets_what_was_asked() -> None:
    session = synced()
    (asked,) = added(session, ETH)
    assert said(session.disconnect()) == [
        ("BTCUSDT", "disconnected", "closed"),
        ("ETHUSDT", "disconnected", "closed"),
    ]
    session.assembler.stream_path()
    assert {symbol for symbol, _, _ in said(session.connect())} == {"BTCUSDT", "ETHUSDT"}
    assert ack(session, asked["id"]) == []


def test_a_bulk_answer_says_nothing_of_one_that_has_not_begun() -> None:
    session = Session()
    session.connect()
    added(session, ETH)
    events = session.answer("instrument", info_body(info_entry(), info_entry("ETHUSDT")))
    assert [event.symbol for event in events] == ["BTCUSDT"]
    assert "instrument" not in session.purposes()


def test_more_than_a_connection_carries_is_refused() -> None:
    many = [Listing("binance", f"S{n}USDT", f"S{n}USDT") for n in range(SYMBOLS_MAX)]
    assembler = BinanceAssembler(many)
    with pytest.raises(ConfigError, match=f"at most {SYMBOLS_MAX}"):
        assembler.add(BTC, NOW_MS)
    assert len(assembler.symbols()) == SYMBOLS_MAX


def test_one_name_of_the_venue_s_is_followed_once() -> None:
    assembler = BinanceAssembler([BTC])
    with pytest.raises(ConfigError, match="BTCUSDT already"):
        assembler.add(Listing("binance", "btcusdt", "XBT"), NOW_MS)
    assert assembler.symbols() == ("BTCUSDT",)


class Carrier:
    """A venue of which each socket carries what it was told, and answers each frame."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sockets: list[set[str]] = []

    def tell(self, socket: set[str], text: str) -> None:
        told = json.loads(text)
        names = {name.split("@")[0].upper() for name in told["params"]}
        if told["method"] == "SUBSCRIBE":
            socket |= names
        else:
            socket -= names
        ack(self.session, told["id"])

    def settle(self) -> None:
        for text in self.session.assembler.frames_to_send():
            for socket in self.sockets:
                self.tell(socket, text)


NAMES = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
moves = st.lists(
    st.sampled_from([*NAMES, *(f"-{n}" for n in NAMES), "dial", "open", "close", "send"]),
    max_size=40,
)


@given(moves=moves)
def test_every_socket_carries_what_is_followed_whenever_symbols_join_and_leave(
    moves: list[str],
) -> None:
    session = Session(Listing("binance", NAMES[0], NAMES[0]))
    carrier = Carrier(session)
    assembler = session.assembler
    dialled: set[str] | None = None
    model = {NAMES[0]}
    for move in moves:
        if move == "dial":
            dialled = {*urls.symbols_in_address(assembler.stream_path())}
        elif move == "open" and dialled is not None:
            carrier.sockets.append(dialled)
            session.connect()
            for text in assembler.subscribe_frames():
                carrier.tell(dialled, text)
            dialled = None
        elif move == "close" and carrier.sockets:
            carrier.sockets.pop(0)
            if not carrier.sockets:
                session.disconnect()
        elif move == "send":
            carrier.settle()
        elif move[0] == "-":
            assembler.remove(move[1:], NOW_MS)
            model.discard(move[1:])
        elif move in NAMES:
            assembler.add(Listing("binance", move, move), NOW_MS)
            model.add(move)
    carrier.settle()
    assert {*assembler.symbols()} == model
    assert all(socket == model for socket in carrier.sockets)
    if carrier.sockets:
        asked = {r.venue_symbol for r in assembler.requests_to_send() if r.purpose == "snapshot"}
        assert asked <= model
        waiting = {r.venue_symbol for r in session.waiting if r.purpose == "snapshot"}
        assert model <= waiting | asked, "each has asked for its book"


def test_a_request_is_dropped_with_its_symbol() -> None:
    session = Session(BTC, ETH)
    session.assembler.connected(NOW_MS)
    session.assembler.remove("ETHUSDT", NOW_MS)
    left = session.assembler.requests_to_send()
    assert isinstance(left[0], HttpRequest)
    assert "ETHUSDT" not in {request.venue_symbol for request in left}


def test_frames_before_the_answer_are_the_symbol_s_all_the_same() -> None:
    session = synced()
    (asked,) = added(session, ETH)
    early = {"e": "trade", "E": NOW_MS, "s": "ETHUSDT", "t": 1, "p": "100.01000000"}
    early |= {"q": "0.50000000", "T": NOW_MS, "m": True, "M": True}
    (event,) = session.receive(frame("trade", early, "ETHUSDT"))
    assert (event.symbol, event.trade_id) == ("ETHUSDT", 1)
    ack(session, asked["id"])
    assert session.receive(frame("trade", early, "ETHUSDT")) == []
