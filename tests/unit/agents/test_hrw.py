"""Who gets which partition, and how little moves when somebody comes or goes."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.coordination.hrw import LOAD_BOUND, Placement, place, ranked, score, select_node

PARTITIONS = 64
EQUAL = dict.fromkeys(range(PARTITIONS), 1.0)


def alike(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, 1.0)


def clusters(count: int, nodes: int = 10) -> list[dict[str, float]]:
    """Sets of nodes with names that no hash was tuned to."""
    rng = random.Random(20)
    return [alike(*(f"node-{rng.randrange(10**9)}" for _ in range(nodes))) for _ in range(count)]


def without(nodes: Mapping[str, float], gone: str) -> dict[str, float]:
    return {node: weight for node, weight in nodes.items() if node != gone}


def moved(before: Placement, after: Placement) -> set[int]:
    return {p for p, node in before.owners.items() if after.owners[p] != node}


def load_of(placement: Placement, node: str, loads: Mapping[int, float]) -> float:
    return sum(loads[p] for p in placement.owned(node))


# --- scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "key", "expected"),
    [
        ("a", "0", 1.4185124929811441),
        ("n1", "17", 1.0662824480233555),
        ("worker-eu-1", "63", 0.8149967191816071),
        ("knoten-ä", "5", 164.92300676648375),
    ],
)
def test_a_score_is_the_same_on_every_machine(node: str, key: str, expected: float) -> None:
    """Python's own hash is another one in each process; leaders change, placements must not."""
    assert score(node, key) == pytest.approx(expected, rel=1e-12)


def test_names_are_told_apart_from_keys() -> None:
    """'a1' and '2' is not 'a' and '12'."""
    assert score("a1", "2") != score("a", "12")


def test_a_weight_multiplies_the_score() -> None:
    assert score("a", "7", 3.0) == pytest.approx(3 * score("a", "7"))


def test_nodes_are_ranked_by_score_and_the_weightless_not_at_all() -> None:
    order = ranked("7", {"a": 1.0, "b": 1.0, "c": 2.0, "gone": 0.0, "odd": -1.0})
    assert sorted(order) == ["a", "b", "c"]
    scores = [score(node, "7", 2.0 if node == "c" else 1.0) for node in order]
    assert scores == sorted(scores, reverse=True)


# --- one key -------------------------------------------------------------------------------------


def rivals(key: str, *, apart: float) -> tuple[dict[str, float], str, str]:
    """Two nodes, the second's score higher by a share of the first's; with their names."""
    first, second = "a", "b"
    weight = score(first, key) * (1 + apart) / score(second, key)
    return {first: 1.0, second: weight}, first, second


def test_a_key_stays_until_another_s_score_is_higher_by_more_than_the_share() -> None:
    """Else two nodes of nearly one score would pass it back and forth as weights change."""
    nodes, holder, better = rivals("7", apart=0.019)
    assert select_node("7", nodes) == better
    assert select_node("7", nodes, holder, 0.02) == holder
    nodes, holder, better = rivals("7", apart=0.021)
    assert select_node("7", nodes, holder, 0.02) == better
    assert select_node("7", nodes, holder, 0.03) == holder
    assert select_node("7", nodes, better, 0.0) == better


def test_a_holder_that_is_gone_or_weighs_nothing_keeps_nothing() -> None:
    assert select_node("7", {"a": 1.0}, "gone") == "a"
    assert select_node("7", {"a": 0.0, "b": 1.0}, "a", 10.0) == "b"
    assert select_node("7", {"a": 0.0}, "a") is None
    assert select_node("7", {}) is None


def test_a_node_of_twice_the_weight_gets_twice_as_many_keys() -> None:
    nodes = {"a": 1.0, "b": 2.0, "c": 1.0}
    keys = 4000
    got = [select_node(str(key), nodes) for key in range(keys)]
    for node, weight in nodes.items():
        assert got.count(node) / keys == pytest.approx(weight / 4, abs=0.03)


def test_a_node_that_goes_moves_only_its_own_keys() -> None:
    nodes = alike("a", "b", "c", "d")
    for key in range(500):
        before = select_node(str(key), nodes)
        after = select_node(str(key), without(nodes, "d"))
        assert before in {after, "d"}


# --- all partitions ------------------------------------------------------------------------------


