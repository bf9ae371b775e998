"""How far a node says it is: lags, rates, and a size that stays small."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from agents import node_stats
from agents.node_stats import PARTITIONS_MAX, NodeFigures, NodeStats
from lua import Keys
from tapeline.clock import ManualClock
from tests.support.bridge import until
from tests.support.worker import eventually

HEALTH = {
    "status": "degraded",
    "outages": {"redis": {"seconds": 1.0, "error": "away"}},
    "assigned": True,
    "owned_symbols": ["BTCUSDT"],
    "assigned_symbols": ["BTCUSDT", "ETHUSDT"],
    "warm_symbols": [],
}


class Node:
    def __init__(self) -> None:
        self.clock = ManualClock(1_000)
        self.positions: dict[int, int | None] = {}
        self.ends: dict[int, int] = {}
        self.figures = NodeFigures(
            lambda: (False, dict(HEALTH)), lambda: self.positions, lambda: self.ends, self.clock
        )


def test_lag_and_rate_are_told_by_partition_and_together() -> None:
    node = Node()
    node.positions, node.ends = {0: 100, 1: 50, 2: None}, {0: 130, 1: 40}
    node.figures.look()
    node.clock.advance(2_000)
    node.positions = {0: 120, 1: 60, 2: None}
    told = node.figures.look()
    assert told["partitions"] == [
        {"partition": 0, "position": 120, "end": 130, "lag": 10, "rate_per_s": 10.0},
        {"partition": 1, "position": 60, "end": 60, "lag": 0, "rate_per_s": 5.0},
    ]
    assert (told["lag"], told["rate_per_s"]) == (10, 15.0)
    assert (told["status"], told["owned"], told["assigned"], told["warm"]) == ("degraded", 1, 2, 0)
    assert told["at_ms"] == 3_000


def test_it_stays_small_and_keeps_the_partitions_that_lag() -> None:
    node = Node()
    node.positions = dict.fromkeys(range(3_000), 10)
    node.ends = {2_999: 25}
    told = node.figures.look()
    assert len(told["partitions"]) == PARTITIONS_MAX
    assert told["partitions_left_out"] == 3_000 - PARTITIONS_MAX
    assert told["partitions"][-1]["partition"] == 2_999
    assert told["lag"] == 15
    assert len(json.dumps(told)) < 40_000


async def test_it_is_written_with_a_short_life(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_stats, "BEAT_MS", 120)
    node = Node()
    node.positions, node.ends = {3: 7}, {3: 9}
    async with Redis.from_url(redis_url) as redis:
        await redis.incr("nt:starts:worker:n1")
        task = asyncio.create_task(NodeStats("n1", node.figures).run(redis, Keys()))

        async def told() -> Any:
            payload = await redis.get("nt:node:n1:stats")
            return payload and json.loads(payload)

        first = await eventually(told, 3)
        assert (first["lag"], first["restarts"]) == (2, 1)
        assert 3 <= await redis.ttl("nt:node:n1:stats") <= 5
        node.positions = {3: 9}

        async def caught_up() -> bool:
            return (await told())["lag"] == 0

        await eventually(caught_up, 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("error", [RedisConnectionError("away"), KeyError("a fault of ours")])
async def test_whatever_goes_wrong_it_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_stats, "BEAT_MS", 120)
    tries = 0

    class Broken:
        def pipeline(self, **_: Any) -> Any:
            nonlocal tries
            tries += 1
            raise error

    task = asyncio.create_task(NodeStats("n1", Node().figures).run(Broken(), Keys()))  # type: ignore[arg-type]
    await until(lambda: tries >= 3)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
