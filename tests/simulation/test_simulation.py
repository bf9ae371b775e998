"""The coordination protocol under faults, and proof that its checkers would see it fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest

from agents.coordination.lease import LeaseManager
from agents.coordination.takeover import Takeover
from tests.simulation.faults import BEGIN_S, KINDS, Fault, Plan, heavy, mixed, single
from tests.simulation.run import Guards, Result, carry_out, gaps_of
from tests.simulation.shrink import shrunk, told
from tests.support.imports import ROOT

SEEDS = 500
CHUNK = 25
SINGLE_SEEDS = 40
HEAVY_SEEDS = (*range(15), 377)
"""And one in which a checkpoint sent while the group assigned counted for more than the next owner's."""

FEW_SEEDS = 12


def invariants_of(result: Result) -> set[str]:
    """Which are violated."""
    return {violation.partition(":")[0] for violation in result.violations}


# --- what must hold ------------------------------------------------------------------------------


@pytest.fixture
def untraced() -> Iterator[None]:
    """Not counted by coverage: that takes three times as long, and other tests run the same lines."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_mixture_of_faults_breaks_an_invariant(first: int) -> None:
    """The seed that does is shrunk to the faults it takes, and shown with its trace."""
    for seed in range(first, first + CHUNK):
        result = carry_out(mixed(seed))
        if result.violations:
            pytest.fail(told(shrunk(result, carry_out)), pytrace=False)


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_faults_without_a_rest_between_them_break_no_invariant() -> None:
    for seed in HEAVY_SEEDS:
        result = carry_out(heavy(seed))
        if result.violations:
            pytest.fail(told(shrunk(result, carry_out)), pytrace=False)


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("first", range(0, SINGLE_SEEDS, SINGLE_SEEDS // 2))
def test_no_symbol_stands_still_for_two_seconds_when_one_node_is_killed_or_paused(
    first: int,
) -> None:
    """Gaps are between reports that have advanced."""
    for seed in range(first, first + SINGLE_SEEDS // 2):
        result = carry_out(single(seed))
        assert result.violations + gaps_of(result, BEGIN_S) == [], result.plan.faults


def test_a_run_without_faults_moves_nothing() -> None:
    """Whoever starts first gives away what is another's, once."""
    plan = replace(mixed(0), faults=())
    result = carry_out(plan)
    assert result.violations == []
    assert gaps_of(result, BEGIN_S) == []
    assert not [move for move in result.history.moves if move.at_s > BEGIN_S]


def test_a_node_that_asked_to_be_relieved_gets_its_symbols_back_after_a_quick_restart() -> None:
    """What its process before has said does not concern the next one."""
    base = replace(single(0), faults=())
    was = {held.symbol: held.lease_value for held in carry_out(base).history.held}
    node = was["S0"].partition("|")[0]
    plan = replace(base, faults=(Fault(BEGIN_S + 2, "stop", node, 0.1),))
    result = carry_out(plan)
    assert result.violations == []
    asked = [move for move in result.history.moves if move.reason == "draining"]
    assert {move.before for move in asked} == {node}
    assert max(move.at_s for move in asked) < BEGIN_S + 4


def test_the_seeds_draw_every_kind_of_fault() -> None:
    drawn = {fault.kind for seed in range(SEEDS) for fault in mixed(seed).faults}
    assert drawn == set(KINDS)
    ways = {fault.how for seed in range(SEEDS) for fault in mixed(seed).faults}
    assert ways == {"", "kept", "wiped", "stale", "gone", "elsewhere"}


@pytest.mark.slow
def test_faults_do_what_they_say() -> None:
    """Steals, refusals, takeovers, losses and evictions all come up within a few seeds."""
    results = [carry_out(mixed(seed)) for seed in range(FEW_SEEDS)]
    trace = "\n".join(line for result in results for line in result.trace)
    for said in (
        "reason=absent",
        "reason=assigned",
        "reason=draining",
        "reason=stalled",
        "reason=free",
        "reason=fenced",
        "node.evicted",
        "membership.name_taken",
        "lease.redis_away",
        "is back, data wiped",
    ):
        assert said in trace, said
    assert any(result.history.stops for result in results)
    assert {held.end for result in results for held in result.history.held} >= {
        "expired",
        "lost",
        "stolen",
    }


# --- the same seed, the same history ---------------------------------------------------------------


