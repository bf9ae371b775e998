"""`tapeline compare` of two replays' files, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agents.timeline import Plan, Timeline
from tables.parameters import Parameters
from tables.report import encode_report
from tapeline import replay_parquet
from tapeline.compare import cli
from tapeline.compare.cli import app
from tapeline.errors import ConfigError
from tests.support.tape import SYMBOL, VENUE, random_tape


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """What a replay of one tape writes with these thresholds."""
    folder = tmp_path_factory.mktemp("replays")
    records = random_tape(81, 1500, step_ms=25).records

    def run(name: str, **thresholds: Any) -> Path:
        out = folder / name
        timeline = Timeline(SYMBOL, VENUE, Plan(parameters=Parameters(**thresholds)))
        made = [*timeline.feed(records), *timeline.finish()]
        out.write_bytes(b"".join(encode_report(report, 1 << 30)[0] + b"\n" for report in made))
        return out

    return run


def compare(*arguments: object, status: int) -> tuple[dict[str, Any], str]:
    """The command's object, and all it said."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if isinstance(done.exception, ConfigError):
        raise done.exception
    assert done.exit_code == status, (done.output, done.exception)
    return json.loads(done.stdout.splitlines()[-1]), done.output


def changed(source: Path, name: str, change: Callable[[int, dict[str, Any]], Any]) -> Path:
    """The reports of a file, each changed, or left out where ``change`` answers False."""
    out = source.with_name(name)
    kept = []
    for at, line in enumerate(source.read_bytes().splitlines()):
        body = json.loads(line)
        if change(at, body) is not False:
            kept.append(json.dumps(body))
    out.write_text("".join(f"{line}\n" for line in kept))
    return out


def test_two_replays_of_one_tape_are_equal_and_of_other_settings_are_not(
    replayed: Callable[..., Path],
) -> None:
    """The field is named, with both values; whoever expects it says so."""
    one, same = replayed("one.ndjson"), replayed("same.ndjson")
    body, _ = compare(one, same, status=0)
    reports = len(one.read_bytes().splitlines())
    assert reports > 50
    assert (body["verdict"], body["mode"], body["fields"]) == ("equal", "files", [])
    assert body["pairs"] == body["same_moment_pairs"] == reports
    assert body["symbols"]["BTCUSDT"]["reports"] == {"a": reports, "b": reports}
    other = replayed("other.ndjson", profile_bin_ticks=7)
    body, _ = compare(one, other, status=1)
    names = [one["field"] for one in body["fields"]]
    assert names
    assert all(name.startswith("liquidity.") for name in names)
    assert body["fields"][0]["example"]["a"] != body["fields"][0]["example"]["b"]
    body, _ = compare(one, other, "--ignore", "liquidity", status=0)
    assert body["different"] == 0
    compare(one, other, "--fail-on", len(names) + 1, status=0)
    done = CliRunner().invoke(app, [str(one), str(other)])
    assert done.exit_code == 1
    assert f"different  {names[0]}: " in done.stdout
    assert "BTCUSDT offset " in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="no pyarrow")
def test_a_parquet_file_is_what_its_lines_are(replayed: Callable[..., Path]) -> None:
    one = replayed("one.ndjson")
    parquet = one.with_name("whole.parquet")
    replay_parquet.write_parquet([one], parquet)
    body, _ = compare(one, parquet, status=0)
    assert body["pairs"] == len(one.read_bytes().splitlines())
    bad = one.with_name("bad.parquet")
    bad.write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"FILE is .*bad\.parquet"):
        compare(one, bad, status=2)


