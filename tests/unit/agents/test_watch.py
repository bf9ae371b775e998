"""The watch over what others write: looks, what is taken, and who is thrown out of the group."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from agents.coordination import watch
from agents.coordination.sink import NullSink
from agents.coordination.takeover import EVICT_AGAIN_MS, FREE_MS, STALL_MS, Takeover
from agents.coordination.view import QUIET_MS, View
from agents.coordination.watch import Watched, Watcher
from lua import Keys, Sight
from tapeline.clock import ManualClock
from tests.support.coordination import until

LEASE = "n2|1|7"


class Sink(NullSink):
    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []

    def taking(self, symbol: str, reason: str) -> None:
        self.said.append(("taking", symbol, reason))

    def failed(self, reason: str) -> None:
        self.said.append(("failed", reason))

    def evicted(self, node: str) -> None:
        self.said.append(("evicted", node))


class Scene:
    """A watcher with nothing real around it but its view and its rules."""

    def __init__(self) -> None:
        self.clock = ManualClock(50_000)
        self.view = View("n1")
        self.view.connected(self.clock.monotonic_ms())
        self.clock.advance(QUIET_MS)
        self.watched: dict[str, Watched] = {}
        self.sights: dict[str, Any] = {}
        self.error: Exception | None = None
        self.looks = 0
        self.taken: list[tuple[str, str, int]] = []
        self.sign, self.removed = "connection refused", True
        self.asked: list[str] = []
        self.thrown_out: list[str] = []
        self.sink = Sink()
        scripts: Any = SimpleNamespace(keys=Keys(), look_many=self._look_many)
        leases: Any = SimpleNamespace(take=lambda *args: self.taken.append(args))
        self.watcher = Watcher(
            scripts,
            leases,
            self.view,
            Takeover("n1", 3000),
            lambda: self.watched,
            self,
            clock=self.clock,
            sink=self.sink,
        )

    async def _look_many(self, leases: list[Any]) -> list[Any]:
        self.looks += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        by_lease = {Keys().writer(symbol).lease: seen for symbol, seen in self.sights.items()}
        return [by_lease[keys.lease] for keys in leases]

    async def second_sign(self, node: str) -> str:
        self.asked.append(node)
        await asyncio.sleep(0)
        return self.sign

    async def evict(self, node: str) -> bool:
        self.thrown_out.append(node)
        return self.removed

    def vanish(self, *nodes: str, others: tuple[str, ...] = ()) -> None:
        """These were there, and are not any more."""
        there = dict.fromkeys((*nodes, *others), 1)
        for seen in (there, there | dict.fromkeys(nodes, 0), there | dict.fromkeys(nodes, 0)):
            self.view.looked(seen, self.clock.monotonic_ms())

    async def look(self) -> None:
        """One pass, and whatever it has begun."""
        await self.watcher._pass()
        await asyncio.gather(*self.watcher._evictions)


@pytest.fixture
async def scene() -> Scene:
    """One symbol, another's, of which we have a copy that is as far."""
    scene = Scene()
    scene.watched = {"X": Watched(100, False)}
    scene.sights = {"X": Sight(LEASE, 1500, 40, 100)}
    return scene


async def test_while_all_is_well_nothing_is_done(scene: Scene) -> None:
    for _ in range(5):
        await scene.look()
        scene.clock.advance(5000)
    assert (scene.taken, scene.asked, scene.sink.said) == ([], [], [])
    assert scene.looks == 5


async def test_without_a_copy_of_anything_nobody_is_asked(scene: Scene) -> None:
    """And the dead are thrown out all the same."""
    scene.watched = {}
    scene.vanish("n2")
    await scene.look()
    assert scene.looks == 0
    assert scene.thrown_out == ["n2"]


async def test_the_lease_of_a_node_that_vanished_is_taken_as_it_was_seen(scene: Scene) -> None:
    """With the token that was published under, so that the next is above it."""
    await scene.look()
    scene.vanish("n2")
    await scene.look()
    assert scene.taken == [("X", LEASE, 40)]
    assert scene.sink.said == [("taking", "X", "absent"), ("evicted", "n2")]


async def test_what_a_copy_gets_between_two_looks_counts_from_then(scene: Scene) -> None:
    """A look comes seldom; a stall is measured from the record."""
    await scene.look()
    scene.clock.advance(100)
    scene.watcher.note("X", 101)
    scene.watched = {"X": Watched(150, False)}
    scene.clock.advance(STALL_MS - 1)
    await scene.look()
    assert scene.taken == []
    scene.clock.advance(1)
    await scene.look()
    assert scene.taken == [("X", LEASE, 40)]
    assert scene.sink.said == [("taking", "X", "stalled")]


