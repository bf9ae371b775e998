"""Which two reports belong together: same records, moments as close as can be had."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tapeline.compare.pairing import APART_MAX_MS, HOLD_MS, Pair, Pairing, Part, parts_of


def part(offset: int, now_ms: int, partition: int = 0) -> Part:
    return Part(now_ms, ("t", partition, offset), {"offset": offset})


def paired(ours: list[Part], theirs: list[Part], near_ms: int = 0) -> tuple[Pairing, list[Pair]]:
    pairing = Pairing(near_ms)
    for one in ours:
        pairing.add(0, one)
    for one in theirs:
        pairing.add(1, one)
    return pairing, pairing.settle(everything=True)


def test_equal_offsets_are_paired_and_others_stay_alone() -> None:
    pairing, pairs = paired([part(1, 100), part(2, 200)], [part(2, 205), part(3, 300)])
    assert [(p.a.where[2], p.b.where[2], p.skew_ms) for p in pairs] == [(2, 2, 5)]
    assert (pairing.taken, pairing.alone) == ([2, 2], [1, 1])


def test_an_equal_offset_of_another_partition_is_no_pair() -> None:
    """A symbol moves when the topic is made anew with another number of them."""
    _, pairs = paired([part(1, 100)], [part(1, 100, partition=1)])
    assert pairs == []


def test_of_several_reports_of_one_offset_the_closest_are_paired() -> None:
    """In a quiet market the same records are reported again and again."""
    ours = [part(1, 100), part(1, 350), part(1, 600)]
    theirs = [part(1, 352), part(1, 601), part(1, 851)]
    pairing, pairs = paired(ours, theirs)
    assert sorted((p.a.now_ms, p.b.now_ms) for p in pairs) == [(100, 851), (350, 352), (600, 601)]
    pairing, pairs = paired(ours, [part(1, 352), part(1, 100 + APART_MAX_MS + 251)])
    assert [(p.a.now_ms, p.b.now_ms) for p in pairs][:1] == [(350, 352)]
    assert pairing.alone == [1, 0]


def test_what_is_near_is_paired_only_where_that_is_asked_for() -> None:
    ours, theirs = [part(1, 100), part(2, 200)], [part(2, 200), part(3, 130)]
    _, pairs = paired(ours, theirs)
    assert [p.near for p in pairs] == [False]
    pairing, pairs = paired(ours, theirs, near_ms=50)
    assert [(p.a.where[2], p.b.where[2], p.near) for p in pairs] == [(2, 2, False), (1, 3, True)]
    assert pairing.alone == [0, 0]
    _, pairs = paired(ours, theirs, near_ms=29)
    assert len(pairs) == 1


def test_a_part_that_comes_along_again_is_one() -> None:
    """Each report brings the slow part along until there is a newer one."""
    pairing = Pairing()
    for _ in range(8):
        pairing.add(0, part(5, 1000))
    pairing.add(1, part(5, 1001))
    assert len(pairing.settle(everything=True)) == 1
    assert pairing.taken == [1, 1]


def test_a_report_waits_for_its_other() -> None:
    """One system may be slower in writing; who waits too long is given up."""
    pairing = Pairing()
    pairing.add(0, part(1, 1000))
    assert pairing.settle() == []
    pairing.add(0, part(2, 1000 + HOLD_MS - 1))
    assert pairing.settle() == []
    pairing.add(1, part(1, 1200))
    pairing.add(0, part(3, 1200 + HOLD_MS))
    assert [(p.a.where[2], p.b.where[2]) for p in pairing.settle()] == [(1, 1)]
    assert pairing.alone == [0, 0]
    pairing.add(1, part(9, 1200 + 9 * HOLD_MS))
    assert pairing.settle() == []
    assert pairing.alone == [2, 0]


@pytest.mark.parametrize("seed", range(20))
def test_settling_on_the_way_finds_what_settling_at_the_end_does(seed: int) -> None:
    """Two writers on one grid, each a little late, each now and then left out."""
    rng = random.Random(seed)
    events = []
    for side in (0, 1):
        for at_ms in range(0, 60_000, 250):
            now_ms = at_ms + rng.randrange(40)
            if rng.random() < 0.9:
                events.append((now_ms, side, part(now_ms // rng.choice([20, 20, 25]), now_ms)))
    events.sort(key=lambda each: each[0])
    assert all(a[0] <= b[0] for a, b in pairwise(events))
    late, early = Pairing(), Pairing()
    on_the_way = []
    for _, side, one in events:
        late.add(side, one)  # type: ignore[arg-type]
        early.add(side, one)  # type: ignore[arg-type]
        on_the_way += early.settle()
    on_the_way += early.settle(everything=True)
    at_the_end = late.settle(everything=True)
    assert sorted(on_the_way) == sorted(at_the_end)
    assert (early.alone, early.taken) == (late.alone, late.taken)
    assert len(at_the_end) > 20


def test_a_report_has_two_parts_of_a_moment_each() -> None:
    fast = {"topic": "t", "partition": 1, "offset": 9, "now_ms": 100}
    slow = {"topic": "t", "partition": 1, "offset": 7, "now_ms": 80}
    body = {"source": {"fast": fast, "slow": slow}, "x": 1, "liquidity": {"w": 1}, "anomalies": []}
    found = parts_of(body)
    assert found["fast"].where == ("t", 1, 9)
    assert "liquidity" not in found["fast"].body
    assert found["slow"] == Part(80, ("t", 1, 7), {"liquidity": {"w": 1}, "anomalies": []})
    body["source"]["slow"] = None  # type: ignore[index]
    assert set(parts_of(body)) == {"fast"}