def test_no_node_gets_more_than_a_quarter_above_the_mean() -> None:
    """Hashing alone gives one of ten half as much again."""
    for nodes in clusters(200):
        placement = place(EQUAL, nodes, {})
        assert sorted(placement.owners) == sorted(EQUAL)
        most = max(len(placement.owned(node)) for node in nodes)
        assert most / (PARTITIONS / len(nodes)) <= 1.25


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 10])
def test_a_node_that_goes_moves_its_own_partitions_each_to_its_standby(count: int) -> None:
    """The bound widens as shares grow; who was turned away by it before stays all the same."""
    for nodes in clusters(15, count):
        before = place(EQUAL, nodes, {})
        for gone in nodes:
            after = place(EQUAL, without(nodes, gone), before.owners)
            assert moved(before, after) == set(before.owned(gone))
            assert {p: after.owners[p] for p in before.owned(gone)} == {
                p: node for p, node in before.standbys.items() if before.owners[p] == gone
            }


@pytest.mark.parametrize("count", [3, 4, 6])
def test_orphans_find_their_standbys_with_uneven_loads_too(count: int) -> None:
    """Whatever the order in which they ask: a node that is full of small ones takes no large one."""
    rng = random.Random(4)
    for nodes in clusters(25, count):
        loads = {p: float(rng.randint(1, 5)) for p in EQUAL}
        before = place(loads, nodes, {})
        gone = rng.choice(sorted(nodes))
        after = place(loads, without(nodes, gone), before.owners)
        assert moved(before, after) == set(before.owned(gone))
        assert all(after.owners[p] == before.standbys[p] for p in before.owned(gone))


def test_a_cluster_that_loses_one_after_another_moves_orphans_only() -> None:
    """From ten to one, each step from where the one before has led."""
    for nodes in clusters(10):
        left, placement = dict(nodes), place(EQUAL, nodes, {})
        for gone in sorted(nodes)[:-1]:
            left = without(left, gone)
            after = place(EQUAL, left, placement.owners)
            assert moved(placement, after) == set(placement.owned(gone))
            most = max(len(after.owned(node)) for node in left)
            assert most <= max(LOAD_BOUND * PARTITIONS / len(left), -(-PARTITIONS // len(left)))
            placement = after
        assert set(placement.owners.values()) == set(left)


def test_a_standby_is_another_node_and_every_partition_has_one() -> None:
    for nodes in clusters(50):
        placement = place(EQUAL, nodes, {})
        assert sorted(placement.standbys) == sorted(EQUAL)
        assert all(placement.owners[p] != node for p, node in placement.standbys.items())
        assert {p for node in nodes for p in placement.standing_by(node)} == set(EQUAL)


def test_a_node_that_comes_takes_and_the_others_pass_nothing_among_themselves() -> None:
    """At most twice what must move, which is its share; but for what the bound drives out."""
    among_others = 0
    for nodes in clusters(100):
        new = min(nodes)
        before = place(EQUAL, without(nodes, new), {})
        after = place(EQUAL, nodes, before.owners)
        changed = moved(before, after)
        assert len(changed) <= 2 * PARTITIONS / len(nodes)
        assert after.owned(new)
        assert max(len(after.owned(node)) for node in nodes) <= LOAD_BOUND * PARTITIONS / 10
        among_others += sum(after.owners[p] != new for p in changed)
        for p in changed:
            if after.owners[p] != new:  # its node had more than it may have now
                assert len(before.owned(before.owners[p])) > LOAD_BOUND * PARTITIONS / 10
    assert among_others <= 10


def test_a_node_that_comes_back_gets_what_wants_it_most() -> None:
    """It was here before: what went elsewhere for its sake alone comes back."""
    for nodes in clusters(50):
        first = place(EQUAL, nodes, {})
        gone = min(nodes)
        away = place(EQUAL, without(nodes, gone), first.owners)
        back = place(EQUAL, nodes, away.owners)
        best = {
            p
            for p in first.owned(gone)
            if select_node(str(p), nodes, away.owners[p]) == gone == ranked(str(p), nodes)[0]
        }
        assert best <= set(back.owned(gone))


def test_a_partition_stays_with_its_holder_within_the_share_and_moves_beyond() -> None:
    """To a node that has nothing; for one that has something it never leaves."""
    nodes, holder, better = rivals("7", apart=0.019)
    assert place({7: 1.0}, nodes, {7: holder}).owners == {7: holder}
    assert place({7: 1.0}, nodes, {7: holder}, 0.0).owners == {7: better}
    nodes, holder, better = rivals("7", apart=0.021)
    assert place({7: 1.0}, nodes, {7: holder}).owners == {7: better}
    loads = {7: 1.0, 8: 1.0, 9: 1.0}
    held = {7: holder, 8: holder, 9: better}
    assert place(loads, alike(holder, better), held).owners == held


SMALL = st.dictionaries(st.integers(0, 63), st.integers(1, 5).map(float), max_size=64)
NODES = st.dictionaries(
    st.text("abcdefgh-0123", min_size=1, max_size=6),
    st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0, 2.0]),
    max_size=8,
)


