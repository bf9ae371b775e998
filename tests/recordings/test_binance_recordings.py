"""Real recordings of Binance: each gives the figures that were measured on it by other means."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.bridge import Tape, tape_of
from streams.capture.check import check
from streams.capture.dialects import dialect_of
from streams.capture.player import listings_of
from streams.events import Event
from streams.venues.base import AssemblerCounts
from streams.venues.binance import wire
from streams.venues.binance.assembler import BinanceAssembler
from tests.support.data import recording

pytestmark = pytest.mark.recordings

HFTBACKTEST = (
    "binance/hftbacktest/btcusdt_20240808.gz",
    "binance/hftbacktest/btcusdt_20240809.gz",
)


def events_of(tape: Tape) -> tuple[list[Event], AssemblerCounts]:
    """All that an assembler makes of a recording, and what it has counted."""
    (listing,) = listings_of(dialect_of("binance"), [tape.symbol])
    assembler = BinanceAssembler([listing], infer_instruments=True)
    made = assembler.connected(tape.frames[0][0])
    for ts_ms, frame in tape.frames:
        made += assembler.receive(frame, ts_ms)
        for request in assembler.requests_to_send():
            made += assembler.http_response(request, 200, tape.book.encode(), ts_ms)
    return made, assembler.counts


def figures(*paths: str) -> dict[str, Any]:
    return check("binance", [recording(path) for path in paths]).as_json()


@pytest.mark.slow
def test_ten_minutes_of_btcusdt_over_two_files() -> None:
    """0 gaps, also across the file border; every comparable top equals the venue's quote."""
    result = figures(*HFTBACKTEST)
    assert result["frames"] == 99_574
    assert result["wire"] == {"bookTicker": 73_174, "trade": 19_904, "depth": 6_495, "other": 1}
    assert result["events"] == {
        "book_delta": 6_493,
        "book_snapshot": 1,
        "feed_status": 1,
        "instrument": 1,
        "ticker": 73_174,
        "trade": 19_904,
    }
    assert result["dropped_before_snapshot"] == 2
    assert result["trades"] == {"applied": 19_904, "duplicates": 0, "missing": 0}
    assert result["tops"] == {"compared": 1_072, "equal": 1_072}
    assert result["seconds"] == pytest.approx(650.6, abs=0.05)
    assert (result["symbols"], result["bridged"]) == (["BTCUSDT"], 1)
    assert result["gaps"] == result["crossed"] == result["errors"] == 0
    assert result["ok"]


@pytest.mark.slow
def test_the_fast_lane_gives_the_same_events_of_every_frame() -> None:
    if wire.take is None:
        pytest.skip("no fast lane: it takes a C compiler and Python's headers")
    tape = tape_of([recording(path) for path in HFTBACKTEST])
    lane, lane_counts = events_of(tape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "take", None)
        events, counts = events_of(tape)
    assert len(lane) == len(events)
    assert lane == events
    assert lane_counts == counts


@pytest.mark.slow
def test_the_second_file_alone_has_no_snapshot_and_so_no_book() -> None:
    result = figures(HFTBACKTEST[1])
    assert result["frames"] == 58_325
    assert result["bridged"] == 0
    assert result["trades"]["applied"] == 10_147
    assert "book_delta" not in result["events"]


@pytest.mark.parametrize(
    ("path", "frames", "wire", "seconds"),
    [
        (
            "binance/cryptofeed/BINANCE.jsonl.gz",
            265,
            {"depth": 177, "bookTicker": 84, "aggTrade": 2, "kline": 2},
            30.0,
        ),
        (
            "binance/cryptofeed/BINANCE_US.jsonl.gz",
            480,
            {"depth": 336, "bookTicker": 128, "aggTrade": 11, "kline": 5},
            30.8,
        ),
    ],
)
def test_four_symbols_with_their_exchange_info(
    path: str, frames: int, wire: dict[str, int], seconds: float
) -> None:
    """REST replies come first in the file, and all four books bridge."""
    result = figures(path)
    assert (result["frames"], result["wire"]) == (frames, wire)
    assert result["seconds"] == pytest.approx(seconds, abs=0.05)
    assert (len(result["symbols"]), result["bridged"]) == (4, 4)
    assert result["events"]["book_delta"] + result["dropped_before_snapshot"] == wire["depth"]
    assert result["events"]["trade"] == wire["aggTrade"]
    assert result["events"]["kline"] == wire["kline"]
    assert result["tops"]["compared"] == result["tops"]["equal"] > 0
    assert result["gaps"] == result["crossed"] == result["errors"] == 0
