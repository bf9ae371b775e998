"""What goes wrong in a run: drawn from a seed, or only one thing."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

BEGIN_S: Final = 4.0
"""By then everybody has what is theirs."""

SPAN_S: Final = 10.0
QUIET_S: Final = 10.0
"""After the last fault, to come to rest."""

NAME_FREE_S: Final = 5.5
"""Longer than a heartbeat lives: a start on another machine waits for it."""

SESSION_S: Final = 10.0
KINDS: Final = {
    "crash": 5,
    "flap": 1,
    "pause": 5,
    "clock_jump": 2,
    "drift": 2,
    "lost_replies": 3,
    "delay": 3,
    "redis_down": 4,
    "cut_redis": 3,
    "cut_kafka": 2,
    "stop": 3,
}
PAUSES_S: Final = (0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        node: Whose; '' where it is nobody's.
        lasts_s: Until it is over: the node runs again, the cut is healed.
        size: How bad; what that means is the kind's: clock jump in ms, clock rate, share of lost
            replies, longest delay in s, age of the stale copy in s.
        how: ``kept``, ``wiped``, ``stale``; ``gone`` for good; ``elsewhere``: started again on
            another machine, which can't tell that the process before is dead.
    """

    at_s: float
    kind: str
    node: str = ""
    lasts_s: float = 0.0
    size: float = 0.0
    how: str = ""

    @property
    def over_s(self) -> float:
        """When it is over, and what follows from it by design."""
        over_s = self.at_s + self.lasts_s
        if self.how == "elsewhere":
            over_s += NAME_FREE_S
        if self.how == "gone" and self.kind == "crash":
            # Where no peer has seen it since Redis was away, none can tell that it has vanished.
            over_s += SESSION_S
        return over_s

    def __str__(self) -> str:
        words = [f"{self.at_s:7.3f} s", self.kind, self.node, self.how]
        if self.lasts_s:
            words.append(f"for {self.lasts_s:.3f} s")
        if self.size:
            words.append(f"size {self.size:.3f}")
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class Plan:
    """A run.

    Attributes:
        seed: Of everything that is not said here.
        ends_s: When what must be true in peace is looked at.
    """

    seed: int
    nodes: tuple[str, ...]
    symbols: tuple[str, ...]
    faults: tuple[Fault, ...]

    @property
    def over_s(self) -> float:
        """When the last fault is over."""
        return max((fault.over_s for fault in self.faults), default=BEGIN_S)

    @property
    def ends_s(self) -> float:
        """When the run ends."""
        return self.over_s + QUIET_S


def mixed(seed: int) -> Plan:
    """Several faults of all kinds, at once and after each other."""
    return _many(seed, random.Random(f"{seed}/plan"), (1, 2, 3, 3, 4, 5))


def heavy(seed: int) -> Plan:
    """So many faults that nobody comes to rest between them."""
    return _many(seed, random.Random(f"{seed}/heavy"), (6, 8, 10, 12))


def _many(seed: int, rng: random.Random, counts: tuple[int, ...]) -> Plan:
    nodes = tuple(f"n{n + 1}" for n in range(rng.choice((2, 3, 3, 4))))
    symbols = tuple(f"S{n}" for n in range(rng.choice((3, 4, 5))))
    gone: set[str] = set()
    faults = []
    for _ in range(rng.choice(counts)):
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        fault = _drawn(rng, kind, nodes, gone)
        faults.append(fault)
        if fault.how == "gone":
            gone.add(fault.node)
    return Plan(seed, nodes, symbols, tuple(sorted(faults, key=lambda f: f.at_s)))


def single(seed: int) -> Plan:
    """One node is killed or paused, and nothing else happens."""
    rng = random.Random(f"{seed}/single")
    nodes, symbols = ("n1", "n2", "n3"), ("S0", "S1", "S2", "S3", "S4")
    at_s, node = BEGIN_S + 2 + rng.random(), rng.choice(nodes)
    if rng.random() < 0.5:
        lasts_s, how = rng.choice(((0.05, ""), (1.0, ""), (3.0, ""), (10.0, ""), (0.0, "gone")))
        fault = Fault(at_s, "crash", node, lasts_s, how=how)
    else:
        fault = Fault(at_s, "pause", node, rng.choice(PAUSES_S))
    return Plan(seed, nodes, symbols, (fault,))


def _drawn(rng: random.Random, kind: str, nodes: tuple[str, ...], gone: set[str]) -> Fault:
    at_s = round(BEGIN_S + rng.random() * SPAN_S, 3)
    node = rng.choice(nodes)
    if kind in {"crash", "stop"}:
        for_good = len(nodes) - len(gone | {node}) >= 2 and rng.random() < 0.3
        # Not 0 unless for good: it would never come back, and nobody would know that it is gone.
        lasts_s = 0.0
        if not for_good:
            lasts_s = max(0.001, round(rng.choice((0.02, 0.3, 1.0, 4.0)) * rng.random(), 3))
        elsewhere = "elsewhere" if rng.random() < 0.2 else ""
        return Fault(at_s, kind, node, lasts_s, how="gone" if for_good else elsewhere)
    if kind == "flap":
        return Fault(at_s, kind, node, 2.0 * rng.choice((2, 3)))
    if kind == "pause":
        return Fault(at_s, kind, node, rng.choices(PAUSES_S, (3, 3, 3, 1))[0])
    if kind == "clock_jump":
        return Fault(at_s, kind, node, size=rng.choice((-60_000.0, 60_000.0)))
    if kind == "drift":
        return Fault(at_s, kind, node, size=round(rng.uniform(0.9, 1.1), 3))
    lasts_s = round(rng.uniform(0.5, 5.0), 3)
    if kind == "lost_replies":
        return Fault(at_s, kind, node, lasts_s, size=rng.choice((0.1, 0.5, 1.0)))
    if kind == "delay":
        return Fault(at_s, kind, node, lasts_s, size=rng.choice((0.1, 0.6, 2.0)))
    if kind == "redis_down":
        how = rng.choices(("kept", "wiped", "stale"), (2, 2, 2))[0]
        age_s = round(rng.uniform(0.1, 3.0), 3) if how == "stale" else 0.0
        return Fault(at_s, kind, "", lasts_s, size=age_s, how=how)
    return Fault(at_s, kind, node, lasts_s)