@settings(max_examples=80, deadline=None)
@given(loads=SMALL, nodes=NODES, data=st.data())
def test_a_placement_is_whole_and_the_same_in_whatever_order_it_is_asked(
    loads: dict[int, float], nodes: dict[str, float], data: st.DataObject
) -> None:
    """Every member that leads must come to one result."""
    holders = st.sampled_from([*nodes, "gone"])
    held = data.draw(st.dictionaries(st.integers(0, 63), holders, max_size=64))
    placement = place(loads, nodes, held)
    usable = {node for node, weight in nodes.items() if weight > 0}
    assert set(placement.owners) == (set(loads) if usable else set())
    assert set(placement.owners.values()) <= usable
    assert set(placement.standbys) == (set(loads) if len(usable) > 1 else set())
    assert all(placement.owners[p] != node for p, node in placement.standbys.items())
    again = place(
        dict(data.draw(st.permutations([*loads.items()]))),
        dict(data.draw(st.permutations([*nodes.items()]))),
        dict(data.draw(st.permutations([*held.items()]))),
    )
    assert again == placement
    assert list(again.owners) == list(placement.owners)


def test_what_it_says_it_says_again() -> None:
    """A rebalance for no reason moves nothing, even after many for a reason."""
    rng = random.Random(3)
    for nodes in clusters(30, 6):
        loads = {p: float(rng.randint(1, 5)) for p in EQUAL}
        held: dict[int, str] = {}
        for _ in range(4):
            up = {node: 1.0 for node in nodes if rng.random() < 0.7} or nodes
            placement = place(loads, up, held)
            held = placement.owners
            assert place(loads, up, held) == placement


def test_what_it_says_of_any_past_it_says_again() -> None:
    """Weights, loads and holders at random: what is turned away leaves room that others find."""
    rng = random.Random(9)
    for _ in range(400):
        nodes = {f"n{rng.randrange(999)}": rng.choice([0.5, 1.0, 2.0]) for _ in range(5)}
        loads = {p: float(rng.randint(1, 5)) for p in range(rng.randint(1, 20))}
        held = {p: rng.choice([*nodes, "gone"]) for p in loads if rng.random() < 0.7}
        placement = place(loads, nodes, held)
        assert place(loads, nodes, placement.owners) == placement


def test_uneven_loads_are_bounded_by_load_not_by_number() -> None:
    rng = random.Random(5)
    for nodes in clusters(60, 5):
        loads = {p: float(rng.randint(1, 5)) for p in EQUAL}
        placement = place(loads, nodes, {})
        share = sum(loads.values()) / len(nodes)
        assert max(load_of(placement, node, loads) for node in nodes) <= LOAD_BOUND * share


def test_one_partition_heavier_than_a_share_has_a_node_all_the_same() -> None:
    """No bound can hold it; it is dealt out and stays where it is."""
    loads = {**dict.fromkeys(range(20), 1.0), 20: 100.0}
    nodes = alike("a", "b", "c", "d")
    placement = place(loads, nodes, {})
    assert sorted(placement.owners) == sorted(loads)
    assert place(loads, nodes, placement.owners) == placement


def test_few_partitions_go_to_as_many_nodes() -> None:
    """Three symbols on ten nodes are three nodes' work."""
    for nodes in clusters(50):
        placement = place({3: 1.0, 17: 1.0, 40: 1.0}, nodes, {})
        assert len(set(placement.owners.values())) == 3
        assert set(place({3: 0.0}, nodes, {}).owners) == {3}


def test_weights_give_proportional_shares_of_partitions() -> None:
    nodes = {"a": 1.0, "b": 2.0, "c": 1.0}
    loads = dict.fromkeys(range(1024), 1.0)
    placement = place(loads, nodes, {})
    for node, weight in nodes.items():
        assert len(placement.owned(node)) / 1024 == pytest.approx(weight / 4, rel=0.15)


def test_one_node_has_all_and_nobody_stands_by() -> None:
    placement = place(EQUAL, {"a": 1.0, "drains": 0.0}, dict.fromkeys(EQUAL, "drains"))
    assert placement.owned("a") == sorted(EQUAL)
    assert placement.standbys == {}
    assert placement.standing_by("a") == []


def test_without_nodes_there_is_no_placement() -> None:
    assert place(EQUAL, {}, {}) == Placement({}, {})
    assert place(EQUAL, {"a": 0.0}, dict.fromkeys(EQUAL, "a")) == Placement({}, {})
    assert place({}, alike("a", "b"), {}) == Placement({}, {})
