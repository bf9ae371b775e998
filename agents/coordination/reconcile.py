"""Whether lease, rendezvous hashing and Kafka agree on who has what. Pure.

Each is brought in line by its own means: leases follow the assignment, the assignment follows the
hashing at each rebalance. What is left of a difference after some looks is repaired by asking the
group to assign anew; what is repaired nowhere is at least counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from agents.coordination.hrw import place_symbols

LASTING: Final = 2
"""Looks in a row that must find the same kind of difference before it is repaired."""

REPAIR_AGAIN_MS: Final = 30_000
"""Between two repairs of the same nodes: nodes that follow other symbols see other differences, and
each could undo what the other has asked for. Where nodes have come or gone, it is another matter."""


@dataclass(frozen=True, slots=True)
class Differences:
    """How many of each kind.

    Attributes:
        unheld: Symbols that Kafka has assigned to us, and whose lease we do not hold.
        foreign: Symbols whose lease we hold, and that Kafka has assigned to another.
        misplaced: Partitions that are not where the hashing puts them.
        seatless: Nodes that are alive, and have no seat in the group.
    """

    unheld: int = 0
    foreign: int = 0
    misplaced: int = 0
    seatless: int = 0

    def by_kind(self) -> dict[str, int]:
        """For a metric."""
        return {
            "unheld": self.unheld,
            "foreign": self.foreign,
            "misplaced": self.misplaced,
            "seatless": self.seatless,
        }


def able_nodes(seats: Collection[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Weight of each node with a seat; one without a heartbeat can write nothing."""
    return {node: weights.get(node, 0.0) for node in seats}


def differences(
    owned: Collection[str],
    assigned: Collection[str],
    seats: Mapping[str, Collection[int]],
    weights: Mapping[str, float],
    symbols: Mapping[int, int],
    sticky_pct: float,
) -> Differences:
    """What differs now.

    Args:
        owned: Symbols whose lease we hold.
        assigned: Symbols that Kafka has assigned to us.
        seats: Each group member's partitions, by node.
        weights: Weight of each node that is alive, 0 while it drains.
        symbols: How many each partition has.
        sticky_pct: As the assignor has it.
    """
    held = {partition: node for node, partitions in seats.items() for partition in partitions}
    placed = place_symbols(symbols, able_nodes(seats, weights), held, sticky_pct)
    misplaced = sum(1 for p, node in placed.owners.items() if held.get(p) != node)
    return Differences(
        unheld=len(set(assigned) - set(owned)),
        foreign=len(set(owned) - set(assigned)),
        misplaced=misplaced,
        seatless=sum(1 for node, weight in weights.items() if weight > 0 and node not in seats),
    )


class Repairs:
    """When to ask the group to assign anew.

    Args:
        node_id: Ours.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._lasting = 0
        self._repaired: tuple[int, dict[str, float]] | None = None

    def due(self, found: Differences, able: Mapping[str, float], now_ms: int) -> bool:
        """Whether it is time, and ours: of those that can write, the first by name does it for all.

        Args:
            found: At this look. Leases come right by themselves; a node without a seat takes one.
            able: Weight of each node with a seat; 0 where it can write nothing, or drains.
            now_ms: Monotonic.
        """
        self._lasting = self._lasting + 1 if found.misplaced else 0
        first = min((node for node, weight in able.items() if weight > 0), default=self._node_id)
        if self._lasting < LASTING or self._node_id != first:
            return False
        if self._repaired is not None:
            repaired_ms, as_it_was = self._repaired
            if as_it_was == able and now_ms - repaired_ms < REPAIR_AGAIN_MS:
                return False
        self._lasting, self._repaired = 0, (now_ms, dict(able))
        return True
