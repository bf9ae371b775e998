"""Real recordings of Kraken: each gives the figures that were measured on it by other means."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streams.capture.check import check
from streams.capture.formats import CaptureWriter
from streams.events import Instrument
from streams.symbols import Listing
from streams.venues.kraken.assembler import KrakenAssembler
from tapeline.errors import FrameError
from tests.support.data import recording
from tests.support.kraken import NOW_MS, book

pytestmark = pytest.mark.recordings

RAW_BOOK = "kraken/trading-system/kraken_v2_btcusd_d10_20260719T1754.jsonl.gz"
LADDERS = "kraken/trading-system/checksum_ladders_150.json.gz"
REPRINTED = "kraken/python-kraken-sdk/orderbook-v2.json.gz"
V1_DOCUMENT = "kraken/python-kraken-sdk/orderbook-v1.json.gz"
V1_CAPTURE = "kraken/cryptofeed/KRAKEN_v1_dev.jsonl.gz"
INSTRUMENTS = "kraken/kraken-data-recorder/instrument_snapshot.json.gz"


def document(path: str) -> Any:
    """A whole JSON file, numbers as exact decimals."""
    with gzip.open(recording(path), "rt") as file:
        return json.load(file, parse_float=Decimal)


def figures(folder: Path, *frames: str) -> dict[str, Any]:
    """These frames as a capture, checked."""
    path = folder / "tape.jsonl.gz"
    with CaptureWriter(path, venue="kraken") as tape:
        tape.connect("k", "wss://kraken.example/v2", NOW_MS)
        for frame in frames:
            tape.recv("k", frame, NOW_MS)
    return check("kraken", [path]).as_json()


def test_two_minutes_of_btcusd_as_they_came() -> None:
    """Each of 1,254 checksums of the venue is the rebuilt book's."""
    result = check("kraken", [recording(RAW_BOOK)]).as_json()
    assert result["frames"] == 1_376
    assert result["wire"] == {"book": 1_254, "heartbeat": 120, "status": 1, "subscribe": 1}
    assert result["events"] == {
        "book_delta": 1_253,
        "book_snapshot": 1,
        "feed_status": 1,
        "instrument": 1,
    }
    assert result["checksums"] == {"ok": 1_254, "failed": 0}
    assert (result["symbols"], result["bridged"]) == (["BTCUSD"], 1)
    assert result["sequence"] == {"first": None, "last": None, "gaps": 0}
    assert result["resyncs"] == result["crossed"] == result["errors"] == 0
    assert result["trades"] == {"applied": 0, "duplicates": 0, "missing": 0}
    assert result["tops"] == {"compared": 0, "equal": 0}
    assert result["ok"]


@pytest.mark.parametrize(
    ("printed", "ok"), [(lambda size: f"{Decimal(size):.8f}", 150), (str, 0)], ids=["wire", "naive"]
)
def test_ladders_with_tiny_sizes(printed: Callable[[str], str], ok: int) -> None:
    """Each holds a size that a decimal number prints as 1.0E-7."""
    right = 0
    for n, ladder in enumerate(document(LADDERS)["captures"]):
        bids, asks = (
            [(str(price), printed(str(size))) for price, size in ladder[f"local_book_{side}"]]
            for side in ("bids", "asks")
        )
        assembler = KrakenAssembler([Listing("kraken", "BTC/USD", "BTCUSD")], depth=10)
        assembler.connected(NOW_MS)
        frame = book("snapshot", bids, asks, ladder["expected_checksum"], n)
        with contextlib.suppress(FrameError):  # 1.0E-7 is refused as no plain number
            assembler.receive(frame, NOW_MS)
        right += assembler.counts.checksums_ok
    assert right == ok


