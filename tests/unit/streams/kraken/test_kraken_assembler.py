"""What is asked of Kraken, what it answers, and what becomes of symbols that join and leave."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from streams.symbols import Listing
from streams.venues.kraken import urls
from streams.venues.kraken.assembler import KrakenAssembler
from tapeline.errors import ConfigError, FrameError, UnknownSymbol
from tests.support.kraken import (
    BTC,
    ETH,
    HEARTBEAT,
    NOW_MS,
    STATUS,
    Session,
    Venue,
    ack,
    book,
    data_frame,
    instrument,
    pair,
    refusal,
    trade,
    trade_entry,
)

NOT_LISTED = "Currency pair not supported BTC/USD"
WRONG = [("99.7", "1.00000000")]


def fail_a_book(session: Session, venue: Venue) -> None:
    """A message whose checksum is wrong."""
    venue.change(WRONG)
    session.receive(book("update", WRONG, (), 1, venue.us))


# --- asking ---


def test_a_new_socket_is_asked_for_everything() -> None:
    frames = [json.loads(f) for f in KrakenAssembler([BTC, ETH]).subscribe_frames()]
    assert [frame["method"] for frame in frames] == ["subscribe"] * 5
    both = ["BTC/USD", "ETH/USD"]
    assert [frame["params"] for frame in frames] == [
        {"channel": "instrument", "snapshot": True},
        {"channel": "book", "symbol": both, "depth": 1000, "snapshot": True},
        {"channel": "trade", "symbol": both, "snapshot": True},
        {"channel": "ticker", "symbol": both, "event_trigger": "bbo", "snapshot": True},
        {"channel": "ohlc", "symbol": both, "interval": 1, "snapshot": True},
    ]
    assert len({frame["req_id"] for frame in frames}) == 5


def test_many_symbols_are_asked_for_in_several_frames() -> None:
    listings = [Listing("kraken", f"A{n}/USD", f"A{n}USD") for n in range(120)]
    frames = [json.loads(f)["params"] for f in KrakenAssembler(listings).subscribe_frames()]
    books = [p["symbol"] for p in frames if p["channel"] == "book"]
    assert [len(names) for names in books] == [50, 50, 20]
    assert [name for names in books for name in names] == [
        listing.venue_symbol for listing in listings
    ]


def test_nobody_followed_is_nobody_asked_for_but_the_instruments() -> None:
    frames = KrakenAssembler([]).subscribe_frames()
    assert [json.loads(f)["params"]["channel"] for f in frames] == ["instrument"]


def test_the_depth_is_one_the_venue_offers() -> None:
    (frame,) = urls.subscribe("book", ["BTC/USD"], 25)
    assert json.loads(frame)["params"]["depth"] == 25
    with pytest.raises(ConfigError, match="one of 10, 25, 100, 500, 1000"):
        KrakenAssembler([BTC], depth=20)


def test_an_unsubscription_names_what_was_subscribed() -> None:
    for channel, option in (("book", "depth"), ("ticker", "event_trigger"), ("ohlc", "interval")):
        (asked,), (ended,) = (
            urls.subscribe(channel, ["BTC/USD"]),
            urls.unsubscribe(channel, ["BTC/USD"]),
        )
        assert json.loads(asked)["params"][option] == json.loads(ended)["params"][option]


def test_connecting_owes_no_frames_and_no_requests() -> None:
    """The driver sends `subscribe_frames` on each new socket by itself."""
    session = Session(BTC, ETH)
    events = session.connect()
    assert [(e.symbol, e.status) for e in events] == [
        ("BTCUSD", "connected"),
        ("ETHUSD", "connected"),
    ]
    assert session.connect() == []
    assert session.sent == []
    assert session.assembler.requests_to_send() == []
    assert not session.assembler.wants_new_socket()
    assert session.assembler.stream_path() == "/v2"


def test_symbols_keep_the_venues_spelling() -> None:
    """Some have small letters."""
    listing = Listing("kraken", "AAPLx/USD", "AAPLXUSD")
    session, venue = Session(listing), Venue(symbol="AAPLx/USD")
    session.connect()
    session.receive(instrument(pair("AAPLx/USD")), venue.snapshot())
    assert session.assembler.snapshot("AAPLXUSD", NOW_MS, "test") is not None


# --- one book's trouble ---


def test_one_books_failure_touches_no_other() -> None:
    session = Session(BTC, ETH)
    btc, eth = Venue(), Venue(symbol="ETH/USD")
    session.connect()
    session.receive(instrument(pair(), pair("ETH/USD")), btc.snapshot(), eth.snapshot())
    fail_a_book(session, btc)
    assert [f["params"]["symbol"] for f in session.sent] == [["BTC/USD"], ["BTC/USD"]]
    assert [f["method"] for f in session.sent] == ["unsubscribe", "subscribe"]
    assert session.sent[0]["params"]["depth"] == session.sent[1]["params"]["depth"] == 10
    assert len(session.receive(eth.change(WRONG))) == 1
    assert session.assembler.snapshot("ETHUSD", NOW_MS, "test") is not None
    assert session.assembler.snapshot("BTCUSD", NOW_MS, "test") is None


def test_a_book_that_always_fails_is_asked_for_ever_more_seldom() -> None:
    """Three times at once, then after 0.5 s, 1 s, 2 s, ..."""
    session, venue = Session(), Venue()
    session.sync(venue.snapshot())
    asked_ms: list[int] = []
    for _ in range(600):
        if session.assembler.snapshot("BTCUSD", session.now_ms, "test") is not None:
            fail_a_book(session, venue)
        if session.sent:
            asked_ms.append(session.now_ms - NOW_MS)
            session.pop_sent()
            venue.us += 1
            session.receive(venue.snapshot())
        else:
            session.now_ms += 100
            session.receive(HEARTBEAT)
    waits = [after - before for before, after in pairwise(asked_ms)]
    assert waits[:6] == [0, 0, 500, 1_000, 2_000, 4_000]
    assert len(asked_ms) < 12


def test_a_snapshot_that_never_comes_is_asked_for_again() -> None:
    session = Session()
    session.connect()
    session.receive(instrument())
    session.now_ms += 9_999
    session.receive(HEARTBEAT)
    assert session.sent == []
    session.now_ms += 1
    session.receive(HEARTBEAT)
    assert session.pop_sent() == [("unsubscribe", "book"), ("subscribe", "book")]


def test_an_instrument_that_never_comes_is_asked_for_again() -> None:
    session, venue = Session(), Venue()
    session.connect()
    session.receive(venue.snapshot())
    session.now_ms += 10_000
    session.receive(HEARTBEAT)
    assert session.pop_sent() == [("subscribe", "instrument")]


def test_a_disconnect_ends_the_books_and_what_is_owed() -> None:
    session, venue = Session(), Venue()
    session.sync(venue.snapshot())
    fail_a_book(session, venue)
    (gone,) = session.disconnect()
    assert (gone.status, gone.reason) == ("disconnected", "closed")
    session.sent.clear()
    assert session.assembler.frames_to_send() == []
    session.connect()
    (record,) = session.receive(Venue().snapshot())
    assert record.reason == "resync"


def test_resync_from_outside_distrusts_one_book() -> None:
    session, venue = Session(), Venue()
    session.sync(venue.snapshot())
    (gap,) = session.took(session.assembler.resync("BTCUSD", NOW_MS, "stale"))
    assert (gap.status, gap.reason) == ("gap", "stale")
    assert session.pop_sent() == [("unsubscribe", "book"), ("subscribe", "book")]
    assert session.assembler.counts.resyncs == 1


# --- answers ---


@pytest.mark.parametrize(
    "answer",
    [
        '{"method":"pong","req_id":1,"time_in":"2024-05-20T11:08:49.272922Z"}',
        '{"method":"subscribe","success":true,"result":{"channel":"instrument","snapshot":true}}',
        ack("trade"),
        ack("book", "DOGE/USD"),
        ack().replace('"subscribe"', '"unsubscribe"'),
    ],
)
def test_answers_that_say_yes_change_nothing_else(answer: str) -> None:
    session = Session()
    session.sync()
    assert session.receive(answer) == []
    assert session.assembler.counts.errors == session.assembler.counts.ignored == 0
    assert session.sent == []


def test_a_symbol_the_venue_does_not_list_is_named_once() -> None:
    """Each channel refuses it; nothing more is asked for it, and the others go on."""
    session = Session(BTC, ETH)
    session.connect()
    with pytest.raises(UnknownSymbol, match="kraken does not list 'BTC/USD'"):
        session.receive(refusal(NOT_LISTED))
    assert session.receive(refusal(NOT_LISTED), refusal(NOT_LISTED)) == []
    session.now_ms += 60_000
    session.receive(HEARTBEAT)
    asked = [frame["params"].get("symbol") for frame in session.sent]
    assert ["ETH/USD"] in asked
    assert ["BTC/USD"] not in asked
    assert session.assembler.counts.errors == 0
    frames = "".join(session.assembler.subscribe_frames())
    assert "BTC/USD" not in frames
    session.disconnect()
    session.connect()
    assert "BTC/USD" in "".join(session.assembler.subscribe_frames())


@pytest.mark.parametrize("channel", ["book", "trade", "ticker", "ohlc"])
def test_a_refusal_for_another_reason_is_an_error_and_asked_again(channel: str) -> None:
    session = Session()
    session.connect()
    session.receive(instrument())
    (frame,) = urls.subscribe(channel, ["BTC/USD"])
    number = json.loads(frame)["req_id"]
    with pytest.raises(FrameError, match="subscribe of BTC/USD refused: Exceeded msg rate"):
        session.receive(refusal("Exceeded msg rate", req_id=number))
    assert session.assembler.counts.errors == 1
    session.receive(HEARTBEAT)
    assert session.sent == []
    session.now_ms += 500
    session.receive(HEARTBEAT)
    assert ("subscribe", channel) in session.pop_sent()
    assert session.receive(ack(channel)) == []


def test_what_is_subscribed_already_is_not_asked_for_again() -> None:
    session = Session()
    session.sync()
    with pytest.raises(FrameError, match="Already subscribed"):
        session.receive(refusal("Already subscribed", req_id=3))
    session.now_ms += 30_000
    session.receive(HEARTBEAT)
    assert session.sent == []


@pytest.mark.parametrize(
    "frame",
    [
        refusal("Subscription Not Found", method="unsubscribe"),
        '{"error":"Unsupported field","method":"ping","success":false}',
        '{"method":"subscribe","error":"Unsupported event","success":false,"req_id":0}',
    ],
)
def test_other_refusals_are_errors_with_the_venues_words(frame: str) -> None:
    session = Session()
    session.sync()
    with pytest.raises(FrameError, match=r"refused: (Subscription|Unsupported)"):
        session.receive(frame)


# --- frames of no use ---


@pytest.mark.parametrize(
    "frame",
    [
        data_frame("level3", "update", "{}"),
        Venue(symbol="DOGE/USD").snapshot(),
        Venue(symbol="DOGE/USD").change(WRONG),
        trade(1, symbol="DOGE/USD"),
        data_frame("trade", "snapshot", trade_entry(1, symbol="DOGE/USD")),
    ],
)
def test_what_nobody_asked_for_is_passed_over(frame: str) -> None:
    session = Session()
    session.sync()
    assert session.receive(frame) == []
    counts = session.assembler.counts
    assert (counts.ignored, counts.errors, counts.resyncs) == (1, 0, 0)


DAMAGED_BOOK = '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"pri'


@pytest.mark.parametrize(
    ("frame", "distrusted"),
    [
        (DAMAGED_BOOK, ["BTCUSD"]),
        (DAMAGED_BOOK.encode() + b"\xff", ["BTCUSD"]),
        ('{"chxnnel":"book","type":"update","data":[{"symbol":"BTC/USD"}]}', ["BTCUSD"]),
        ('{"channel":"book","type":"upd', ["BTCUSD", "ETHUSD"]),
        ('{"channel":"bo', ["BTCUSD", "ETHUSD"]),
        (DAMAGED_BOOK.replace("BTC/USD", "BXC/USD"), ["BTCUSD", "ETHUSD"]),
        ("rubbish", ["BTCUSD", "ETHUSD"]),
        ("[1,2]", ["BTCUSD", "ETHUSD"]),
        ('{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","pri', []),
        ('{"channel":"heartbeat"', []),
    ],
)
def test_a_frame_that_cannot_be_read_costs_the_books_it_may_have_been_about(
    frame: str | bytes, distrusted: list[str]
) -> None:
    session = Session(BTC, ETH)
    session.connect()
    session.receive(STATUS, instrument(pair(), pair("ETH/USD")))
    session.receive(Venue().snapshot(), Venue(symbol="ETH/USD").snapshot())
    with pytest.raises(FrameError):
        session.receive(frame)
    told = session.receive(HEARTBEAT)
    assert [(e.symbol, e.status, e.reason) for e in told] == [
        (symbol, "gap", "sequence") for symbol in distrusted
    ]
    assert session.assembler.counts.errors == 1


def test_bytes_are_read_as_text_is() -> None:
    session, venue = Session(), Venue()
    session.sync(venue.snapshot())
    assert len(session.receive(venue.change(WRONG).encode())) == 1


def test_keys_in_another_order_are_read_as_well() -> None:
    session, venue = Session(), Venue()
    session.sync(venue.snapshot())
    frame = venue.change(WRONG).replace('{"channel":"book",', "{")[:-1] + ',"channel":"book"}'
    assert len(session.receive(frame)) == 1


# --- symbols that join and leave ---


def test_a_symbol_that_joins_is_announced_when_the_venue_has_answered() -> None:
    session, venue = Session(), Venue(symbol="ETH/USD")
    session.connect()
    session.receive(instrument(pair(), pair("ETH/USD")))
    assert session.took(session.assembler.add(ETH, NOW_MS)) == []
    assert session.pop_sent() == [("subscribe", name) for name in urls.CHANNELS]
    events = session.receive(ack(symbol="ETH/USD"), venue.snapshot())
    assert [e.__struct_config__.tag for e in events] == [
        "feed_status",
        "instrument",
        "book_snapshot",
    ]
    assert events[0].status == "connected"
    assert session.assembler.symbols() == ("BTCUSD", "ETHUSD")
    assert session.took(session.assembler.add(ETH, NOW_MS)) == []
    assert session.sent == []


def test_a_symbol_that_joins_and_is_refused_is_let_go() -> None:
    session = Session()
    session.sync()
    session.took(session.assembler.add(ETH, NOW_MS))
    (gone,) = session.receive(refusal("Currency pair not supported ETH/USD", "ETH/USD"))
    assert (gone.symbol, gone.status, gone.reason) == ("ETHUSD", "disconnected", "refused")
    assert gone.detail == "Currency pair not supported ETH/USD"
    assert session.assembler.symbols() == ("BTCUSD",)
    with pytest.raises(FrameError):
        session.receive(refusal("Currency pair not supported ETH/USD", "ETH/USD"))


def test_a_symbol_that_joins_without_a_socket_is_asked_for_with_the_others() -> None:
    session = Session()
    assert session.assembler.add(ETH, NOW_MS) == []
    assert session.assembler.frames_to_send() == []
    assert "ETH/USD" in "".join(session.assembler.subscribe_frames())
    assert [e.symbol for e in session.connect()] == ["BTCUSD", "ETHUSD"]


def test_a_venue_symbol_is_followed_once() -> None:
    session = Session()
    with pytest.raises(ConfigError, match="BTC/USD once; it is BTCUSD already"):
        session.assembler.add(Listing("kraken", "BTC/USD", "XBTUSD"), NOW_MS)
    assert session.assembler.symbols() == ("BTCUSD",)


def test_a_symbol_that_leaves_is_unsubscribed_and_forgotten() -> None:
    session, venue = Session(BTC, ETH), Venue()
    session.connect()
    session.receive(instrument(), venue.snapshot())
    (gone,) = session.took(session.assembler.remove("BTCUSD", NOW_MS))
    assert (gone.status, gone.reason) == ("disconnected", "removed")
    assert session.pop_sent() == [("unsubscribe", name) for name in urls.CHANNELS]
    assert session.receive(venue.change(WRONG), trade(1)) == []
    assert session.assembler.counts.ignored == 2
    assert session.assembler.snapshot("BTCUSD", NOW_MS, "test") is None
    assert session.assembler.instrument("BTCUSD", NOW_MS) is None
    assert session.assembler.remove("BTCUSD", NOW_MS) == []
    session.now_ms += 20_000
    session.receive(HEARTBEAT)
    assert not any("BTC/USD" in frame["params"].get("symbol", ()) for frame in session.sent)


def test_frames_owed_are_returned_once() -> None:
    session = Session()
    session.sync()
    session.assembler.add(ETH, NOW_MS)
    assert len(session.assembler.frames_to_send()) == 4
    assert session.assembler.frames_to_send() == []