def test_the_same_seed_makes_the_same_history() -> None:
    for seed in (3, 8):
        first, second = carry_out(mixed(seed)), carry_out(mixed(seed))
        assert first.history == second.history
        assert first.trace == second.trace
        assert first.digest() == second.digest() != carry_out(mixed(seed + 1)).digest()


@pytest.mark.slow
def test_the_same_seed_makes_the_same_history_in_every_process() -> None:
    """Whatever order sets have there; and the command says what it ran."""
    said = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seeds", "6", "--first", "40", "--json"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(json.loads(done.stdout.splitlines()[-1]))
    assert said[0]["digest"] == said[1]["digest"]
    assert (said[0]["first"], said[0]["seeds"], said[0]["failed"]) == (40, 6, [])


# --- checkers find what is wrong -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("guards", "expected"),
    [
        pytest.param(Guards(fenced=False), {"I1", "I3", "I5"}, id="fencing"),
        pytest.param(Guards(gated=False), {"I6"}, id="offset-gate"),
        pytest.param(Guards(limited=False), {"I5"}, id="local-deadline"),
    ],
)
def test_without_a_guard_a_few_seeds_show_violations(guards: Guards, expected: set[str]) -> None:
    found = set().union(*(invariants_of(carry_out(mixed(s), guards)) for s in range(FEW_SEEDS)))
    assert found >= expected


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_without_the_token_floor_a_wiped_redis_grants_old_tokens_again() -> None:
    """Counted from one again, a token is soon two writers', and lower than those before."""
    found = set()
    for seed in range(FEW_SEEDS):
        base = single(seed)
        wiped = Fault(BEGIN_S + 4, "redis_down", "", 0.6, how="wiped")
        plan = Plan(seed, base.nodes, base.symbols, (*base.faults, wiped))
        assert carry_out(plan).violations == []
        found |= invariants_of(carry_out(plan, Guards(floored=False)))
    assert found >= {"I1", "I2"}


def test_without_takeovers_a_paused_nodes_symbols_stand_still() -> None:
    plan = replace(single(0), faults=(Fault(BEGIN_S + 2, "pause", "n1", 3.0),))
    assert gaps_of(carry_out(plan), BEGIN_S) == []
    with patch.object(Takeover, "due", lambda *_: []):
        result = carry_out(plan)
    assert gaps_of(result, BEGIN_S)


def test_where_nobody_takes_back_what_is_theirs_lease_and_assignment_disagree() -> None:
    plan = replace(single(0), faults=(Fault(BEGIN_S + 2, "pause", "n1", 3.0),))
    with patch("tests.simulation.process.SETTINGS.min_hold_ms", 10**9):
        assert invariants_of(carry_out(plan)) == {"I8"}


def test_without_releases_leases_outlive_a_stop() -> None:
    async def no_release(self: LeaseManager) -> None:
        self._releases = []

    plan = replace(single(0), faults=(Fault(BEGIN_S + 2, "stop", "n1", how="gone"),))
    assert carry_out(plan).violations == []
    with (
        patch.object(LeaseManager, "_release", no_release),
        patch("agents.ownership.HAND_OVER_S", 0.0),
    ):
        assert "I10" in invariants_of(carry_out(plan))


def test_without_a_least_time_to_hold_symbols_move_too_often() -> None:
    """Where all nodes believe all symbols to be theirs, and take them from each other."""
    plan = replace(single(0), faults=())
    with (
        patch("tests.simulation.process.SETTINGS.min_hold_ms", 100),
        patch("tests.simulation.feeds.ModelShards.symbols", lambda self: list(self.names)),
    ):
        assert "I9" in invariants_of(carry_out(plan))


# --- shrinking -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_a_failing_plan_is_shrunk_to_the_faults_it_takes() -> None:
    """Here the pause of whoever writes, without fencing."""
    guards = Guards(fenced=False)

    def run(plan: Plan) -> Result:
        return carry_out(plan, guards)

    seed = next(s for s in range(100) if run(mixed(s)).violations and len(mixed(s).faults) > 2)
    failed = run(mixed(seed))
    least = shrunk(failed, run)
    assert len(least.plan.faults) < len(failed.plan.faults)
    assert invariants_of(least) & invariants_of(failed)
    for at in range(len(least.plan.faults)):
        rest = least.plan.faults[:at] + least.plan.faults[at + 1 :]
        assert not invariants_of(run(replace(least.plan, faults=rest))) & invariants_of(failed)
    text = told(least)
    assert f"seed {seed}" in text
    assert least.violations[0] in text
    assert str(least.plan.faults[0]) in text
