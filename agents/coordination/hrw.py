"""Who gets which partition: rendezvous hashing with weights, bounded loads and hysteresis. Pure.

Each node has a score for each partition, drawn from a hash of both names: the highest gets it,
the second keeps a warm copy (D. Thaler and C. Ravishankar, *Using name-based mappings to increase
hit rates*, 1998). When a node goes, only its own partitions move, each to the node that is warm
already; when one comes, it takes from all others alike. Weights enter as in C. Schindelhauer and
G. Schomaker, *Weighted distributed hash tables* (2005): a node of weight 2 gets twice as much.

Hashing alone leaves one node of ten with half as much again as the mean. So loads are bounded, and
who is turned away goes to its next choice (V. Mirrokni, M. Thorup, M. Zadimoghaddam, *Consistent
hashing with bounded loads*, 2018). What a node has comes before what it might get: nobody is
crowded out by a newcomer's better score. And what has a place leaves it only for a node that has
nothing yet: bounds widen when a node goes, and whoever was turned away before stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import ceil, log
from typing import Final

LOAD_BOUND: Final = 1.25
"""No node gets more than this times its share."""

STICKY_PCT: Final = 0.02

ROUNDS_MAX: Final = 8
"""Of one placement; hardly any takes more than two."""

_DRAWS: Final = 2.0**64


@lru_cache(maxsize=65_536)
def _draw(node: str, key: str) -> float:
    """-ln of a number between 0 and 1 that belongs to the two names."""
    digest = blake2b(f"{node}\0{key}".encode(), digest_size=8).digest()
    return -log((int.from_bytes(digest, "big") + 0.5) / _DRAWS)


def score(node: str, key: str, weight: float = 1.0) -> float:
    """How much a node wants a key: positive, comparable among nodes of one key."""
    return weight / _draw(node, key)


def ranked(key: str, nodes: Mapping[str, float]) -> list[str]:
    """All nodes, the one with the highest score first.

    Args:
        key: What is to be placed.
        nodes: Weight by node; one that is not above 0 gets nothing.
    """
    return sorted(
        (node for node, weight in nodes.items() if weight > 0),
        key=lambda node: (-score(node, key, nodes[node]), node),
    )


def select_node(
    key: str,
    nodes: Mapping[str, float],
    current: str | None = None,
    sticky_pct: float = STICKY_PCT,
) -> str | None:
    """The node for one key, loads aside; None without nodes.

    Args:
        key: What is to be placed.
        nodes: Weight by node.
        current: Who has it: it keeps it until another's score is higher by more than
        sticky_pct: this share.
    """
    order = ranked(key, nodes)
    if not order:
        return None
    if current is not None and nodes.get(current, 0) > 0:
        held = score(current, key, nodes[current]) * (1 + sticky_pct)
        if score(order[0], key, nodes[order[0]]) <= held:
            return current
    return order[0]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where partitions are.

    Attributes:
        owners: Node by partition.
        standbys: By partition the node that is to be warm; none where there is one node only.
    """

    owners: dict[int, str]
    standbys: dict[int, str]

    def owned(self, node: str) -> list[int]:
        """A node's partitions."""
        return [partition for partition, owner in self.owners.items() if owner == node]

    def standing_by(self, node: str) -> list[int]:
        """Partitions that a node keeps warm."""
        return [partition for partition, second in self.standbys.items() if second == node]


def place(
    loads: Mapping[int, float],
    nodes: Mapping[str, float],
    held: Mapping[int, str],
    sticky_pct: float = STICKY_PCT,
) -> Placement:
    """Owner and standby of each partition.

    The same for whoever computes it. What it says is a fixed point: with its owners as ``held``
    it says the same again.

    Args:
        loads: Load by partition, at least 0; any unit.
        nodes: Weight by node.
        held: Who has a partition now; nodes that are gone may be named.
        sticky_pct: By how much another's score must be higher for a partition to move.
    """
    weights = {node: weight for node, weight in nodes.items() if weight > 0}
    if not weights:
        return Placement({}, {})
    owners: Mapping[int, str] = held
    for _ in range(ROUNDS_MAX):
        taken: dict[str, set[int]] = {node: set() for node in weights}
        _settle(loads, loads, weights, owners, sticky_pct, taken)
        before, owners = owners, _owners(taken)
        if owners == before:
            break
    return Placement(dict(sorted(owners.items())), _standbys(loads, weights, taken, sticky_pct))


def _owners(taken: Mapping[str, set[int]]) -> dict[int, str]:
    return {partition: node for node, has in taken.items() for partition in has}


