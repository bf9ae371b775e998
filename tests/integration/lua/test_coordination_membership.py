"""Heartbeats on a real Redis: one live process a name, said in words when there are two."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from agents.coordination import membership as module
from agents.coordination.connections import Connections
from agents.coordination.membership import DuplicateNode, Membership
from lua import Keys, Scripts
from tapeline.clock import SystemClock
from tests.support.coordination import RecordingSink, until
from tests.support.redis_process import RedisProcess

NODE = Keys().node("n1")
NO_PID = 2**22 + 1
"""Above the highest there can be."""


@asynccontextmanager
async def member(url: str, **changes: Any) -> AsyncIterator[Membership]:
    """A membership not yet started, stopped at the end."""
    connections = Connections(url, 2000)
    made = Membership(
        Scripts(connections.writer),
        "n1",
        "http://127.0.0.1:9101/metrics",
        sink=RecordingSink(),
        on_duplicate=changes.pop("on_duplicate", None),
        rng=random.Random(1),
    )
    made.node = replace(made.node, **changes)
    try:
        yield made
    finally:
        await made.stop()
        await connections.close()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


async def beaten(redis: Redis, **changes: Any) -> dict[str, Any]:
    """A heartbeat of another process, that will never be renewed."""
    other = Membership(Scripts(redis), "n1", "http://elsewhere")
    node = replace(other.node, **changes)
    await redis.set(NODE, node.payload(1_700_000_000_000), px=60_000)
    found: dict[str, Any] = orjson.loads(node.payload(1_700_000_000_000))
    return found


async def test_a_heartbeat_says_who_lives_where(server: RedisProcess, redis: Redis) -> None:
    async with member(server.url) as me:
        assert me.last_heartbeat_ts == 0
        before_ms = SystemClock().now_ms()
        await me.start()
        said = orjson.loads(await redis.get(NODE))
        assert said["node_id"] == "n1"
        assert said["incarnation"] == me.incarnation
        assert said["pid"] == os.getpid()
        assert said["hostname"] == os.uname().nodename
        assert said["metrics_url"] == "http://127.0.0.1:9101/metrics"
        assert before_ms - 1000 <= said["started_at"] <= said["last_heartbeat"]
        assert said["last_heartbeat"] == me.last_heartbeat_ts >= before_ms
        assert me.alive == ("n1",)
        assert 4000 < await redis.pttl(NODE) <= 5000
    assert await redis.keys() == []


async def test_it_beats_each_second_give_or_take_a_tenth(
    server: RedisProcess, redis: Redis
) -> None:
    async with member(server.url) as me:
        await me.start()
        sink = me._sink
        assert isinstance(sink, RecordingSink)
        await until(lambda: len(sink.beats) == 4, 4)
        gaps = [later[0] - earlier[0] for earlier, later in pairwise(sink.beats)]
        assert all(0.9 <= gap <= 1.2 for gap in gaps)
        assert len({round(gap, 2) for gap in gaps}) > 1
        assert all(accepted for _, accepted in sink.beats)


async def test_a_name_in_use_is_refused_in_words(server: RedisProcess, redis: Redis) -> None:
    async with member(server.url, hostname="first.example", pid=17) as first:
        await first.start()
        async with member(server.url) as second:
            with pytest.raises(DuplicateNode) as caught:
                await second.start()
        assert str(caught.value) == (
            "node id 'n1' is in use by pid 17 on first.example; expected one process a node id: "
            "stop that one, or set another NT_NODE_ID"
        )
        assert orjson.loads(await redis.get(NODE))["incarnation"] == first.incarnation


async def test_the_name_of_a_process_that_died_here_is_free_at_once(
    server: RedisProcess, redis: Redis
) -> None:
    await beaten(redis, pid=dead_pid())
    async with member(server.url) as me:
        await asyncio.wait_for(me.start(), 1)
        assert orjson.loads(await redis.get(NODE))["incarnation"] == me.incarnation


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": 1},  # lives, whoever's it is
        {"pid": os.getpid()},
        {"pid": 0},
        {"pid": "odd"},
        {"pid": NO_PID, "pid_space": "elsewhere"},
        {"pid": NO_PID, "pid_space": ""},
    ],
)
async def test_the_name_of_any_other_silent_process_is_waited_for(
    server: RedisProcess, redis: Redis, changes: dict[str, Any]
) -> None:
    await beaten(redis, **changes)
    await redis.pexpire(NODE, 600)
    async with member(server.url) as me:
        starting = asyncio.create_task(me.start())
        await asyncio.sleep(0.3)
        assert not starting.done()
        await asyncio.wait_for(starting, 1)


async def test_without_pid_namespaces_nobody_is_taken_for_dead(
    server: RedisProcess, redis: Redis
) -> None:
    await beaten(redis, pid=NO_PID, pid_space="")
    await redis.pexpire(NODE, 400)
    async with member(server.url, pid_space="") as me:
        starting = asyncio.create_task(me.start())
        await asyncio.sleep(0.2)
        assert not starting.done()
        await asyncio.wait_for(starting, 1)


async def test_a_name_that_does_not_expire_is_refused_in_the_end(
    server: RedisProcess, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_MS", 300)
    await redis.set(NODE, "what is this")
    async with member(server.url) as me:
        with pytest.raises(DuplicateNode, match=r"pid \? on \?"):
            await me.start()


async def test_a_name_taken_while_this_one_slept_ends_its_beats(
    server: RedisProcess, redis: Redis
) -> None:
    found: list[DuplicateNode] = []
    async with member(server.url, on_duplicate=found.append) as me:
        await me.start()
        said = await beaten(redis, pid=4711, hostname="new.example")
        await until(lambda: bool(found), 2)
        assert found[0].holder == said
        assert "pid 4711 on new.example" in str(found[0])
        await asyncio.sleep(1.2)
        assert len(found) == 1
    # Leaving does not take the successor along.
    assert orjson.loads(await redis.get(NODE)) == said


async def test_an_outage_is_counted_and_survived(own_server: RedisProcess) -> None:
    async with member(own_server.url) as me:
        await me.start()
        sink = me._sink
        assert isinstance(sink, RecordingSink)
        first = me.last_heartbeat_ts
        own_server.kill()
        await until(lambda: sink.beats[-1][1] is False)
        assert sink.counts["failed:connection"] == 1
        assert me.last_heartbeat_ts == first
        own_server.start()
        await until(lambda: sink.beats[-1][1] is True)
        assert me.last_heartbeat_ts > first


async def test_a_start_waits_for_redis(own_server: RedisProcess) -> None:
    own_server.kill()
    async with member(own_server.url) as me:
        starting = asyncio.create_task(me.start())
        await asyncio.sleep(0.1)
        assert not starting.done()
        own_server.start()
        await asyncio.wait_for(starting, 1)


async def test_a_stop_without_redis_does_not_hang(own_server: RedisProcess) -> None:
    async with member(own_server.url) as me:
        await me.start()
        own_server.pause()
        await asyncio.wait_for(me.stop(), 1)
        own_server.resume()


def test_a_machine_without_proc_has_no_pid_space(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.pid_space() == module.pid_space() != ""
    monkeypatch.setattr(os, "readlink", lambda _: (_ for _ in ()).throw(FileNotFoundError()))
    assert module.pid_space() == ""


def test_a_process_of_another_user_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_mine(_pid: int, _signal: int) -> None:
        raise PermissionError

    me = Membership(Scripts(Redis()), "n1", "")
    monkeypatch.setattr(os, "kill", not_mine)
    assert not me._is_dead({"pid": 4711, "pid_space": me.node.pid_space})
