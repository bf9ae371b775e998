"""What Kraken's captures are made of: frames of v2, and of the older v1."""

from __future__ import annotations

import json

import pytest

from streams.capture.dialects import dialect_of
from streams.venues.kraken.legacy import TapeAssembler
from tapeline.errors import FrameError
from tests.support.kraken import (
    ASKS,
    BIDS,
    BTC,
    HEARTBEAT,
    NOW_MS,
    STATUS,
    ack,
    best,
    checksum,
    instrument,
    levels_of,
    plain,
    snapshot,
    trade,
)

KRAKEN = dialect_of("kraken")


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        (snapshot(), ("book", "BTC/USD")),
        (trade(1, symbol="ETH/USD"), ("trade", "ETH/USD")),
        (ack(symbol="ETH/USD"), ("subscribe", "ETH/USD")),
        (json.dumps(json.loads(snapshot()), indent=2), ("book", "BTC/USD")),
        (instrument(), ("instrument", "")),
        (STATUS, ("status", "")),
        (HEARTBEAT, ("heartbeat", "")),
        ('{"method":"pong"}', ("pong", "")),
        ('[336,{"b":[],"c":"1"},"book-10","XBT/USD"]', ("book", "XBT/USD")),
        ('[993,[["354.1","0.8","1.5","s","l",""]],"trade","XMR/USD"]', ("trade", "XMR/USD")),
        ('{"channelID":1,"event":"subscriptionStatus","pair":"XBT/USD"}',
         ("subscriptionStatus", "XBT/USD")),
        ('{"event":"heartbeat"}', ("heartbeat", "")),
        ("[1,2]", ("", "")),
        ("rubbish", ("", "")),
        ("", ("", "")),
    ],
)  # fmt: skip
def test_a_frame_says_what_it_is_and_whose(frame: str, seen: tuple[str, str]) -> None:
    assert KRAKEN.look(frame) == seen


def test_nothing_of_a_capture_was_asked_for_by_http() -> None:
    assert KRAKEN.request_of("https://kraken.example/0/public/AssetPairs") is None
    assert KRAKEN.inline_reply(instrument()) is None
    assert KRAKEN.symbols_in_address("wss://kraken.example/v2") == []


def old_levels(levels: dict[str, str]) -> list[list[str]]:
    return [[price, size, "1693415327.935623"] for price, size in levels.items()]


def old(*maps: dict[str, object], pair: str = BTC.venue_symbol) -> str:
    return json.dumps([336, *maps, "book-10", pair])


def begun() -> TapeAssembler:
    assembler = TapeAssembler([BTC], infer_instruments=True, depth=None)
    assembler.connected(NOW_MS)
    assembler.receive(old({"as": old_levels(ASKS), "bs": old_levels(BIDS)}), NOW_MS)
    return assembler


def test_an_old_update_may_have_its_sides_in_two_maps() -> None:
    """Who reads only the first one drifts."""
    assembler = begun()
    bids, asks = BIDS | {"99.8": "1.00000000"}, ASKS | {"100.2": "2.00000000"}
    said = (
        {"a": [["100.2", "2.00000000", "1.5"]]},
        {
            "b": [["99.8", "1.00000000", "1.5", "r"]],
            "c": str(checksum(bids, asks)),
        },
    )
    (delta,) = assembler.receive(old(*said), NOW_MS)
    assert (len(delta.bids), len(delta.asks)) == (1, 1)  # type: ignore[union-attr]
    kept = assembler._feeds["BTCUSD"].book.book
    assert kept is not None
    assert levels_of(kept) == plain((bids, asks))
    assert assembler.counts.checksums_ok == 1  # an old snapshot has none
    assert best(bids, highest=True)[0][0] == "100.0"


def test_an_old_checksum_that_differs_is_found() -> None:
    assembler = begun()
    (gap,) = assembler.receive(old({"b": [["99.8", "1.00000000", "1.5"]], "c": "7"}), NOW_MS)
    assert gap.reason == "checksum"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "frame",
    [
        old({"b": [["99.8", "1.00000000", "1.5"]]}),
        old({"b": [["99.8"]], "c": "7"}),
        old({"b": [["-1.0", "1.00000000"]], "c": "7"}),
        old({"b": [[99.8, 1.5]], "c": "7"}),
        '[1,"x","book-10","BTC/USD"]',
        '[336,{"b":[["99.8","1.0000',
        '[336,{"b":[["99.8" "book-10","BTC/USD"]',
    ],
)
def test_an_old_frame_that_cannot_be_is_refused_and_its_book_distrusted(frame: str) -> None:
    assembler = begun()
    with pytest.raises(FrameError):
        assembler.receive(frame, NOW_MS)
    assert assembler.counts.errors == 1
    assert assembler.snapshot("BTCUSD", NOW_MS, "test") is None


def test_old_frames_of_no_book_change_nothing() -> None:
    assembler = begun()
    for frame in ('{"event":"heartbeat"}', '{"event":"systemStatus","status":"online"}'):
        assert assembler.receive(frame, NOW_MS) == []
    assert assembler.counts.ignored == 0
    for frame in ('[9,[["1.0","2.0"]],"trade","BTC/USD"]', old({"b": []}, pair="ETH/USD")):
        assert assembler.receive(frame, NOW_MS) == []
    assert assembler.counts.ignored == 2