def place_symbols(
    symbols: Mapping[int, int],
    nodes: Mapping[str, float],
    held: Mapping[int, str],
    sticky_pct: float = STICKY_PCT,
) -> Placement:
    """`place` by the number of symbols in each partition.

    Partitions without a symbol are placed by themselves: dealt out evenly, and never at a symbol's
    cost.
    """
    full = {p: float(count) for p, count in symbols.items() if count}
    empty = {p: 1.0 for p, count in symbols.items() if not count}
    placed = [place(loads, nodes, held, sticky_pct) for loads in (full, empty)]
    return Placement(
        dict(sorted((placed[0].owners | placed[1].owners).items())),
        dict(sorted((placed[0].standbys | placed[1].standbys).items())),
    )


def _standbys(
    loads: Mapping[int, float],
    weights: Mapping[str, float],
    taken: Mapping[str, set[int]],
    sticky_pct: float,
) -> dict[int, str]:
    """Where each partition would be if its owner went: nobody else is to be warm."""
    standbys: dict[int, str] = {}
    if len(weights) == 1:
        return standbys
    owners = _owners(taken)
    for gone, orphans in taken.items():
        rest = {node: weight for node, weight in weights.items() if node != gone}
        after = {node: set(taken[node]) for node in rest}
        _settle(orphans, loads, rest, owners, sticky_pct, after)
        standbys |= {p: node for node, has in after.items() for p in has & orphans}
    return dict(sorted(standbys.items()))


def _settle(
    partitions: Iterable[int],
    loads: Mapping[int, float],
    weights: Mapping[str, float],
    held: Mapping[int, str],
    sticky_pct: float,
    taken: dict[str, set[int]],
) -> None:
    """Add partitions to what is taken: each to its best node that has room for it.

    A partition asks its best node first. A node with too much sends away what it wants least,
    which asks its next. With equal loads, where it ends does not depend on who asked first (D. Gale
    and L. Shapley, *College admissions and the stability of marriage*, 1962).
    """
    rooms = _rooms(loads, weights)
    empty = weights.keys() - {held[partition] for partition in loads if partition in held}
    wishes: dict[int, list[str]] = {}
    # What has a place first: then what a node's orphans find is what `_standbys` found.
    waiting = sorted(partitions, key=lambda p: (held.get(p) in weights, -p))
    while waiting:
        partition = waiting.pop()
        if partition not in wishes:
            holder = held.get(partition)
            wishes[partition] = _wishes(partition, weights, holder, empty, sticky_pct)
        if not wishes[partition]:
            # Turned away everywhere: loads are too uneven for the bound.
            least = min(weights, key=lambda n: (_load(taken[n], loads) / weights[n], n))
            taken[least].add(partition)
            continue
        node = wishes[partition].pop()
        taken[node].add(partition)
        refused = _crowded_out(node, taken[node], rooms[node], loads, held, weights[node])
        taken[node].difference_update(refused)
        waiting += refused


def _rooms(loads: Mapping[int, float], weights: Mapping[str, float]) -> dict[str, float]:
    """What each node may have: `LOAD_BOUND` times its share, or the share in whole partitions."""
    total, all_weights = sum(loads.values()), sum(weights.values())
    largest = max(loads.values(), default=0.0) or 1.0
    rooms = {}
    for node, weight in weights.items():
        share = total * weight / all_weights
        rooms[node] = max(LOAD_BOUND * share, ceil(share / largest - 1e-9) * largest) + 1e-9
    return rooms


def _wishes(
    partition: int,
    weights: Mapping[str, float],
    holder: str | None,
    empty: Set[str],
    sticky_pct: float,
) -> list[str]:
    """Where a partition would go, the best last: it leaves its holder for empty nodes only."""
    key = str(partition)
    worths = {node: score(node, key, weight) for node, weight in weights.items()}
    enough = worths.get(holder, 0.0) * (1 + sticky_pct) if holder is not None else 0.0

    def worth(node: str) -> tuple[bool, bool, float, str]:
        better = node in empty and worths[node] > enough
        return better or enough == 0.0, node == holder, worths[node], node

    return sorted(weights, key=worth)


def _crowded_out(
    node: str,
    partitions: Iterable[int],
    room: float,
    loads: Mapping[int, float],
    held: Mapping[int, str],
    weight: float,
) -> list[int]:
    """What a node has no room for: newcomers first, of the lowest scores."""
    left = list(partitions)
    load = _load(left, loads)
    if load <= room or len(left) == 1:
        return []
    left.sort(key=lambda p: (held.get(p) == node, score(node, str(p), weight), p))
    refused = []
    for partition in left[:-1]:
        if load <= room:
            break
        if loads[partition] > 0:
            refused.append(partition)
            load -= loads[partition]
    return refused


def _load(partitions: Iterable[int], loads: Mapping[int, float]) -> float:
    return sum(loads[partition] for partition in partitions)