def test_reports_are_paired_by_symbol_and_moment(replayed: Callable[..., Path]) -> None:
    """Whatever is missing on either side; a symbol of one side alone is too few pairs."""
    one = replayed("one.ndjson")
    reports = len(one.read_bytes().splitlines())
    fewer = changed(one, "fewer.ndjson", lambda at, _: at % 3 != 0)
    body, _ = compare(one, fewer, status=0)
    assert body["unpaired"] == {"a": -(-reports // 3), "b": 0}
    body, _ = compare(fewer, one, status=0)
    assert body["unpaired"] == {"a": 0, "b": -(-reports // 3)}
    body, _ = compare(one, fewer, "--min-pairs", reports, status=3)
    assert body["too_few_pairs"] == ["BTCUSDT"]
    renamed = changed(one, "renamed.ndjson", lambda _, body: body.update(symbol="ETHUSDT"))
    both = one.with_name("both.ndjson")
    both.write_bytes(one.read_bytes() + renamed.read_bytes())
    body, _ = compare(one, both, status=3)
    assert (body["verdict"], body["too_few_pairs"]) == ("too_few_pairs", ["ETHUSDT"])
    compare(one, both, "--symbols", "BTCUSDT", status=0)
    body, _ = compare(one, both, "--symbols", "BTCUSDT,SOLUSDT", status=3)
    assert body["too_few_pairs"] == ["SOLUSDT"]


def test_a_single_report_that_differs_is_found_and_where(replayed: Callable[..., Path]) -> None:
    """Also in what says of which records it is: another tape was read, then."""
    one = replayed("one.ndjson")

    def change(at: int, body: dict[str, Any]) -> None:
        if at == 30:
            body["last_price"] += 0.5
            body["source"]["fast"]["offset"] += 1

    body, _ = compare(one, changed(one, "off.ndjson", change), status=1)
    found = {each["field"]: each for each in body["fields"]}
    assert set(found) == {"last_price", "source.fast.offset"}
    assert found["last_price"]["differing"] == 1
    assert found["last_price"]["max_abs"] == 0.5
    line = json.loads(one.read_bytes().splitlines()[30])
    example = found["last_price"]["example"]
    assert (example["a"], example["b"]) == (line["last_price"], line["last_price"] + 0.5)
    assert example["now_ms"] == line["source"]["fast"]["now_ms"]
    tolerated = ("--tolerance", "last_price=1%", "--tolerance", "source.*=1")
    body, _ = compare(one, one.with_name("off.ndjson"), *tolerated, status=0)
    assert [each["verdict"] for each in body["fields"]] == ["tolerated"] * 2


@pytest.mark.parametrize("content", ["no json\n", "{}\n", "[]\n", '{"symbol":"X"}\n'])
def test_what_no_replay_has_written_is_refused(content: str, tmp_path: Path) -> None:
    bad, other = tmp_path / "bad.ndjson", tmp_path / "other.ndjson"
    bad.write_text(content)
    other.write_text("")
    with pytest.raises(ConfigError, match=r"FILE is .*bad\.ndjson.*report 1"):
        compare(bad, other, status=2)


def test_a_file_out_of_order_is_refused(tmp_path: Path) -> None:
    """It would be passed by in part, silently."""
    at = {"topic": "t", "partition": 0, "offset": 1}
    lines = [
        json.dumps({"symbol": "X", "source": {"fast": {**at, "now_ms": now_ms}, "slow": None}})
        for now_ms in (2, 1)
    ]
    bad, other = tmp_path / "bad.ndjson", tmp_path / "other.ndjson"
    bad.write_text("\n".join(lines))
    other.write_text(lines[0])
    with pytest.raises(ConfigError, match="report 2 is not behind the one before it"):
        compare(other, bad, status=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("live", "live"), "B is 'live'; expected another one than A"),
        (("live", "live:"), "expected another one than A"),
        (("live", "nt"), "B is 'nt'; expected live, live:SUFFIX, or a file NAME.ndjson"),
        (("live:NT", "live"), "A is 'live:NT'; expected live, live:SUFFIX"),
        (("live:heavy", "live"), "A is 'live:heavy'"),
        (("none.ndjson", "live"), "A is 'none.ndjson'; expected a file that there is"),
        (("live", "live:nt", "--for", "soon"), "--for is 'soon'; expected a time such as 60s"),
        (("live", "live:nt", "--for", "0s"), "--for is '0s'"),
        (("live", "live:nt", "--near", "1x"), "--near is '1x'"),
        (("live", "live:nt", "--symbols", "btc usdt"), "--symbols is 'btc usdt'"),
        (("live", "live:nt", "--tolerance", "x"), "--tolerance is 'x'"),
        (("live", "live:nt"), "REDIS_URL is not set"),
    ],
)
def test_what_can_t_be_compared_is_refused(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    done = CliRunner().invoke(app, list(arguments))
    assert isinstance(done.exception, ConfigError), done.output
    assert said in str(done.exception)


def test_a_live_system_is_not_compared_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text("")
    for pair in ((path, "live"), ("live:nt", path)):
        with pytest.raises(ConfigError, match="two live systems, or two files"):
            compare(*pair, status=2)
    other = tmp_path / "b.ndjson"
    other.write_text("")
    with pytest.raises(ConfigError, match="--near"):
        compare(path, other, "--near", "1s", status=2)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("5m", 300), ("250ms", 0.25), ("1.5", 1.5), ("2h", 7200)]
)
def test_a_time_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert cli._seconds("--for", text) == seconds