async def test_draining_free_and_assigned_are_passed_on(scene: Scene) -> None:
    for symbol, lease in (("Y", "n3|1|8"), ("Z", "")):
        scene.watched[symbol] = Watched(100, symbol == "Y")
        scene.sights[symbol] = Sight(lease, 0, 41, 100)
    scene.view.looked({"n2": 1}, scene.clock.monotonic_ms())
    scene.view.draining.add("n2|1")
    await scene.look()
    scene.clock.advance(max(FREE_MS, 3000))
    await scene.look()
    reasons = {said[1]: said[2] for said in scene.sink.said}
    assert reasons == {"X": "draining", "Y": "assigned", "Z": "free"}
    assert ("Z", "", 41) in scene.taken


async def test_a_symbol_that_cannot_be_looked_at_is_left(scene: Scene) -> None:
    """A key of another type, say; the others are watched on."""
    scene.watched["Y"] = Watched(100, False)
    scene.sights["Y"] = ResponseError("WRONGTYPE")
    scene.vanish("n2")
    await scene.look()
    assert [symbol for symbol, _, _ in scene.taken] == ["X"]


async def test_while_redis_is_away_nothing_is_taken_and_each_failure_counted(
    scene: Scene,
) -> None:
    await scene.look()
    scene.watcher.note("X", 101)
    scene.error = RedisConnectionError("away")
    for _ in range(3):
        scene.clock.advance(STALL_MS)
        await scene.look()
    assert scene.taken == []
    assert scene.sink.said == [("failed", "connection")] * 3
    scene.error, scene.sights["X"] = None, Sight(LEASE, 1500, 40, 101)
    await scene.look()
    assert scene.taken == []


# --- eviction ------------------------------------------------------------------------------------


async def test_without_a_second_sign_a_node_is_spared(scene: Scene) -> None:
    """Its lease is taken; its seat in the group costs everybody a rebalance."""
    scene.sign = ""
    scene.vanish("n2")
    await scene.look()
    assert scene.asked == ["n2"]
    assert scene.thrown_out == []
    assert scene.sink.said == [("taking", "X", "absent")]


async def test_one_that_is_back_when_the_second_sign_comes_is_spared(scene: Scene) -> None:
    """A new start of it would be thrown out instead."""
    scene.vanish("n2")
    await scene.watcher._pass()
    scene.view.looked({"n2": 1}, scene.clock.monotonic_ms())
    await asyncio.gather(*scene.watcher._evictions)
    assert scene.asked == ["n2"]
    assert scene.thrown_out == []


async def test_a_node_is_thrown_out_once_and_again_only_after_a_while(scene: Scene) -> None:
    scene.vanish("n2")
    for _ in range(3):
        await scene.look()
    assert scene.thrown_out == ["n2"]
    scene.clock.advance(EVICT_AGAIN_MS)
    scene.removed = False
    await scene.look()
    assert scene.thrown_out == ["n2", "n2"]
    assert scene.sink.said.count(("evicted", "n2")) == 1  # the second time it had no member left


async def test_another_s_turn_is_waited_for(scene: Scene) -> None:
    """Names decide: n0 is there, and before us."""
    scene.vanish("n2", others=("n0", "n9"))
    await scene.look()
    assert scene.asked == []
    scene.clock.advance(1000)
    await scene.look()
    assert scene.asked == ["n2"]


async def test_an_eviction_that_fails_harms_nobody(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_node: str) -> bool:
        raise OSError("no broker")

    monkeypatch.setattr(scene, "evict", fail)
    scene.vanish("n2")
    await scene.look()
    assert scene.taken == [("X", LEASE, 40)]


# --- the task ------------------------------------------------------------------------------------


async def test_it_looks_when_it_is_woken(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only each time that it would have anyway."""
    monkeypatch.setattr(watch, "WATCH_S", 60.0)
    task = asyncio.create_task(scene.watcher.run())
    await until(lambda: scene.looks == 1)
    scene.vanish("n2")
    scene.watcher.wake()
    await until(lambda: scene.taken == [("X", LEASE, 40)])
    assert scene.looks == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_goes_wrong_in_one_look_does_not_end_the_watch(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WATCH_S", 0.001)
    monkeypatch.setattr(watch, "RETRY_S", 0.001)
    scene.error = ValueError("a mistake of ours")
    task = asyncio.create_task(scene.watcher.run())
    await until(lambda: scene.looks > 2)
    scene.error = None
    scene.vanish("n2")
    await until(lambda: bool(scene.taken))
    assert ("failed", "internal") in scene.sink.said
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_with_its_end_evictions_under_way_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(_node: str) -> str:
        scene.asked.append("n2")
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(scene, "second_sign", wait)
    scene.vanish("n2")
    task = asyncio.create_task(scene.watcher.run())
    await until(lambda: scene.asked == ["n2"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not scene.watcher._evictions)
