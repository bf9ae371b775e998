"""Verdicts of a soak and an overload, claim by claim; and their pictures."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.chaos.history import Verdict
from tests.soak import judging
from tests.soak import overload_claims as overloads
from tests.soak.alarms import configuration, named
from tests.soak.judging import (
    audit,
    by_itself,
    counters,
    load,
    logs,
    memory,
    order,
    recovered,
    writes,
)
from tests.soak.memory import Resident
from tests.soak.overload import Phase
from tests.soak.plot import Line, Mark, Panel, Picture, decades, means, peaks, steps, svg
from tests.soak.restarts import Restart, Turn
from tests.soak.tally import SymbolTally, Tally
from tests.soak.watch import Age, Lag, Seen

OVER = Phase(10.0, 130.0)


def tally(**per_symbol: Any) -> Tally:
    found = Tally()
    one = found.symbols["A"] = SymbolTally("A")
    for name, value in per_symbol.items():
        setattr(one, name, value)
    found.per_second.update(dict.fromkeys(range(100, 200), 500))
    return found


def test_the_load_is_that_of_seconds_with_a_feed() -> None:
    found = tally()
    found.per_second.update(dict.fromkeys(range(200, 300), 3))  # frozen, for the account
    assert load(found, 500, 0.95, 100_000, 100.0).holds
    del found.per_second[150]
    assert load(found, 500, 0.95, 100_000, 100.0).holds
    assert "none at all in 1 s" in load(found, 500, 0.95, 100_000, 100.0).told
    assert not load(found, 530, 0.95, 100_000, 100.0).holds


def test_disorder_and_the_venues_account_fail_the_order() -> None:
    assert order(tally(), []).holds
    assert not order(tally(disorder=["A@5: 3 behind 1"]), []).holds
    assert not order(tally(), ["A: 5 trades made, 4 there"]).holds


def test_reports_that_differ_fail() -> None:
    found = tally()
    assert judging.reports(found, 0).holds is None
    found.compared = 8
    assert judging.reports(found, 1).holds
    found.differing = [f"A: {n}" for n in range(9)]
    claim = judging.reports(found, 1)
    assert not claim.holds
    assert "and 3 more" in claim.told


def test_small_verdicts() -> None:
    assert audit(15, []).holds
    assert not audit(15, ["A (1): different"]).holds
    assert writes(Verdict(), 5).holds
    assert writes(Verdict(), 0).holds is None, "an observer that heard nothing shows nothing"
    assert not writes(Verdict(stale=1), 5).holds
    assert by_itself([], []).holds
    assert not by_itself(["w1 ended with -11"], []).holds
    assert not by_itself([], ["w1 ended with 1"]).holds


def test_what_workers_notice_fails() -> None:
    seen = Seen()
    seen.counts["w1", 7] = {"records_skipped": 40.0, "duplicate_trades": 0.0}
    assert counters(seen, tally()).holds
    seen.counts["w1", 8] = {"duplicate_records": 1.0}
    assert not counters(seen, tally()).holds
    assert counters(seen, tally(again=1)).holds, "the topic has it twice"
    seen.counts["w1", 9] = {"duplicate_trades": 1.0}
    assert not counters(seen, tally(again=1)).holds


def test_a_restart_that_is_not_recovered_from_fails() -> None:
    one = Restart(Turn(0.0, "kafka", "kafka", True), 5.0, 5000, fresh_s=9.0)
    assert recovered([one]).holds
    one.fresh_s = None
    assert not recovered([one]).holds
    one.fresh_s = judging.RECOVER_S + 1
    assert not recovered([one]).holds
    assert recovered([]).holds is None


def looks(name: str, mb: float, grows: float) -> list[Resident]:
    return [
        Resident(n * 180.0 + age, mb + grows * n) for n in range(10) for age in range(0, 180, 5)
    ]


def test_memory_that_grows_from_cycle_to_cycle_fails() -> None:
    seen = Seen()
    for name in ("w1", "w2", "b1", "reader", "redis"):
        seen.memory[name] = looks(name, 100.0, 0.1)
    seen.memory["kafka"] = looks("kafka", 400.0, 20.0)
    assert memory(seen, 0.0, 1800.0, 180.0).holds, "the broker's heap is not ours"
    seen.memory["w1"] = looks("w1", 100.0, 2.0)
    assert memory(seen, 0.0, 1800.0, 180.0).holds is False
    seen.memory["w1"] = looks("w1", 100.0, 2.0)[:40]
    assert memory(seen, 0.0, 1800.0, 180.0).holds is None
    del seen.memory["redis"]
    assert memory(seen, 0.0, 1800.0, 180.0).holds is None, "nobody has looked"


def test_a_flood_of_log_lines_fails() -> None:
    assert logs({"w1": 1000, "b1": 30}, 30.0).holds
    flooded = logs({"w1": 20_000, "b1": 30}, 30.0)
    assert flooded.holds is False
    assert flooded.told == "w1 667, b1 1"


# --- overload -------------------------------------------------------------------------------------


def test_the_load_must_be_too_much() -> None:
    assert overloads.load([0.0, 10.0], [0, 30_000], 1000, 3).holds
    assert not overloads.load([0.0, 10.0], [0, 20_000], 1000, 3).holds
    assert not overloads.load([], [], 1000, 3).holds


@pytest.mark.parametrize(
    ("growth", "holds"), [(2000, True), (0, False), (-10, False), (100, False)]
)
def test_the_lag_must_grow(growth: int, holds: bool) -> None:
    lags = [Lag(float(t), 5000 + growth * (t - 10)) for t in range(5, 140)]
    assert overloads.lag_grows(lags, OVER, 1000, 3).holds is holds


def ages(ms: int, stale: int, down: int) -> list[Age]:
    return [Age(float(t), ms, stale=stale, down=down) for t in range(140)]


def test_reports_must_say_that_they_are_old() -> None:
    assert overloads.reports_say_so(ages(9000, 15, 15), OVER, 3).holds
    assert not overloads.reports_say_so(ages(9000, 0, 15), OVER, 3).holds
    assert not overloads.reports_say_so(ages(9000, 15, 0), OVER, 3).holds
    assert not overloads.reports_say_so(ages(1500, 15, 15), OVER, 3).holds
    assert not overloads.reports_say_so([], OVER, 3).holds
    assert overloads.status_says_so({"degraded: 9 s behind": 3, "ok: fine": 1}).holds
    assert not overloads.status_says_so({"ok: fine": 4}).holds


def test_memory_must_stay_below_a_bound_that_knows_nothing_of_the_lag() -> None:
    before, after = Phase(0.0, 9.0), Phase(130.0, 200.0)
    flat = [Resident(float(t), 110.0 + (20.0 if t > 10 else 0.0)) for t in range(200)]
    assert overloads.bounded(flat, before, OVER, after, 15).holds
    growing = [Resident(float(t), 110.0 + t) for t in range(200)]
    assert not overloads.bounded(growing, before, OVER, after, 15).holds
    assert overloads.cycles(950, 0, 1000.0).holds
    assert overloads.cycles(100, 30, 1000.0).holds
    assert not overloads.cycles(100, 0, 1000.0).holds


# --- pictures, alerts -----------------------------------------------------------------------------


def test_a_picture_is_well_formed_and_has_everything() -> None:
    text = svg(
        Picture(
            title="A <run> & more",
            note="note " * 60,
            seconds=600.0,
            kinds=("worker", "kafka"),
            marks=[Mark(60.0, "worker"), Mark(120.0, "kafka", hard=False)],
            spans=[(61.0, 64.0)],
            spans_are="nothing",
            shade_s=30.0,
            panels=[
                Panel(
                    "lag", [Line("lag", [(0, 1.0), (5, 900.0), (90, 2.0), (95, 3.0)])], 1.0, True
                ),
                Panel("MB", [Line("w1", [(0, 90.0), (5, 91.0)]), Line("w2", [])]),
            ],
        )
    )
    root = ET.fromstring(text)
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3, "a pause breaks a line"
    assert text.count("url(#hatch)") == 3
    assert "A &lt;run&gt; &amp; more" in text


def test_scales() -> None:
    assert steps(0.0, 97.0) == [0.0, 25.0, 50.0, 75.0, 100.0]
    assert steps(0.0, 0.0)[0] == 0.0
    assert decades(1.0, 900.0) == [1.0, 10.0, 100.0, 1000.0]
    assert decades(1.0, 1.0) == [1.0, 10.0]
    assert means([(0, 1), (1, 3), (6, 5)], 5.0) == [(2.5, 2.0), (7.5, 5.0)]
    assert peaks([(0, 1), (1, 3), (2, 2)], 5.0) == [(1, 3)]


def test_alerts_are_told_with_what_they_are_about() -> None:
    assert named({"alertname": "Down", "severity": "page"}) == "Down"
    assert named({"alertname": "Stale", "symbol": "A", "x": "y"}) == "Stale{symbol=A}"
    told = configuration({"worker": [9101, 9103], "serve": [8080]}, judging_path())
    assert [job["job_name"] for job in told["scrape_configs"]] == [
        "tapeline-worker",
        "tapeline-reader",
    ]


def judging_path() -> Any:
    from pathlib import Path

    return Path("rules.yml")
