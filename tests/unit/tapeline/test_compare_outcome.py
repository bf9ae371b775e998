"""What a comparison of engines' own reports finds: nothing where there is nothing, and all else."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest

from tables.engine import Engine
from tables.parameters import Parameters
from tables.report import Position, Source, Writer, compose, encode_report
from tapeline.compare.fields import SKEW_MAX_MS, Rules, parse_tolerance
from tapeline.compare.outcome import Comparison, Verdict
from tapeline.compare.pairing import Pair, Pairing, parts_of
from tests.support.tape import SYMBOL, VENUE, Record, random_tape

WHOLE = 1 << 30
TAPE = random_tape(71, 2500, step_ms=25).records


def reports(
    parameters: Parameters, late_ms: int, records: list[Record] = TAPE, every: int = 40
) -> list[dict[str, Any]]:
    """One every so many records, on the records' clock and ``late_ms`` later."""
    engine, found = Engine(SYMBOL, VENUE, parameters), []
    for at in range(0, len(records), every):
        engine.apply(records[at : at + every])
        now_ms = engine.newest_ms + late_ms
        where = Position("t", 0, engine.applied, now_ms)
        made = compose(
            engine.fast_report(now_ms),
            engine.slow_report(now_ms),
            writer=Writer(f"n{late_ms}", 7),
            seq=at,
            updated_at=now_ms + 3,
            source=Source(where, where),
        )
        found.append(orjson.loads(encode_report(made, WHOLE)[0]))
    return found


def compared(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], rules: Rules | None = None, **how: Any
) -> Comparison:
    """As the live comparison does it."""
    comparison = Comparison(rules or Rules(), **{"min_pairs": 10, "in_parts": True, **how})
    pairings = {"fast": Pairing(), "slow": Pairing()}
    for side, side_reports in enumerate((ours, theirs)):
        for report in side_reports:
            for name, part in parts_of(report).items():
                pairings[name].add(side, part)  # type: ignore[arg-type]
    comparison.symbol(SYMBOL)
    for name, pairing in pairings.items():
        for pair in pairing.settle(everything=True):
            comparison.add(SYMBOL, name, pair)
    return comparison


@pytest.mark.parametrize("late_ms", [0, 1, 7, 40])
def test_one_analytics_at_two_moments_is_equal(late_ms: int) -> None:
    """Ages are some milliseconds apart, windows have lost a little, and that is no difference."""
    found = compared(reports(Parameters(), 0), reports(Parameters(), late_ms))
    body = found.as_json()
    assert found.verdict is Verdict.EQUAL, body["fields"]
    assert body["pairs"] == body["slow_pairs"] == -(-len(TAPE) // 40)
    assert body["same_moment_pairs"] == (body["pairs"] if late_ms == 0 else 0)
    if late_ms == 0:
        assert body["fields"] == []


def test_a_window_of_another_length_is_found_at_the_same_moment() -> None:
    """Here: bins of another width, so another point of control."""
    found = compared(reports(Parameters(), 0), reports(Parameters(profile_bin_ticks=7), 0))
    assert found.verdict is Verdict.DIFFERENT
    assert all(name.startswith("liquidity.volume_profile.") for name in found.different)
    assert found.different
    first = found.as_json()["fields"][0]
    example = first["example"]
    assert first["verdict"] == "different"
    assert first["max_abs"] > 0
    assert 0 < first["max_rel"] < 1
    assert example["symbol"] == SYMBOL
    assert example["a"] != example["b"]
    assert example["offset"] == example["offset_b"]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("mid_price", lambda r: r.update(mid_price=r["mid_price"] * 1.000001)),
        ("depth.bids.*.*", lambda r: r["depth"]["bids"][3].__setitem__(1, 9.5)),
        ("data_age_ms", lambda r: r.update(data_age_ms=r["data_age_ms"] + 1)),
        ("ingestion.book", lambda r: r["ingestion"].update(book="gap")),
        ("extra", lambda r: r.update(extra=1)),
        ("report_version", lambda r: r.update(report_version="9")),
        ("best_bid", lambda r: r.update(best_bid=None)),
    ],
)
@pytest.mark.parametrize("late_ms", [0, 20])
def test_a_change_of_what_no_moment_changes_is_found_in_a_single_pair(
    path: str, change: Any, late_ms: int
) -> None:
    ours, theirs = reports(Parameters(), 0), reports(Parameters(), late_ms)
    whole = next(n for n, report in enumerate(theirs) if n > 20 and report["depth"])
    change(theirs[whole])
    found = compared(ours, theirs)
    assert found.different == [path]
    assert found.as_json()["fields"][0]["differing"] == 1
    assert found.verdict is Verdict.DIFFERENT
    ignored = compared(ours, theirs, Rules(ignored=[path.partition(".")[0]]))
    assert ignored.verdict is Verdict.EQUAL
    assert compared(ours, theirs, fail_on=2).verdict is Verdict.EQUAL


