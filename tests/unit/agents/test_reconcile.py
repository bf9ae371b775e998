"""What differs between lease, hashing and Kafka, and when the group is asked to assign anew."""

from __future__ import annotations

from agents.coordination.hrw import place_symbols
from agents.coordination.reconcile import (
    LASTING,
    REPAIR_AGAIN_MS,
    Differences,
    Repairs,
    differences,
)

NODES = {"a": 1.0, "b": 1.0, "c": 1.0}
SYMBOLS = {partition: int(partition % 4 == 0) for partition in range(64)}


def placed() -> dict[str, list[int]]:
    placement = place_symbols(SYMBOLS, NODES, {})
    return {node: placement.owned(node) for node in NODES}


def test_where_all_agree_nothing_differs() -> None:
    found = differences(["X"], ["X"], placed(), NODES, SYMBOLS, 0.02)
    assert found == Differences()
    assert set(found.by_kind().values()) == {0}


def test_leases_are_compared_with_the_assignment() -> None:
    """Both ways."""
    found = differences(["X", "Y", "Z"], ["X", "W"], placed(), NODES, SYMBOLS, 0.02)
    assert (found.unheld, found.foreign) == (1, 2)


def test_the_assignment_is_compared_with_the_hashing() -> None:
    """Where a node drains, what it has lies wrong."""
    seats = placed()
    found = differences([], [], seats, {**NODES, "b": 0.0}, SYMBOLS, 0.02)
    assert found.misplaced == len(seats["b"])


def test_what_a_node_without_a_heartbeat_has_lies_wrong() -> None:
    """It is in the group, and can write nothing."""
    seats = placed()
    alive = {"a": 1.0, "c": 1.0}
    assert differences([], [], seats, alive, SYMBOLS, 0.02).misplaced == len(seats["b"])


def test_a_node_without_a_seat_is_counted_unless_it_drains() -> None:
    alive = {**NODES, "d": 1.0, "e": 0.0}
    assert differences([], [], placed(), alive, SYMBOLS, 0.02).seatless == 1


def test_a_repair_waits_for_a_lasting_difference_and_is_done_by_one() -> None:
    """The first by name; and not again at once."""
    wrong = Differences(misplaced=2)
    first, second = Repairs("a"), Repairs("b")
    for look in range(LASTING):
        assert first.due(wrong, NODES, look) == (look == LASTING - 1)
        assert not second.due(wrong, NODES, look)
    for look in range(10):
        assert not first.due(wrong, NODES, 100 + look)
    assert first.due(wrong, NODES, REPAIR_AGAIN_MS + 200)


def test_a_repair_does_not_wait_where_nodes_have_come_or_gone_since() -> None:
    wrong, repairs = Differences(misplaced=2), Repairs("a")
    assert [repairs.due(wrong, NODES, look) for look in range(LASTING)][-1]
    without = {**NODES, "c": 0.0}
    assert [repairs.due(wrong, without, 100 + look) for look in range(LASTING)][-1]
    assert not any(repairs.due(wrong, without, 200 + look) for look in range(10))


def test_who_can_write_nothing_repairs_nothing() -> None:
    """The first by name may be cut off, and would leave all others waiting."""
    wrong, second = Differences(misplaced=2), Repairs("b")
    without = {**NODES, "a": 0.0}
    assert [second.due(wrong, without, look) for look in range(LASTING)][-1]


def test_a_difference_that_passes_is_not_repaired() -> None:
    repairs = Repairs("a")
    for look in range(20):
        found = Differences(misplaced=1) if look % LASTING else Differences(unheld=4, foreign=1)
        assert not repairs.due(found, NODES, look)
