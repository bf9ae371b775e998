"""The least that still fails: faults are left out of a plan one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from tests.simulation.faults import Plan
from tests.simulation.run import Result

ROUNDS_MAX = 8


def shrunk(failed: Result, carry_out: Callable[[Plan], Result]) -> Result:
    """A run with as few faults as will do that violates what the given one violates.

    Every source of chance has a seed of its own, so that without one fault the rest of the run
    goes on much as before.

    Args:
        failed: A run with violations.
        carry_out: Runs a plan, under the guards that the failed run had.
    """
    wanted = _kinds(failed)
    for _ in range(ROUNDS_MAX):
        smaller = _without_one(failed, wanted, carry_out)
        if smaller is None:
            break
        failed = smaller
    return failed


def _without_one(
    failed: Result, wanted: set[str], carry_out: Callable[[Plan], Result]
) -> Result | None:
    faults = failed.plan.faults
    for at in range(len(faults)):
        result = carry_out(replace(failed.plan, faults=faults[:at] + faults[at + 1 :]))
        if _kinds(result) & wanted:
            return result
    return None


def _kinds(result: Result) -> set[str]:
    """Which invariants are violated."""
    return {violation.partition(":")[0] for violation in result.violations}


def told(result: Result, lines: int = 80) -> str:
    """A failing run in words: its faults, what it violates, and what came before that."""
    first_s = min((s for v in result.violations if (s := _moment(v)) is not None), default=None)
    until_s = float("inf") if first_s is None else first_s + 0.5
    trace = [line for line in result.trace if float(line[:8]) <= until_s]
    plan = result.plan
    return "\n".join(
        [
            f"seed {plan.seed}: {len(plan.nodes)} nodes, {len(plan.symbols)} symbols",
            *(f"  fault {fault}" for fault in plan.faults),
            *(f"  {violation}" for violation in result.violations),
            f"  the last {min(lines, len(trace))} lines of its trace:",
            *(f"  {line}" for line in trace[-lines:]),
        ]
    )


def _moment(violation: str) -> float | None:
    """When it happened, where the sentence says so."""
    words = violation.replace(",", " ").replace(":", " ").split()
    for before, word in pairwise(words):
        if before in {"at", "until", "from"}:
            try:
                return float(word)
            except ValueError:
                continue
    return None
