"""Golden frames and replies: what each becomes, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.events import Event, Feed, encode, stamp
from streams.venues.binance.assembler import BinanceAssembler
from tapeline.errors import FrameError
from tests.support.binance import BTC

GOLDEN = Path(__file__).parents[3] / "data" / "binance"
RECV_MS = 1_723_161_255_100
FRAMES = ("depth_update", "trade", "agg_trade", "book_ticker", "day_ticker", "kline")


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes().strip()


def synced() -> tuple[BinanceAssembler, list[Event]]:
    assembler = BinanceAssembler([BTC])
    events = assembler.connected(RECV_MS)
    for request in assembler.requests_to_send():
        name = {"instrument": "exchange_info", "snapshot": "depth_snapshot"}[request.purpose]
        events += assembler.http_response(request, 200, golden(name), RECV_MS)
    return assembler, events


def test_the_golden_frames_become_the_golden_records() -> None:
    assembler, events = synced()
    for name in FRAMES:
        events += assembler.receive(golden(name), RECV_MS)
    for seq, event in enumerate(events, 1):
        stamp(event, Feed(1, seq), 0)
    expected = (GOLDEN / "records.jsonl").read_bytes().splitlines()
    assert [encode(event) for event in events] == expected
    assert assembler.counts.tops_compared == assembler.counts.tops_equal == 1


def test_golden_frames_that_are_no_events() -> None:
    assembler, _ = synced()
    assert assembler.receive(golden("ack"), RECV_MS) == []
    assert assembler.receive(golden("server_shutdown"), RECV_MS) == []
    assert assembler.wants_new_socket()
    with pytest.raises(FrameError, match="request 2 refused: 2 Invalid request"):
        assembler.receive(golden("error"), RECV_MS)
