"""``tapeline capture check``: what it prints and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.capture.cli import app
from tests.support import kraken
from tests.support.binance import NOW_MS, depth, level, snapshot_body, trade

BOOK = snapshot_body(9, [level(100, 5)], [level(101, 5)]).decode()
GOOD = (depth(9, 9), BOOK, depth(10, 10), trade(1))


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    path = tmp_path / "tape"
    path.write_text("\n".join(f"{NOW_MS * 1_000_000} {line}" for line in GOOD))
    return path


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["check", *map(str, args)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_a_good_tape_prints_its_table_and_exits_0(tape: Path) -> None:
    status, out, _ = run("--venue", "binance", tape)
    assert status == 0
    assert "binance: ok" in out
    assert "1 of 1" in out


def test_the_table_counts_checksums_where_a_venue_has_them(tape: Path) -> None:
    venue = kraken.Venue()
    frames = venue.snapshot(), venue.change([("99.7", "1.00000000")])
    tape.write_text("\n".join(f"{kraken.NOW_MS * 1_000_000} {line}" for line in frames))
    status, out, _ = run("--venue", "kraken", tape)
    assert status == 0
    assert "2 of 2" in out
    assert "checksums equal" in out


def test_json_is_one_object_on_the_last_line_of_stdout(tape: Path) -> None:
    status, out, _ = run("--venue", "binance", tape, "--json")
    assert status == 0
    assert len(out.splitlines()) == 1
    assert json.loads(out)["frames"] == 4


def test_a_fault_exits_1_and_names_the_line(tape: Path) -> None:
    with tape.open("a") as file:
        file.write(f"\n{NOW_MS * 1_000_000} {{}}")
    status, out, err = run("--venue", "binance", tape, "--json")
    assert status == 1
    assert json.loads(out)["errors"] == 1
    assert f"{tape}:5: neither a stream's frame" in err


def test_a_book_that_never_bridged_is_pointed_out(tape: Path) -> None:
    tape.write_text(f"{NOW_MS * 1_000_000} {trade(1)}")
    status, _, err = run("--venue", "binance", tape)
    assert status == 0
    assert "no book of BTCUSDT: no snapshot on the tape was continued by a diff" in err


def test_a_line_of_no_format_exits_1_and_is_named(tape: Path) -> None:
    tape.write_text("hello world\n")
    status, out, err = run("--venue", "binance", tape, "--json")
    assert (status, out) == (1, "")
    assert f"{tape}:1: expected '<receive time in ns> <frame>'" in err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--venue", "nasdaq", "TAPE"), "venue is 'nasdaq'; expected one of binance"),
        (("--venue", "binance", "TAPE.absent"), "does not exist"),
        (("--venue", "binance"), "Missing argument"),
        (("TAPE",), "Missing option '--venue'"),
    ],
)
def test_wrong_usage_exits_2_and_names_the_value(
    tape: Path, args: tuple[str, ...], named: str
) -> None:
    status, _, err = run(*(arg.replace("TAPE", str(tape)) for arg in args))
    assert status == 2
    assert named in err


def test_symbols_can_be_named(tape: Path) -> None:
    status, out, _ = run("--venue", "binance", tape, "--symbol", "ETHUSDT", "--json")
    assert (status, json.loads(out)["symbols"]) == (0, ["ETHUSDT"])
