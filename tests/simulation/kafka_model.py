"""A broker as far as coordination sees it: a topic that grows, a consumer group, a changelog."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from agents.coordination.hrw import Placement, place
from tests.simulation.loop import World

SESSION_S: Final = 10.0
REBALANCE_TIMEOUT_S: Final = 10.0
EVENTS_PER_S: Final = 25.0
LOOK_S: Final = 0.25


@dataclass(slots=True)
class Member:
    """One member of the group.

    Attributes:
        weight: What share it wants; 0 while it drains.
        held: Partitions it had last, as it says when it joins.
        joined: Whether it has joined the generation to come.
    """

    node: str
    heard_s: float
    weight: float = 1.0
    held: frozenset[int] = frozenset()
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Seat:
    """What a member was assigned."""

    generation: int
    own: frozenset[int]
    standby: frozenset[int]


@dataclass(slots=True)
class KafkaModel:
    """The broker.

    Attributes:
        changelog: By partition the newest checkpoint under each token: how far it has applied.
        committed: By partition the group's committed offset.
        cut: Nodes that do not reach it.
    """

    world: World
    rng: random.Random
    partitions: int
    trace: Callable[[str, str], None]
    changelog: dict[int, dict[int, int]] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    members: dict[str, Member] = field(default_factory=dict)
    placement: Placement = field(default_factory=lambda: Placement({}, {}))
    generation: int = 0
    _seats: dict[str, Seat] = field(default_factory=dict)
    _rebalancing: bool = False
    _earliest_s: float = 0.0
    _latest_s: float = 0.0
    _names: int = 0

    def __post_init__(self) -> None:
        self._look()

    # --- the topic -----------------------------------------------------------------------------

    def end(self, partition: int, now_s: float) -> int:
        """Next offset of a partition: it grows steadily, each at moments of its own."""
        return int((now_s + 1.0) * EVENTS_PER_S + 0.37 * partition)

    # --- the changelog -------------------------------------------------------------------------

    def saved(self, partition: int) -> tuple[int, int]:
        """The checkpoint that counts: (token, applied), of the highest token."""
        return max(self.changelog.get(partition, {}).items(), default=(0, -1))

    def save(
        self, member: str, partition: int, token: int, applied: int, older: Iterable[int]
    ) -> None:
        """A checkpoint, tombstones for older ones, and the commit behind it.

        The changelog takes what it is given, from whomever; only the commit asks for a seat.
        """
        book = self.changelog.setdefault(partition, {})
        book[token] = applied
        for gone in older:
            book.pop(gone, None)
        seat = self._seats.get(member)
        if seat is not None and partition in seat.own and not self._rebalancing:
            self.committed[partition] = applied + 1

    # --- the group -----------------------------------------------------------------------------

    def join(self, node: str, weight: float, held: frozenset[int]) -> str:
        """A new member; its id."""
        self._names += 1
        name = f"nt-{node}-{self._names}"
        self.members[name] = Member(node, self.world.now_s, weight, held)
        self._rebalance(f"{name} joins", name)
        return name

    def rejoin(self, name: str, weight: float, held: frozenset[int]) -> None:
        """A member has stopped its flow, and takes part in the next generation."""
        member = self.members.get(name)
        if member is not None:
            member.weight, member.held, member.joined = weight, held, True
            member.heard_s = self.world.now_s
            self._complete()

    def leave(self, names: set[str], why: str = "leaves") -> bool:
        """Members go; False if none of them was there."""
        gone = names & self.members.keys()
        for name in sorted(gone):
            del self.members[name]
            self._seats.pop(name, None)
            self._rebalance(f"{name} {why}")
        return bool(gone)

    def members_of(self, node: str) -> set[str]:
        """A node's member ids."""
        return {name for name, member in self.members.items() if member.node == node}

    def heartbeat(self, name: str, generation: int) -> Seat | str:
        """What a member is told: ``ok``, ``rebalance``, ``unknown``, or its new seat."""
        member = self.members.get(name)
        if member is None:
            return "unknown"
        member.heard_s = self.world.now_s
        if self._rebalancing:
            return "ok" if member.joined else "rebalance"
        seat = self._seats.get(name)
        return seat if seat is not None and seat.generation > generation else "ok"

    def owners(self) -> dict[int, str]:
        """Node by partition, as assigned last to members that are still there."""
        found: dict[int, str] = {}
        for name, seat in self._seats.items():
            if name in self.members:
                found |= dict.fromkeys(seat.own, self.members[name].node)
        return found

    def placed(self) -> dict[int, str]:
        """Node by partition as the members that are there would be dealt out now."""
        weights = {member.node: member.weight for member in self.members.values()}
        return place(dict.fromkeys(range(self.partitions), 1.0), weights, self.owners()).owners

    def _rebalance(self, why: str, joined: str = "") -> None:
        now_s = self.world.now_s
        self.trace("kafka", why)
        if not self._rebalancing:
            self._rebalancing = True
            for name, member in self.members.items():
                member.joined = name == joined
            self._earliest_s = now_s + self.rng.uniform(0.2, 1.5)
            self._latest_s = now_s + REBALANCE_TIMEOUT_S
        self.world.at(self._earliest_s, self._complete)

    def _look(self) -> None:
        """Sessions end by themselves."""
        now_s = self.world.now_s
        silent = {n for n, m in self.members.items() if now_s - m.heard_s > SESSION_S}
        if silent:
            self.leave(silent, "times out")
        if self._rebalancing and now_s >= self._latest_s:
            self.leave({n for n, m in self.members.items() if not m.joined}, "is late")
        self._complete()
        self.world.after(LOOK_S, self._look)

    def _complete(self) -> None:
        if not self._rebalancing or self.world.now_s < self._earliest_s:
            return
        if not all(member.joined for member in self.members.values()):
            return
        self._rebalancing = False
        self.generation += 1
        by_name = {member.node: name for name, member in sorted(self.members.items())}
        weights = {node: self.members[name].weight for node, name in by_name.items()}
        if not any(weights.values()):
            weights = dict.fromkeys(weights, 1.0)
        held = {p: node for node, name in by_name.items() for p in self.members[name].held}
        loads = dict.fromkeys(range(self.partitions), 1.0)
        self.placement = place(loads, weights, held)
        self._seats = {
            name: Seat(
                self.generation,
                frozenset(self.placement.owned(node)) if by_name[node] == name else frozenset(),
                frozenset(self.placement.standing_by(node)),
            )
            for name, node in ((n, m.node) for n, m in self.members.items())
        }
        self.trace("kafka", f"generation {self.generation}: {self.placement.owners}")
