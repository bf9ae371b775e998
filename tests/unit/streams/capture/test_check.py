"""The check's counts, on tapes with one fault each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams.capture.check import CheckResult, check
from tapeline.errors import ConfigError
from tests.support import kraken
from tests.support.binance import NOW_MS, depth, level, quote, snapshot_body, trade

BOOK = snapshot_body(9, [level(100, 5)], [level(101, 5)]).decode()


def tape(path: Path, *frames: str) -> Path:
    lines = [f"{(NOW_MS + n * 250) * 1_000_000} {line}" for n, line in enumerate(frames)]
    path.write_text("\n".join(lines))
    return path


def checked(tmp_path: Path, *frames: str) -> CheckResult:
    return check("binance", [tape(tmp_path / "tape", *frames)])


def test_a_tape_that_holds_together_is_ok(tmp_path: Path) -> None:
    frames = [depth(9, 9), BOOK, depth(10, 10), quote(10), trade(1), trade(2), depth(11, 11)]
    result = checked(tmp_path, *frames)
    assert result.ok
    assert result.as_json() == {
        "venue": "binance",
        "symbols": ["BTCUSDT"],
        "frames": 7,
        "wire": {"depth": 3, "trade": 2, "other": 1, "bookTicker": 1},
        "events": {
            "book_delta": 2,
            "book_snapshot": 1,
            "feed_status": 1,
            "instrument": 1,
            "ticker": 1,
            "trade": 2,
        },
        "gaps": 0,
        "sequence": {"first": None, "last": None, "gaps": 0},
        "checksums": {"ok": 0, "failed": 0},
        "resyncs": 0,
        "trades": {"applied": 2, "duplicates": 0, "missing": 0},
        "tops": {"compared": 1, "equal": 1},
        "crossed": 0,
        "errors": 0,
        "bridged": 1,
        "dropped_before_snapshot": 1,
        "ts_replaced": 0,
        "ignored": 0,
        "seconds": 1.5,
        "problems": [],
        "ok": True,
    }
    assert json.loads(json.dumps(result.as_json())) == result.as_json()


@pytest.mark.parametrize(
    ("fault", "member"),
    [
        (depth(13, 13), "gaps"),
        (depth(11, 11, [], [level(99, 1)]), "crossed"),
        (trade(3, p="-1.00000000"), "errors"),
    ],
)
def test_one_fault_is_counted_and_not_ok(tmp_path: Path, fault: str, member: str) -> None:
    result = checked(tmp_path, depth(9, 9), BOOK, depth(10, 10), fault)
    assert result.as_json()[member] == 1
    assert not result.ok


def test_a_top_that_is_not_the_quote_is_not_ok(tmp_path: Path) -> None:
    result = checked(tmp_path, depth(9, 9), BOOK, depth(10, 10), quote(10, (100, 6)))
    assert result.as_json()["tops"] == {"compared": 1, "equal": 0}
    assert not result.ok


def test_trades_twice_and_missing_are_counted_and_no_fault_of_the_book(tmp_path: Path) -> None:
    result = checked(tmp_path, trade(1), trade(1), trade(5))
    assert result.as_json()["trades"] == {"applied": 2, "duplicates": 1, "missing": 3}
    assert result.ok


def test_a_book_is_bridged_by_a_diff_that_continues_the_snapshot(tmp_path: Path) -> None:
    assert checked(tmp_path, depth(9, 9), BOOK).bridged == ()
    assert checked(tmp_path, depth(9, 9), BOOK, depth(11, 11)).bridged == ()
    assert checked(tmp_path, depth(9, 9), BOOK, depth(10, 10)).bridged == ("BTCUSDT",)


def test_symbols_given_are_the_only_ones(tmp_path: Path) -> None:
    path = tape(tmp_path / "tape", trade(1))
    result = check("binance", [path], symbols=["ETHUSDT"])
    assert result.symbols == ("ETHUSDT",)
    assert result.as_json()["ignored"] == 1


def test_a_tape_that_names_no_symbol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="symbols is not set"):
        check("binance", [tape(tmp_path / "tape", '{"result":null,"id":1}')])


def test_a_book_that_differs_from_the_venues_checksum_is_not_ok(tmp_path: Path) -> None:
    """Once wrong it is distrusted once, and what follows is dropped for want of a snapshot."""
    venue = kraken.Venue()
    frames = [venue.snapshot(), *(venue.change([("99.7", f"{n}.00000000")]) for n in (1, 2, 3, 4))]
    good = check("kraken", [tape(tmp_path / "good", *frames)])
    assert good.ok
    assert good.as_json()["checksums"] == {"ok": 5, "failed": 0}
    assert good.bridged == ("BTCUSD",)
    broken = frames[2].replace("2.00000000", "5.00000000")
    bad = check("kraken", [tape(tmp_path / "bad", *frames[:2], broken, *frames[3:])])
    assert not bad.ok
    result = bad.as_json()
    assert result["checksums"] == {"ok": 2, "failed": 1}
    assert (result["resyncs"], result["gaps"], result["errors"]) == (1, 0, 0)
    assert result["dropped_before_snapshot"] == 2


def test_progress_is_told_up_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.capture.check.PROGRESS_EVERY", 10)
    path = tape(tmp_path / "tape", *(trade(n) for n in range(25)))
    told: list[tuple[int, int]] = []
    check("binance", [path], progress=lambda done, total: told.append((done, total)))
    assert told == [(10, 25), (20, 25), (25, 25)]
