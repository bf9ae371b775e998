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

LASTING: Final = 3
"""Looks in a row that must find the same kind of difference before it is repaired."""

REPAIR_AGAIN_MS: Final = 30_000


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
    # Without a heartbeat it can write nothing: what it has is to be another's.
    able = {node: weights.get(node, 0.0) for node in seats}
    placed = place_symbols(symbols, able, held, sticky_pct)
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
        self._repaired_ms: int | None = None

    def due(self, found: Differences, nodes: Collection[str], now_ms: int) -> bool:
        """Whether it is time, and ours: the first node by name does it for all.

        Args:
            found: At this look. Leases come right by themselves; a node without a seat takes one.
            nodes: Those with a seat.
            now_ms: Monotonic.
        """
        self._lasting = self._lasting + 1 if found.misplaced else 0
        if self._lasting < LASTING or self._node_id != min(nodes, default=self._node_id):
            return False
        if self._repaired_ms is not None and now_ms - self._repaired_ms < REPAIR_AGAIN_MS:
            return False
        self._lasting, self._repaired_ms = 0, now_ms
        return True
