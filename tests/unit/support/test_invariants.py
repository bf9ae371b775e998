"""Checkers of what was recorded: each finds its fault, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support import invariants
from tests.support.invariants import (
    Applied,
    Belief,
    Held,
    History,
    Move,
    Place,
    Stop,
    Told,
    Write,
)

FIRST = Write(
    at_s=1.0,
    symbol="S",
    lease_value="a|1|7",
    held="a|1|7",
    token=7,
    seq=3,
    watermark=50,
    updated_at=1000,
)


def later(**changes: Any) -> Write:
    """The next write, with something wrong about it."""
    after = replace(FIRST, at_s=1.25, seq=4, watermark=55, updated_at=1250)
    return replace(after, **changes)


def test_an_ordinary_history_has_no_violations() -> None:
    taken = later(at_s=2.0, lease_value="b|1|9", held="b|1|9", token=9, seq=5, updated_at=1300)
    history = History(
        writes=[FIRST, later(), taken, replace(FIRST, kind="tick", at_s=2.0, token=9)],
        held=[
            Held("S", "a|1|7", 0.5, 2.7, "granted", 1.9, "stolen"),
            Held("S", "b|1|9", 1.9, 3.9, "stolen"),
        ],
        beliefs=[Belief("S", "a|1|7", 0.5, 2.1), Belief("S", "b|1|9", 1.9, 3.0)],
        told=[Told(2.1, "S", "a|1|7")],
        applied=[Applied("a/1", "S", 10, 9), Applied("a/1", "S", 10, 20)],
        moves=[Move(1.9, "S", "a", "b", "assigned")],
        stops=[Stop(2.2, "a", "1")],
        places=[Place("S", "b", "b", "b", "b")],
    )
    history.writes[-1] = replace(history.writes[-1], lease_value="b|1|9", held="b|1|9")
    assert invariants.violations(history) == []


@pytest.mark.parametrize(
    ("second", "broken"),
    [
        pytest.param(later(token=6, lease_value="b|1|6", held=None), {"I1", "I3"}, id="token"),
        pytest.param(later(lease_value="b|1|7", held=None), {"I2"}, id="two-holders"),
        pytest.param(later(seq=3), {"I3"}, id="seq-again"),
        pytest.param(later(watermark=49), {"I4"}, id="watermark"),
        pytest.param(later(updated_at=1000), {"I4"}, id="updated-at"),
        pytest.param(later(held="b|1|8"), {"I5"}, id="another's-lease"),
        pytest.param(later(held=""), {"I5"}, id="no-lease"),
    ],
)
def test_a_write_that_must_not_be_is_found(second: Write, broken: set[str]) -> None:
    found = invariants.violations(History(writes=[FIRST, second]))
    assert {sentence.partition(":")[0] for sentence in found} == broken
    assert all("S at 1.250" in sentence for sentence in found)


def test_of_an_older_copy_old_tokens_are_good_and_readers_are_not_shown_them() -> None:
    back = later(token=6, lease_value="b|1|6", held="b|1|6", watermark=40, life=1, losses=1)
    assert invariants.violations(History(writes=[FIRST, back])) == []
    (shown,) = invariants.as_read([FIRST, back])
    assert shown == [FIRST]


def test_a_successor_that_redis_told_nothing_may_lag_behind_and_only_then() -> None:
    """And it may stamp lower only where a clock was wrong."""
    lagging = later(token=9, lease_value="b|1|9", held=None, watermark=40, losses=1)
    assert invariants.readers_never_step_back([FIRST, lagging]) == []
    assert invariants.writers_never_step_back([FIRST, lagging]) == []
    early = replace(lagging, updated_at=900)
    assert invariants.readers_never_step_back([FIRST, early])
    assert invariants.readers_never_step_back([FIRST, early], clocks_right=False) == []
    kept = replace(early, losses=0)
    assert len(invariants.readers_never_step_back([FIRST, kept], clocks_right=False)) == 2


def test_what_a_writer_has_published_itself_it_knows_whatever_redis_loses() -> None:
    again = later(token=9, lease_value="a|1|9", watermark=40, updated_at=900, losses=1)
    assert len(invariants.writers_never_step_back([FIRST, again])) == 2
    restarted = replace(again, lease_value="a|2|9")
    assert invariants.writers_never_step_back([FIRST, restarted]) == []


@pytest.mark.parametrize(
    ("applied", "what"),
    [
        pytest.param(Applied("a/1", "S", 20, 22), "again", id="twice"),
        pytest.param(Applied("a/1", "S", 22, 25), "behind a hole", id="hole"),
    ],
)
def test_records_applied_twice_or_not_at_all_are_found(applied: Applied, what: str) -> None:
    (found,) = invariants.applied_contiguously([Applied("a/1", "S", 10, 20), applied])
    assert what in found


def test_every_copy_of_a_state_counts_for_itself() -> None:
    """And one that begins anew begins where it says."""
    copies = [
        Applied("a/1", "S", 10, 20),
        Applied("b/1", "S", 15, 20),
        Applied("a/1", "S", 5, 4),
        Applied("a/1", "S", 5, 6),
    ]
    assert invariants.applied_contiguously(copies) == []


def test_a_belief_that_outlives_its_lease_is_found() -> None:
    held = [Held("S", "a|1|7", 0.0, 2.0, "granted", 2.0, "expired")]
    assert invariants.at_most_one_believes([Belief("S", "a|1|7", 0.0, 2.0)], held, []) == []
    (found,) = invariants.at_most_one_believes([Belief("S", "a|1|7", 0.0, 2.5)], held, [])
    assert "until 2.500" in found


def test_a_belief_that_outlives_the_news_of_its_end_is_found() -> None:
    held = [Held("S", "a|1|7", 0.0, 2.0, "granted", 1.0, "stolen")]
    belief, told = Belief("S", "a|1|7", 0.0, 1.7), Told(1.2, "S", "a|1|7")
    (found,) = invariants.at_most_one_believes([belief], held, [told])
    assert "told of its end at 1.200" in found


@pytest.mark.parametrize(
    ("end", "how", "excused"),
    [
        ("expired", "granted", False),
        ("released", "granted", False),
        ("stolen", "stolen", True),
        ("lost", "granted", True),
    ],
)
def test_two_believe_only_after_a_theft_or_a_loss(end: str, how: Any, excused: bool) -> None:
    held = [
        Held("S", "a|1|7", 0.0, 2.0, "granted", 1.0, end),
        Held("S", "b|1|9", 1.0, 3.0, how),
    ]
    beliefs = [Belief("S", "a|1|7", 0.0, 1.5), Belief("S", "b|1|9", 1.0, 3.0)]
    assert (invariants.at_most_one_believes(beliefs, held, []) == []) is excused
    assert invariants.at_most_one_believes([beliefs[1], *beliefs[:0]], held, []) == []


def test_two_voluntary_moves_within_two_seconds_are_found() -> None:
    there, back = Move(1.0, "S", "a", "b", "assigned"), Move(2.9, "S", "b", "a", "assigned")
    assert len(invariants.voluntary_moves_are_rare([there, back])) == 1
    assert invariants.voluntary_moves_are_rare([there, replace(back, at_s=3.0)]) == []
    assert invariants.voluntary_moves_are_rare([there, replace(back, reason="absent")]) == []
    assert invariants.voluntary_moves_are_rare([there, replace(back, symbol="T")]) == []


def test_what_a_stopped_node_holds_or_writes_is_found() -> None:
    held = Held("S", "a|1|7", 0.0, 4.5)
    stop = Stop(3.0, "a", "1")
    assert len(invariants.nothing_after_a_stop([stop], [held], [])) == 1
    assert invariants.nothing_after_a_stop([replace(stop, clean=False)], [held], []) == []
    assert invariants.nothing_after_a_stop([replace(stop, incarnation="2")], [held], []) == []
    released = replace(held, until_s=3.0, end="released")
    assert invariants.nothing_after_a_stop([stop], [released], []) == []
    assert len(invariants.nothing_after_a_stop([stop], [], [replace(FIRST, at_s=3.1)])) == 1
    assert invariants.nothing_after_a_stop([stop], [], [FIRST]) == []


@pytest.mark.parametrize("who", ["lease", "group", "placed", "writes"])
@pytest.mark.parametrize("instead", ["", "b"])
def test_whoever_disagrees_in_peace_is_found(who: str, instead: str) -> None:
    place = Place("S", "a", "a", "a", "a")
    assert invariants.all_agree([place]) == []
    assert len(invariants.all_agree([replace(place, **{who: instead})])) == 1


def test_a_symbol_that_stands_still_is_found() -> None:
    """At the beginning, in between, at the end; and a frozen state published again is no report."""
    writes = [replace(FIRST, at_s=at_s, watermark=int(10 * at_s)) for at_s in (1.0, 2.0, 3.0)]
    assert invariants.gaps(writes, ["S"], 1.0, 4.0) == []
    assert len(invariants.gaps(writes, ["S"], 1.0, 5.5)) == 1
    assert len(invariants.gaps(writes, ["S"], -1.5, 4.0)) == 1
    assert len(invariants.gaps(writes, ["S", "T"], 1.0, 4.0)) == 1
    assert len(invariants.gaps([writes[0], writes[2]], ["S"], 1.0, 4.0, limit_s=1.9)) == 1
    frozen = [writes[0], replace(writes[1], watermark=10), replace(FIRST, at_s=3.5, watermark=35)]
    (found,) = invariants.gaps(frozen, ["S"], 1.0, 4.0)
    assert "2.500 s" in found
