"""Dead letters as they are read, and what becomes of them when they are tried again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streams.dead_letters import Letter, Position, letters_topic
from streams.events import Feed, decode, encode
from streams.frame_letters import RAW_BYTES_MAX, letter_of
from streams.reentry import REENTERED, Decision, decide
from streams.sources import RefusedFrame
from streams.symbols import Listing
from tables.engine import Engine
from tapeline.errors import ConfigError, FrameError
from tests.support.bridge import NOW_MS, delta, snapshot, status, trade

TOPIC = "md.events.v1"
BTC = "BTCUSDT"

TRADE_FRAME = json.dumps(
    {
        "stream": "btcusdt@trade",
        "data": {
            "e": "trade", "E": NOW_MS, "s": BTC, "t": 77, "p": "60000.10", "q": "0.500",
            "T": NOW_MS - 3, "m": True,
        },
    },
    separators=(",", ":"),
)  # fmt: skip
DEPTH_FRAME = json.dumps(
    {
        "stream": "btcusdt@depth@100ms",
        "data": {
            "e": "depthUpdate", "E": NOW_MS, "s": BTC, "U": 1, "u": 2,
            "b": [["60000.10", "1.0"]], "a": [],
        },
    },
    separators=(",", ":"),
)  # fmt: skip


def stamped(event: Any, token: int = NOW_MS, seq: int = 812) -> bytes:
    event.v, event.feed, event.routing_version = 1, Feed(token, seq), 3
    return encode(event)


def of_worker(value: bytes | None, key: bytes | None = b"BTCUSDT", **headers: str) -> Letter:
    told = {"error": "malformed", "message": "?", "topic": TOPIC, "partition": "3", "offset": "9"}
    return Letter(f"{TOPIC}.dlq", Position(0, 17), NOW_MS, key, value, {**told, **headers})


def of_bridge(raw: str | bytes, venue: str = "binance", path: str = "") -> Letter:
    refused = RefusedFrame(raw, FrameError("no dialect"), NOW_MS, "c1", 5, path)
    written = letter_of(venue, TOPIC, refused)
    record = SimpleNamespace(
        offset=18, timestamp=NOW_MS, key=None, value=written.value, headers=written.headers
    )
    return Letter.of(f"{TOPIC}.dlq", 0, record)


# --- as they are read ----------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "position"), [("17", (0, 17)), ("3@17", (3, 17))])
def test_a_position_is_an_offset_with_or_without_its_partition(
    text: str, position: tuple[int, int]
) -> None:
    assert Position.parse(text) == position
    assert Position.parse(str(Position.parse(text))) == position


@pytest.mark.parametrize("text", ["", "@", "1@", "@1", "-1", "1:2", "a@1", "1@2@3", "1 ", "\u0663"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="POSITION"):
        Position.parse(text)


def test_a_topic_may_be_named_by_its_letters_or_by_itself() -> None:
    assert letters_topic(TOPIC) == letters_topic(f"{TOPIC}.dlq") == f"{TOPIC}.dlq"


def test_a_letter_says_where_it_came() -> None:
    assert of_worker(b"{").origin == f"{TOPIC} 3@9"
    assert of_bridge("{").origin == "binance c1 frame 5"
    assert of_bridge("{", path="/api/v3/depth").origin == "binance /api/v3/depth"
    assert of_bridge("x" * (RAW_BYTES_MAX + 1)).truncated == RAW_BYTES_MAX + 1


def test_a_letter_whole_has_text_where_it_is_text() -> None:
    body = of_worker(b'{"a":1}').as_json(whole=True)
    assert (body["key"], body["value"], body["bytes"]) == (BTC, '{"a":1}', 7)
    assert of_worker(b"\xff\x00").as_json(whole=True)["value_base64"] == "/wA="
    assert of_worker(None).as_json(whole=True)["value"] is None
    assert "value" not in of_worker(b"{").as_json()


def test_headers_of_strangers_are_no_obstacle() -> None:
    record = SimpleNamespace(
        offset=1, timestamp=0, key=b"\xff", value=None,
        headers=[("truncated", b"many"), ("error", None), ("x", b"\xff")],
    )  # fmt: skip
    letter = Letter.of("t.dlq", 0, record)
    assert (letter.truncated, letter.error, letter.is_frame) == (None, "", False)


# --- tried again ---------------------------------------------------------------------------------


def decided(letter: Letter) -> Decision:
    return decide(letter, TOPIC, [Listing("binance", BTC, BTC)])


def test_a_trade_re_enters_as_it_is_but_for_its_place_in_the_feed() -> None:
    original = stamped(trade(BTC, 7))
    made = decided(of_worker(original))
    assert (made.outcome, made.why) == ("reentered", "")
    (again,) = made.trades
    record = decode(encode(again))  # a record that readers take
    assert record.feed == REENTERED
    assert msgspec.structs.replace(record, feed=None, routing_version=None) == (
        msgspec.structs.replace(decode(original), feed=None, routing_version=None)
    )


@pytest.mark.parametrize("event", [delta(BTC), snapshot(BTC)])
def test_book_records_are_superseded_and_refused(event: Any) -> None:
    made = decided(of_worker(stamped(event)))
    assert (made.outcome, made.trades) == ("superseded", [])
    assert "book records are superseded" in made.why


def test_what_is_said_anew_anyway_is_refused() -> None:
    made = decided(of_worker(stamped(status(BTC, "gap"))))
    assert (made.outcome, made.trades) == ("superseded", [])
    assert "feed_status" in made.why


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"{", "malformed"),
        (b"\xff\x00", ""),
        (stamped(trade(BTC, 7)).replace(b'"v":1', b'"v":2'), "version 2"),
        (stamped(trade(BTC, 7)).replace(b'"trade"', b'"aura"'), "'aura'"),
        (None, "without its value"),
    ],
)
def test_what_today_can_not_read_either_says_why(value: bytes | None, why: str) -> None:
    made = decided(of_worker(value))
    assert made.outcome == "unreadable"
    assert made.why
    assert why in made.why or why == "malformed"


@pytest.mark.parametrize("key", [None, b"ETHUSDT", b"\xff"])
def test_a_trade_under_another_symbols_key_is_refused(key: bytes | None) -> None:
    assert decided(of_worker(stamped(trade(BTC, 7)), key)).outcome == "unreadable"


def test_other_topics_letters_never_enter_this_one() -> None:
    made = decided(of_worker(stamped(trade(BTC, 7)), topic="orders.requests.v1"))
    assert (made.outcome, made.trades) == ("superseded", [])


def test_a_frame_with_a_trade_re_enters() -> None:
    made = decided(of_bridge(TRADE_FRAME))
    assert made.outcome == "reentered"
    (again,) = made.trades
    assert (again.venue, again.symbol, again.side) == ("binance", BTC, "sell")
    assert (again.px * 10 ** (again.px_e + 2), again.ts_recv_ms) == (6_000_010, NOW_MS)
    assert decode(encode(again)).feed == REENTERED


def test_a_frame_keeps_the_canonical_name_that_is_followed() -> None:
    made = decide(of_bridge(TRADE_FRAME), TOPIC, [Listing("binance", BTC, "XBT")])
    assert [each.symbol for each in made.trades] == ["XBT"]
    made = decide(of_bridge(TRADE_FRAME), TOPIC, [])
    assert [each.symbol for each in made.trades] == [BTC]


def test_a_frame_of_a_book_is_superseded() -> None:
    made = decided(of_bridge(DEPTH_FRAME))
    assert (made.outcome, made.trades) == ("superseded", [])


@pytest.mark.parametrize(
    ("letter", "outcome", "why"),
    [
        (of_bridge("{rubbish"), "unreadable", ""),
        (of_bridge(b"\xff\xfe"), "unreadable", "utf-8"),
        (of_bridge(TRADE_FRAME, venue="nasdaq"), "unreadable", "nasdaq"),
        (of_bridge(TRADE_FRAME + " " * RAW_BYTES_MAX), "unreadable", "bytes were kept"),
        (of_bridge("{}", path="/api/v3/depth"), "superseded", "asked for anew"),
    ],
)
def test_frames_that_can_not_come_back_say_why(letter: Letter, outcome: str, why: str) -> None:
    made = decided(letter)
    assert (made.outcome, made.trades) == (outcome, [])
    assert why in made.why


def test_engines_pass_over_a_trade_that_has_re_entered() -> None:
    """No gap, no mute, nothing counted twice: the report is what it was but for what was skipped."""
    events = (snapshot(BTC), trade(BTC, 7), trade(BTC, 8))
    values = [stamped(event, seq=seq) for seq, event in enumerate(events, 1)]
    engine, other = Engine(BTC, "fake"), Engine(BTC, "fake")
    engine.apply([*enumerate(values)])
    before = engine.fast_report(NOW_MS)
    (again,) = decided(of_worker(stamped(trade(BTC, 3), seq=2))).trades
    outcome = engine.apply([(len(values), encode(again))])
    assert (outcome.applied, outcome.failures) == (0, [])
    assert outcome.counts == {"stale_feed": 1}
    assert engine.fast_report(NOW_MS) == before
    late = stamped(trade(BTC, 9), seq=4)
    other.apply([*enumerate([*values, late])])
    engine.apply([(len(values) + 1, late)])
    assert engine.fast_report(NOW_MS) == other.fast_report(NOW_MS)
    assert engine.book.state == other.book.state == "ok"
