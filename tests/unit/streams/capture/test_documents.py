"""Recordings that are one JSON document."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from streams.capture import formats
from streams.capture.check import check
from streams.capture.cli import decimals_of
from streams.capture.documents import Decimals, frames_of, reprinted
from streams.capture.formats import CaptureError, read_entries
from tapeline.errors import ConfigError


@pytest.mark.parametrize(
    ("document", "frames"),
    [
        ('[\n {"a": 1.10},\n [2, {"b": "x y"}]\n]', ['{"a":1.10}', '[2,{"b":"x y"}]']),
        ('{"init": {"a": 1}, "updates": [{"a": 2.0}, {}]}', ['{"a":1}', '{"a":2.0}', "{}"]),
        ('{"init": [{"a": 1}, [2]], "updates": []}', ['{"a":1}', "[2]"]),
        ('{"channel": "instrument",\n "data": {}}', ['{"channel":"instrument","data":{}}']),
    ],
)
def test_each_frame_is_on_a_line_with_its_numbers_as_they_are(
    document: str, frames: list[str]
) -> None:
    assert [*frames_of(document.encode())] == frames


def test_ladders_are_snapshots_that_have_nothing_to_do_with_each_other() -> None:
    ladder = {
        "symbol": "BTC/USD",
        "local_book_bids": [["66452.7", "1.0E-7"]],
        "local_book_asks": [["66452.8", "1.5"]],
        "expected_checksum": 7,
    }
    apart, frame, *rest = frames_of(json.dumps({"_meta": {}, "captures": [ladder] * 2}).encode())
    assert (apart, rest) == (None, [None, frame])
    assert frame == (
        '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD",'
        '"bids":[{"price":66452.7,"qty":1.0E-7}],"asks":[{"price":66452.8,"qty":1.5}],'
        '"checksum":7}]}'
    )
    assert json.loads(reprinted(frame, Decimals(1, 8)))
    assert '"qty":0.00000010}' in reprinted(frame, Decimals(1, 8))
    assert '"qty":1.50000000}' in reprinted(frame, Decimals(1, 8))


@pytest.mark.parametrize("name", ["tape.json", "tape.json.gz"])
def test_entries_of_a_document_have_no_times_and_are_numbered(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    raw = b'[{"qty": 1.5},\n{"qty": 2}]\n'
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    found = [(e.kind, e.ts_ms, e.data, e.line) for e in read_entries(path)]
    assert found == [("recv", None, '{"qty":1.5}', 1), ("recv", None, '{"qty":2}', 2)]
    assert [e.data for e in read_entries(path, Decimals(1, 2))] == ['{"qty":1.50}', '{"qty":2.00}']


@pytest.mark.parametrize("raw", [b"", b"{", b'{"init": 1, "updates": 2}', b"[1,", b"\xff"])
def test_what_is_no_document_is_refused_with_its_name(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(raw)
    with pytest.raises(CaptureError, match=r"bad\.json:1: not a JSON document of frames"):
        list(read_entries(path))


def test_a_document_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "DOCUMENT_BYTES_MAX", 10)
    path = tmp_path / "large.json"
    path.write_bytes(b"[\n1,\n2,\n3,\n4,\n5\n]")
    with pytest.raises(CaptureError, match="a document of more than 10 bytes"):
        list(read_entries(path))


@pytest.mark.parametrize("text", ["8", "1/", "/8", "a/8", "1/-8", "1/19", "1/8/2", "²/8"])
def test_decimals_that_can_not_be_right(text: str) -> None:
    with pytest.raises(ConfigError, match="PX/SZ, two numbers from 0 to 18"):
        decimals_of(text)
    assert decimals_of("1/8") == Decimals(1, 8)
    assert decimals_of(None) is None


def test_the_older_feed_of_coinbase_in_a_list(tmp_path: Path) -> None:
    """Books and trades; a side that is none, and an update before any snapshot."""
    frames = [
        {"type": "subscriptions", "channels": []},
        {
            "type": "snapshot",
            "product_id": "BTC-USD",
            "bids": [["9.5", "1"]],
            "asks": [["10.5", "2"]],
        },
        update("buy", "9.75", "0.5"),
        update("sell", "10.5", "0"),
        match(7, "buy"),
        match(7, "buy"),
        match(9, "sell"),
        {"type": "ticker", "product_id": "BTC-USD"},
        update("hold", "9", "1"),
        update("buy", "9.8", "1"),
    ]
    path = tmp_path / "tape.json"
    path.write_text(json.dumps(frames))
    found = check("coinbase", [path]).as_json()
    assert found["frames"] == 10
    assert (found["events"]["book_snapshot"], found["events"]["book_delta"]) == (1, 2)
    assert found["trades"] == {"applied": 2, "duplicates": 1, "missing": 1}
    assert (found["errors"], found["resyncs"]) == (1, 1)
    assert "side 'hold': expected buy or sell" in found["problems"][0]
    assert not found["ok"]


def update(side: str, price: str, size: str) -> dict[str, object]:
    return {
        "type": "l2update",
        "product_id": "BTC-USD",
        "changes": [[side, price, size]],
        "time": "2021-04-17T16:43:37.075687Z",
    }


def match(trade_id: int, side: str) -> dict[str, object]:
    return {
        "type": "match",
        "trade_id": trade_id,
        "side": side,
        "size": "1",
        "price": "10",
        "product_id": "BTC-USD",
        "time": "2021-04-17T16:43:37.089723Z",
    }
