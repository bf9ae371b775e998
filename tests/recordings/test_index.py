"""Every recording there is, with the figures that were measured of it when it was taken in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.capture.cli import app
from tests.support.data import recording

CLEAN: dict[str, Any] = {"crossed": 0, "errors": 0, "resyncs": 0, "ok": True}

TAPES: dict[tuple[str, ...], tuple[str, tuple[str, ...], dict[str, Any]]] = {
    ("binance/hftbacktest/btcusdt_20240808.gz", "binance/hftbacktest/btcusdt_20240809.gz"): (
        "binance",
        (),
        {
            **CLEAN,
            "frames": 99_574,
            "wire": {"depth": 6_495, "bookTicker": 73_174, "trade": 19_904},
            "events": {"book_snapshot": 1, "book_delta": 6_493},
            "gaps": 0,
            "trades": {"applied": 19_904, "duplicates": 0, "missing": 0},
            "tops": {"compared": 1_072, "equal": 1_072},
        },
    ),
    ("binance/cryptofeed/BINANCE.jsonl.gz",): (
        "binance",
        (),
        {**CLEAN, "frames": 265, "gaps": 0, "bridged": 4},
    ),
    ("binance/cryptofeed/BINANCE_US.jsonl.gz",): (
        "binance",
        (),
        {**CLEAN, "frames": 480, "gaps": 0, "bridged": 4},
    ),
    ("coinbase/cryptofeed/COINBASE_advanced_part1.jsonl.gz",): (
        "coinbase",
        (),
        {
            **CLEAN,
            "frames": 600,
            "wire": {
                "l2_data": 438,
                "ticker": 97,
                "market_trades": 42,
                "heartbeats": 14,
                "subscriptions": 5,
                "candles": 4,
            },
            "sequence": {"first": 0, "last": 599, "gaps": 0},
        },
    ),
    ("coinbase/cryptofeed_legacy/COINBASE_exchange_2021_dev.jsonl.gz",): (
        "coinbase",
        (),
        {
            **CLEAN,
            "frames": 5_997,
            "wire": {
                "l2update": 5_830,
                "snapshot": 6,
                "ticker": 79,
                "match": 73,
                "last_match": 6,
                "subscriptions": 3,
            },
            "bridged": 6,
            "events": {"book_snapshot": 6, "book_delta": 5_830, "trade": 79},
        },
    ),
    ("coinbase/alphapulse/matches_20250822.json.gz",): (
        "coinbase",
        (),
        {
            **CLEAN,
            "frames": 447,
            "symbols": ["BTCUSD", "ETHUSD", "LTCUSD"],
            "trades": {"applied": 447, "duplicates": 0, "missing": 0},
        },
    ),
    ("kraken/trading-system/kraken_v2_btcusd_d10_20260719T1754.jsonl.gz",): (
        "kraken",
        (),
        {
            **CLEAN,
            "frames": 1_376,
            "wire": {"book": 1_254, "heartbeat": 120},
            "checksums": {"ok": 1_254, "failed": 0},
        },
    ),
    ("kraken/trading-system/checksum_ladders_150.json.gz",): (
        "kraken",
        ("--decimals", "1/8"),
        {**CLEAN, "frames": 150, "checksums": {"ok": 150, "failed": 0}},
    ),
    ("kraken/python-kraken-sdk/orderbook-v2.json.gz",): (
        "kraken",
        ("--decimals", "1/8"),
        {**CLEAN, "frames": 510, "checksums": {"ok": 510, "failed": 0}},
    ),
    ("kraken/python-kraken-sdk/orderbook-v1.json.gz",): (
        "kraken",
        (),
        {**CLEAN, "wire": {"book": 980}, "checksums": {"ok": 979, "failed": 0}},
    ),
    ("kraken/cryptofeed/KRAKEN_v1_dev.jsonl.gz",): (
        "kraken",
        (),
        {
            **CLEAN,
            "frames": 3_190,
            "wire": {"book": 3_051, "trade": 8, "ticker": 15, "heartbeat": 92},
            "checksums": {"ok": 3_044, "failed": 0},
        },
    ),
    ("kraken/kraken-data-recorder/instrument_snapshot.json.gz",): (
        "kraken",
        ("--symbol", "BTC/USD", "--symbol", "ETH/USD"),
        {**CLEAN, "frames": 1, "wire": {"instrument": 1}, "events": {"instrument": 2}},
    ),
}


def checked(paths: tuple[str, ...], venue: str, options: tuple[str, ...]) -> tuple[int, Any]:
    files = [str(recording(path)) for path in paths]
    result = CliRunner().invoke(app, ["check", "--venue", venue, *options, "--json", *files])
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("paths", TAPES, ids=lambda paths: paths[0].partition(".")[0])
def test_a_recording_is_what_it_was_measured_to_be(paths: tuple[str, ...]) -> None:
    venue, options, figures = TAPES[paths]
    status, found = checked(paths, venue, options)
    assert status == 0
    for name, figure in figures.items():
        if isinstance(figure, dict) and name in {"wire", "events"}:
            assert {kind: found[name][kind] for kind in figure} == figure, name
        else:
            assert found[name] == figure, name


def test_no_recording_is_left_out() -> None:
    """The index names a file in the first column of its first table."""
    text = recording("INDEX.md").read_text(encoding="utf-8")
    table = text.partition("## Recordings")[2].partition("\n## ")[0]
    named = re.findall(r"^\| ([\w./-]+\.gz) \|", table, re.MULTILINE)
    assert len(named) > 10
    assert sorted(named) == sorted(path for paths in TAPES for path in paths)


@pytest.mark.parametrize(
    "path",
    [
        "kraken/trading-system/checksum_ladders_150.json.gz",
        "kraken/python-kraken-sdk/orderbook-v2.json.gz",
    ],
)
def test_numbers_printed_anew_are_not_the_venue_s(path: str) -> None:
    """Without the decimals no checksum is right, and the check says so."""
    status, found = checked((path,), "kraken", ())
    assert status == 1
    assert found["checksums"]["ok"] == 0
    assert not found["ok"]
