"""Faults, and what is to be watched of each."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.cluster import Cluster, Node
from tests.support.redis_process import RedisProcess

PAUSE_S = 10.0
DOWN_S = 5.0
FLAPS = 10


@dataclass(slots=True)
class Fault:
    """One fault, as it was brought about.

    Attributes:
        began_s, ended_s: What is watched, monotonic.
        hit: The symbols it was to hit; those of the nodes that went.
        told: Figures of its own.
    """

    began_s: float
    ended_s: float = 0.0
    hit: set[str] = field(default_factory=set)
    told: dict[str, Any] = field(default_factory=dict)


async def _victim(running: Cluster, chance: random.Random) -> tuple[Node, set[str]]:
    """A node that writes something, and what."""
    owners = await running.owners()
    name = chance.choice(sorted(set(owners.values())))
    return running.node(name), {symbol for symbol, owner in owners.items() if owner == name}


async def kill(running: Cluster, chance: random.Random) -> Fault:
    """kill -9 of a worker that writes."""
    victim, symbols = await _victim(running, chance)
    fault = Fault(time.monotonic(), hit=symbols)
    await victim.killed()
    await asyncio.sleep(6)
    fault.ended_s = time.monotonic()
    await victim.start()
    return fault


async def pause(running: Cluster, chance: random.Random) -> Fault:
    """SIGSTOP for 10 s, then SIGCONT."""
    victim, symbols = await _victim(running, chance)
    fault = Fault(time.monotonic(), hit=symbols)
    victim.send(signal.SIGSTOP)
    await asyncio.sleep(PAUSE_S)
    victim.send(signal.SIGCONT)
    await asyncio.sleep(5)
    fault.ended_s = time.monotonic()
    return fault


async def _cut(running: Cluster, chance: random.Random, link: str) -> Fault:
    victim, symbols = await _victim(running, chance)
    fault = Fault(time.monotonic(), hit=symbols)
    proxy = getattr(victim, link)
    proxy.cut()
    await asyncio.sleep(PAUSE_S)
    proxy.heal()
    await asyncio.sleep(5)
    fault.ended_s = time.monotonic()
    if not victim.running:
        # A worker that is cut off from what it needs may end itself, to be started again.
        await victim.start()
    return fault


async def cut_redis(running: Cluster, chance: random.Random) -> Fault:
    """A worker's link to Redis drops everything for 10 s; nobody is told."""
    return await _cut(running, chance, "redis")


async def cut_kafka(running: Cluster, chance: random.Random) -> Fault:
    """A worker's link to Kafka drops everything for 10 s; nobody is told."""
    return await _cut(running, chance, "kafka")


async def _redis_away(running: Cluster, back: Callable[[], None]) -> Fault:
    fault = Fault(time.monotonic(), hit=set(running.symbols))
    evicted = _evictions(running)
    running.store.kill()
    await asyncio.sleep(DOWN_S)
    back()
    back_s = time.monotonic()
    await asyncio.sleep(4)
    fault.ended_s = time.monotonic()
    first = [
        next((write.heard_s for write in writes if write.heard_s > back_s), fault.ended_s) - back_s
        for writes in running.observer.writes.values()
    ]
    fault.told = {
        "first_write_s": round(max(first), 3),
        "evictions": _evictions(running) - evicted,
    }
    return fault


def _evictions(running: Cluster) -> int:
    return sum(len(node.said("node.evicted")) for node in running.nodes)


async def redis_restart(running: Cluster, _chance: random.Random) -> Fault:
    """Redis is killed, and back after 5 s with all it had."""
    return await _redis_away(running, running.store.start)


async def redis_wipe(running: Cluster, _chance: random.Random) -> Fault:
    """Redis is killed, and back after 5 s with nothing."""
    return await _redis_away(running, running.store.start)


async def redis_stale_replica(running: Cluster, _chance: random.Random) -> Fault:
    """Redis is killed; a replica that had lagged by 2 s is promoted in its place after 5 s."""
    master = running.store
    folder = running.folder / f"replica-{time.monotonic_ns()}"
    folder.mkdir()
    replica = RedisProcess(master.binary, folder)
    replica.start()
    replica.call("REPLICAOF", "127.0.0.1", str(master.port))
    while "master_link_status:up" not in replica.call("INFO", "replication"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    replica.call("REPLICAOF", "NO", "ONE")
    await asyncio.sleep(2)

    def promote() -> None:
        running.store = replica
        running.observer.url = replica.url
        for node in running.nodes:
            node.redis.target = replica.port

    return await _redis_away(running, promote)


async def broker_restart(running: Cluster, _chance: random.Random) -> Fault:
    """Kafka is killed, and back as soon as it starts."""
    fault = Fault(time.monotonic(), hit=set(running.symbols))
    running.kafka.kill()
    await running.kafka.child.wait()
    await running.kafka.start()
    back_s = time.monotonic()
    await asyncio.sleep(10)
    fault.ended_s = time.monotonic()
    fault.told = {"away_s": round(back_s - fault.began_s, 3)}
    return fault


async def rolling(running: Cluster, _chance: random.Random) -> Fault:
    """Each worker in turn is stopped by SIGTERM and started anew, when all is settled."""
    fault = Fault(time.monotonic(), hit=set(running.symbols))
    for node in running.nodes:
        node.send(signal.SIGTERM)
        status = await node.ended()
        assert status == 0, f"{node.name} ended with {status}: {node.tail()}"
        await asyncio.sleep(1)
        await node.start()
        await running.settled()
        await asyncio.sleep(1)
    fault.ended_s = time.monotonic()
    return fault


async def flap(running: Cluster, chance: random.Random) -> Fault:
    """One worker is killed and started again every 2 s, ten times."""
    victim, symbols = await _victim(running, chance)
    fault = Fault(time.monotonic(), hit=symbols)
    for _ in range(FLAPS):
        await victim.killed()
        await victim.start()
        await asyncio.sleep(2)
    fault.ended_s = time.monotonic()
    return fault


async def zombie_publish(running: Cluster, chance: random.Random) -> Fault:
    """What a worker sends to Redis is held on the way for 4 s, and comes after its successor's."""
    victim, symbols = await _victim(running, chance)
    fault = Fault(time.monotonic(), hit=symbols)
    # From a report on: were a tick held before it, its writer would send no report at all.
    victim.redis.hold(b":heavy")
    await asyncio.sleep(4)
    fault.told = {"held_chunks": victim.redis.release()}
    await asyncio.sleep(4)
    fault.ended_s = time.monotonic()
    return fault


async def scale(running: Cluster, _chance: random.Random) -> Fault:
    """From one worker to all of them, one after the other; and back to one."""
    fault = Fault(time.monotonic(), hit=set(running.symbols))
    idle = [node for node in running.nodes if not node.running]
    for node in idle:
        await node.start()
        await running.settled()
    for node in reversed(idle):
        node.send(signal.SIGTERM)
        await node.ended()
        await running.settled()
    fault.ended_s = time.monotonic()
    return fault


Scenario = Callable[[Cluster, random.Random], Awaitable[Fault]]

SCENARIOS: dict[str, Scenario] = {
    "kill": kill,
    "pause": pause,
    "cut-redis": cut_redis,
    "cut-kafka": cut_kafka,
    "redis-restart": redis_restart,
    "redis-wipe": redis_wipe,
    "redis-stale-replica": redis_stale_replica,
    "broker-restart": broker_restart,
    "rolling": rolling,
    "flap": flap,
    "zombie-publish": zombie_publish,
    "scale": scale,
}

DURABLE = {"redis-restart"}
FROM_ONE = {"scale"}