@pytest.mark.parametrize(("exact", "ok"), [(True, 510), (False, 0)], ids=["zeros", "no-zeros"])
def test_a_recording_that_lost_its_zeros_has_them_put_back(
    exact: bool, ok: int, tmp_path: Path
) -> None:
    """BTC/USD has one and eight decimals; without the zeros no checksum can be right."""
    tape = document(REPRINTED)
    frames = []
    for message in (tape["init"], *tape["updates"]):
        (entry,) = message["data"]
        bids, asks = (
            [
                (f"{level['price']:.1f}", f"{level['qty']:.8f}" if exact else f"{level['qty']:f}")
                for level in entry[side]
            ]
            for side in ("bids", "asks")
        )
        frame = book(message["type"], bids, asks, entry["checksum"], None)
        time = entry.get("timestamp")
        frames.append(frame if time is None else f'{frame[:-3]},"timestamp":"{time}"}}]}}')
    result = figures(tmp_path, *frames)
    assert result["frames"] == 510
    assert result["checksums"]["ok"] == ok
    assert result["ok"] is exact
    if exact:
        assert result["events"]["book_delta"] == 509
        assert result["checksums"]["failed"] == result["errors"] == 0


def test_the_instruments_of_all_pairs() -> None:
    with gzip.open(recording(INSTRUMENTS), "rt") as file:
        frame = file.read()
    pairs = {entry["symbol"]: entry for entry in document(INSTRUMENTS)["data"]["pairs"]}
    assert len(pairs) == 683
    listings = [Listing("kraken", name, name.replace("/", "")) for name in pairs]
    assembler = KrakenAssembler(listings)
    assembler.connected(NOW_MS)
    told = {e.symbol: e for e in assembler.receive(frame, NOW_MS) if isinstance(e, Instrument)}
    assert len(told) == 683
    for name, entry in pairs.items():
        rules = told[name.replace("/", "")]
        assert Decimal(rules.tick_size).scaleb(rules.px_e) == entry["price_increment"]
        assert Decimal(rules.lot_size).scaleb(rules.sz_e) == entry["qty_increment"]
        assert (rules.base, rules.quote) == (entry["base"], entry["quote"])
    btc, eth = told["BTCUSD"], told["ETHUSD"]
    assert (btc.px_e, btc.sz_e, eth.px_e, eth.sz_e) == (-1, -8, -2, -8)
    assert min(rules.px_e for rules in told.values()) == -10
    assert {rules.status for rules in told.values()} == {"online", "reduce_only", "cancel_only"}
    assert assembler.counts.errors == 0


def test_instruments_on_a_tape_are_not_inferred(tmp_path: Path) -> None:
    with gzip.open(recording(INSTRUMENTS), "rt") as file:
        frame = file.read()
    told = book("snapshot", [("100.0", "1.00000000")], [("101.0", "1.00000000")], 0, 0)
    result = figures(tmp_path, frame, told)
    assert result["wire"] == {"instrument": 1, "book": 1}
    assert result["events"]["instrument"] == 1
    assert result["checksums"] == {"ok": 0, "failed": 1}
    assert not result["ok"]


def test_three_sockets_of_the_older_dialect() -> None:
    """Seven books a thousand deep; one message has its asks and bids in two maps."""
    result = check("kraken", [recording(V1_CAPTURE)]).as_json()
    assert result["frames"] == 3_190
    assert {k: result["wire"][k] for k in ("book", "trade", "ticker", "heartbeat")} == {
        "book": 3_051,
        "trade": 8,
        "ticker": 15,
        "heartbeat": 92,
    }
    assert result["checksums"] == {"ok": 3_044, "failed": 0}
    assert result["events"]["book_snapshot"] == len(result["symbols"]) == result["bridged"] == 7
    assert result["seconds"] == pytest.approx(30.5, abs=0.1)
    assert result["resyncs"] == result["crossed"] == result["errors"] == 0
    assert result["ok"]


def test_a_single_book_of_the_older_dialect(tmp_path: Path) -> None:
    tape = document(V1_DOCUMENT)
    frames = [json.dumps(message) for message in (*tape["init"], *tape["updates"])]
    result = figures(tmp_path, *frames)
    assert result["wire"]["book"] == 980
    assert result["checksums"] == {"ok": 979, "failed": 0}
    assert (result["bridged"], result["resyncs"], result["errors"]) == (1, 0, 0)
