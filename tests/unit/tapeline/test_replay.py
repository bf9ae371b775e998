"""Replays: ranges, prefixes, shares, files. What needs a topic is among the integration tests."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from agents.timeline import Plan, Timeline
from streams.symbols import Listing, parse_symbols
from tables.report import encode_report
from tapeline import replay_parquet
from tapeline.audit import WORST_FIRST, Audit, Verdict, worst
from tapeline.config import load_settings
from tapeline.errors import ConfigError, TapelineError
from tapeline.replay import Replay, Request, chosen, run_replay, split
from tapeline.replay_range import Edge, check_order, parse_edge, times_only
from tapeline.replay_redis import check_prefix
from tapeline.replay_share import Share, SymbolOutcome, TapeSource
from tests.support.data import recording
from tests.support.tape import SYMBOL, VENUE, random_tape

FILES = ("btcusdt_20240808.gz", "btcusdt_20240809.gz")


@pytest.mark.parametrize(
    ("text", "edge"),
    [
        ("2024-08-08T23:54:13Z", Edge("time", 1723161253000)),
        ("2024-08-08T23:54:13.250", Edge("time", 1723161253250)),
        ("2024-08-09T01:54:13+02:00", Edge("time", 1723161253000)),
        ("2024-08-08 23:54", Edge("time", 1723161240000)),
        ("2024-08-08", Edge("time", 1723075200000)),
        ("1723161253000", Edge("time", 1723161253000)),
        ("offset:0", Edge("offset", 0)),
        ("offset:812", Edge("offset", 812)),
    ],
)
def test_an_edge_is_a_time_or_an_offset(text: str, edge: Edge) -> None:
    assert parse_edge("--from", text) == edge


@pytest.mark.parametrize(
    "text", ["", "812", "20240808", "1723161253", "yesterday", "offset:-1", "offset:"]
)
def test_whatever_may_be_mistyped_is_refused(text: str) -> None:
    """Seconds, bare offsets and dates in digits among it."""
    with pytest.raises(ConfigError, match=f"--to is '{text}'; expected a time such as"):
        parse_edge("--to", text)


def test_a_range_begins_before_it_ends() -> None:
    check_order(Edge("time", 1), Edge("time", 2))
    check_order(Edge("time", 5), Edge("offset", 2))
    check_order(None, Edge("time", 1))
    with pytest.raises(ConfigError, match=r"something later than --from 1970-01-01T00:00:00\.002Z"):
        check_order(Edge("time", 2), Edge("time", 2))
    with pytest.raises(ConfigError, match="--to is 'offset:1'"):
        check_order(Edge("offset", 2), Edge("offset", 1))


def test_a_tape_has_no_offsets() -> None:
    assert times_only(Edge("time", 7), "--from") == 7
    with pytest.raises(ConfigError, match="capture files have no offsets"):
        times_only(Edge("offset", 7), "--from")


@pytest.mark.parametrize("prefix", ["replay", "lab:1", "a.b-c_d", "reports"])
def test_a_prefix_of_its_own(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "prefix", ["", ":", "lab:", "report", "report:x", "nt", "feed:a", "events", "tick", "{nt}", "a b", "a*"]
)  # fmt: skip
def test_a_prefix_in_the_way_of_live_keys_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="a prefix of the replay's own"):
        check_prefix(prefix)


def test_symbols_are_chosen_out_of_those_listed_or_named_with_their_venue() -> None:
    listed = parse_symbols("binance:BTCUSDT,binance:ETHUSDT")
    assert chosen((), listed) == listed
    assert chosen(("ETHUSDT",), listed) == (listed[1],)
    assert chosen(("binance:SOLUSDT",), ()) == (Listing("binance", "SOLUSDT", "SOLUSDT"),)
    with pytest.raises(ConfigError, match="expected one of BTCUSDT, ETHUSDT, or VENUE:SYMBOL"):
        chosen(("SOLUSDT",), listed)
    with pytest.raises(ConfigError, match="a venue out of"):
        chosen(("nowhere:SOLUSDT",), listed)


def test_a_symbol_s_name_means_all_its_venues_and_a_listing_only_its_own() -> None:
    both = tuple(Listing(venue, "BTC-USD", "BTCUSD") for venue in ("kraken", "coinbase"))
    listed = (*both, Listing("kraken", "ETH/USD", "ETHUSD"))
    assert chosen(("BTCUSD",), listed) == both
    assert chosen(("binance:BTCUSD", "BTCUSD"), listed) == (
        Listing("binance", "BTCUSD", "BTCUSD"), *both,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_each_symbol_is_dealt_to_one_share(workers: int) -> None:
    venues = dict.fromkeys("DACBE", ("binance",))
    whole = Share(TapeSource("binance", ()), venues, Plan())
    shares = split(whole, workers)
    assert len(shares) == min(workers, 5)
    assert sorted(name for share in shares for name in share.venues) == sorted(venues)
    assert max(len(s.venues) for s in shares) - min(len(s.venues) for s in shares) <= 1


def test_the_digest_is_of_all_symbols_in_their_order() -> None:
    def digest(**symbols: str) -> str:
        outcomes = {name: SymbolOutcome(digest=value) for name, value in sorted(symbols.items())}
        return Replay(outcomes, 0.0, 1).digest

    assert digest(A="1", B="2") == digest(B="2", A="1")
    assert len({digest(A="1", B="2"), digest(A="2", B="1"), digest(A="1"), digest()}) == 4


def test_the_worst_of_several_audits_is_the_status() -> None:
    """A difference above all: it is a wrong number."""
    audits = {verdict: Audit(1, 1, 1, 1, verdict) for verdict in Verdict}
    for at, verdict in enumerate(WORST_FIRST):
        assert worst([audits[one] for one in WORST_FIRST[at:]]) is verdict
    assert (int(Verdict.EQUAL), int(Verdict.DIFFERENT), int(Verdict.NOT_HELD)) == (0, 1, 3)


# --- files --------------------------------------------------------------------------------------


def replayed(tmp_path: Path, name: str, **options: Any) -> tuple[Replay, Path]:
    out = tmp_path / name
    files = tuple(recording(f"binance/hftbacktest/{file}") for file in FILES[:1])
    settings = load_settings({})
    return run_replay(settings, Request(files=files, out=out, **options)), out


@pytest.mark.slow
@pytest.mark.recordings
def test_a_recording_gives_the_same_reports_each_time(tmp_path: Path) -> None:
    """And a range of it gives its piece."""
    first, whole = replayed(tmp_path, "first.ndjson")
    again, other = replayed(tmp_path, "again.ndjson", workers=2)
    assert first.digest == again.digest
    assert whole.read_bytes() == other.read_bytes()
    body = first.as_json()
    assert (body["failed"], body["symbols"]["BTCUSDT"]["left_out"]) == (0, 0)
    lines = whole.read_bytes().splitlines()
    assert body["reports"] == len(lines) > 1000
    times = [orjson.loads(line)["source"]["fast"]["now_ms"] for line in lines]
    assert {b - a for a, b in pairwise(times)} == {250}
    edges = Edge("time", times[400]), Edge("time", times[900])
    _, piece = replayed(tmp_path, "piece.ndjson", begin=edges[0], end=edges[1])
    assert piece.read_bytes().splitlines() == lines[400:900]


@pytest.mark.slow
@pytest.mark.recordings
def test_nothing_in_the_range_is_a_failure_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        TapelineError, match="nothing to report of BTCUSDT in that range: 0 records"
    ):
        replayed(tmp_path, "none.ndjson", begin=Edge("time", 1_900_000_000_000))
    assert list(tmp_path.iterdir()) == []


def test_parquet_holds_what_the_lines_hold(tmp_path: Path) -> None:
    """In columns, and the whole report beside them, byte for byte."""
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    timeline = Timeline(SYMBOL, VENUE, Plan())
    reports = [*timeline.feed(random_tape(7, 60).records), *timeline.finish()]
    lines = [encode_report(report, 1 << 30)[0] + b"\n" for report in reports[-3:]]
    parts = [tmp_path / "A.ndjson", tmp_path / "B.ndjson"]
    parts[0].write_bytes(b"".join(lines[:2]))
    parts[1].write_bytes(lines[2])
    replay_parquet.write_parquet(parts, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["report"].encode() + b"\n" for row in rows] == lines
    body = json.loads(lines[0])
    assert rows[0]["now_ms"] == body["source"]["fast"]["now_ms"]
    assert rows[0]["mid_price"] == body["mid_price"]
    assert rows[0]["best_bid"] == (body["best_bid"] or {}).get("price")


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_parquet, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"a.parquet.*the extra `parquet`.*tapeline\[parquet\]"):
        replay_parquet.check_parquet(Path("a.parquet"))


# --- the example --------------------------------------------------------------------------------


def test_the_example_computes_profit_and_draws_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the simulator's tape; without matplotlib it says what to install."""
    path = Path(__file__).parents[3] / "examples" / "backtest_pnl.py"
    spec = importlib.util.spec_from_file_location("backtest_pnl", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "backtest_pnl", example)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "SIM_SECONDS", 20)
    drawn: list[int] = []
    monkeypatch.setattr(example, "draw", lambda curve, *_: drawn.append(len(curve.at_ms)))
    assert example.main(["--png", str(tmp_path / "pnl.png")]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["reports"] >= drawn[0] > 50
    assert body["net"] == pytest.approx(body["gross"] - body["fees"], abs=1e-3)
    assert example.main([str(tmp_path / "missing.gz")]) == 1
    assert "missing.gz" in capsys.readouterr().err