def test_a_window_s_figure_is_strict_at_one_moment_and_counted_between_two() -> None:
    ours = reports(Parameters(), 0)
    strict = copy.deepcopy(ours)
    strict[50]["flow"]["buy_volume"] *= 1.0001
    assert compared(ours, strict).different == ["flow.buy_volume"]
    later = reports(Parameters(), 9)
    for report in later[:5]:
        report["flow"]["trade_count"] = report["flow"]["trade_count"] * 2 + 5
    assert compared(ours, later).verdict is Verdict.EQUAL
    for report in later[:30]:
        report["flow"]["trade_count"] = report["flow"]["trade_count"] * 2 + 5
    assert "flow.trade_count" in compared(ours, later).different


def test_windows_of_moments_far_apart_are_not_compared_and_don_t_count() -> None:
    """So many pairs, and no verdict."""
    found = compared(reports(Parameters(), 0), reports(Parameters(), SKEW_MAX_MS + 1))
    body = found.as_json()
    assert (body["pairs"], body["close_pairs"]) == (-(-len(TAPE) // 40), 0)
    assert found.verdict is Verdict.TOO_FEW_PAIRS
    assert not any(one["field"].startswith("flow") for one in body["fields"])


def test_a_tolerance_is_kept_and_told() -> None:
    ours, theirs = reports(Parameters(), 0), reports(Parameters(), 0)
    for report in theirs[20:40]:
        if report["mid_price"] is not None:
            report["mid_price"] += 0.5
    assert compared(ours, theirs).different == ["mid_price"]
    wide = compared(ours, theirs, Rules([parse_tolerance("mid_price=0.6")]))
    assert wide.verdict is Verdict.EQUAL
    (told,) = wide.as_json()["fields"]
    assert (told["verdict"], told["tolerance"], told["differing"]) == ("tolerated", "0.6", 0)
    assert told["tolerated"] > 5
    assert told["max_abs"] == pytest.approx(0.5)
    tight = compared(ours, theirs, Rules([parse_tolerance("mid_price=0.00001%")]))
    assert tight.different == ["mid_price"]


def test_too_few_pairs_are_no_verdict() -> None:
    ours = reports(Parameters(), 0)
    assert compared(ours[:9], ours[:9]).verdict is Verdict.TOO_FEW_PAIRS
    assert compared(ours[:10], ours[:10]).verdict is Verdict.EQUAL
    assert compared([], []).verdict is Verdict.TOO_FEW_PAIRS
    assert Comparison(Rules()).verdict is Verdict.TOO_FEW_PAIRS
    missing = compared(ours, ours, symbols=("ETHUSDT",))
    assert missing.wanting == ["ETHUSDT"]
    without = copy.deepcopy(ours)
    for report in without:
        report["source"]["slow"] = None
    assert compared(ours, without).wanting == [SYMBOL]


def test_reports_of_other_records_are_compared_as_they_are() -> None:
    """Only where somebody asks for near ones: ages say nothing then."""
    ours = reports(Parameters(), 0)
    a, b = parts_of(ours[50])["fast"], parts_of(ours[51])["fast"]
    comparison = Comparison(Rules())
    comparison.add(SYMBOL, "fast", Pair(a, b, near=True))
    assert comparison.symbol(SYMBOL).near_pairs == 1
    assert "data_age_ms" not in comparison.fields
    assert any(path.startswith("depth") for path in comparison.different)
