"""The look every few seconds: what it has the group told, and when."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from agents.assignor import HrwAssignor
from agents.coordination.hrw import place_symbols
from agents.coordination.reconcile import LASTING
from agents.metrics import Metrics
from agents.oversight import Oversight
from tapeline.clock import SystemClock
from tapeline.config import load_settings

SYMBOLS = dict.fromkeys(range(64), 1)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    kept = HrwAssignor.weight
    yield
    HrwAssignor.weight = kept


class Group:
    """Two nodes, as "a" sees them."""

    def __init__(self) -> None:
        self.alive = True
        self.nodes = {"a": 1.0, "b": 1.0}
        self.rejoins = 0
        placed = place_symbols(SYMBOLS, self.nodes, {})
        self.seats = {node: placed.owned(node) for node in self.nodes}
        self.assignor: Any = SimpleNamespace(said_weight=1.0, seats=lambda: self.seats)

    async def weights(self) -> dict[str, float]:
        return self.nodes

    def rejoin(self) -> None:
        self.rejoins += 1

    def oversight(self) -> Oversight:
        ownership: Any = SimpleNamespace(
            is_alive=lambda: self.alive, weights=self.weights, owned=lambda: ["X"]
        )
        app = SimpleNamespace(
            assignor=self.assignor, consumer=SimpleNamespace(request_rejoin=self.rejoin)
        )
        shards: Any = SimpleNamespace(symbols=lambda: ["X"])
        settings = load_settings({}, node_id="a")
        return Oversight(app, settings, shards, ownership, Metrics(), SystemClock(), SYMBOLS)


async def test_where_all_agree_nothing_is_asked_for() -> None:
    group = Group()
    oversight = group.oversight()
    for _ in range(5):
        await oversight._look()
    assert group.rejoins == 0
    assert HrwAssignor.weight == 1.0


async def test_a_node_that_was_taken_for_unable_says_at_once_that_it_is_not() -> None:
    """It joined without Redis, and was given nothing; nobody else would see anything wrong."""
    group = Group()
    oversight = group.oversight()
    group.alive = False
    await oversight._look()
    assert HrwAssignor.weight == 0.0
    group.assignor.said_weight = 0.0  # a rebalance meanwhile
    await oversight._look()
    assert group.rejoins == 0
    group.alive = True
    await oversight._look()
    assert group.rejoins == 1
    group.assignor.said_weight = 1.0
    await oversight._look()
    assert group.rejoins == 1


async def test_a_node_without_redis_for_a_moment_asks_for_nothing() -> None:
    """No rebalance has come in between: it has what it had."""
    group = Group()
    oversight = group.oversight()
    group.alive = False
    await oversight._look()
    group.alive = True
    await oversight._look()
    assert group.rejoins == 0


async def test_what_a_dead_node_still_has_is_dealt_out_anew() -> None:
    group = Group()
    oversight = group.oversight()
    del group.nodes["b"]
    for _ in range(LASTING):
        await oversight._look()
    assert oversight.found.misplaced == len(group.seats["b"])
    assert group.rejoins == 1
