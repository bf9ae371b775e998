"""The lease manager on a real Redis: keeps what it may, stops when it does not know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from lua import Acquired, Keys, Scripts
from tests.support.coordination import Desk, desk, until
from tests.support.redis_process import RedisProcess

KEYS = Keys()
LEASE = KEYS.writer("X").lease
TTL_MS = 400


def token_of(node: Desk, symbol: str = "X") -> int:
    lease = node.leases.current(symbol)
    assert lease is not None
    return lease.token


async def test_wanted_leases_are_held_and_renewed(server: RedisProcess, redis: Redis) -> None:
    symbols = [f"S{number}" for number in range(40)]
    async with desk(server.url, ttl_ms=TTL_MS) as node:
        node.leases.want(dict.fromkeys(symbols, 0))
        await node.leases.settled()
        assert node.leases.owned() == node.leases.wanted() == symbols
        assert sorted(node.gained) == sorted(symbols)
        tokens = [token_of(node, symbol) for symbol in symbols]
        await asyncio.sleep(2.5 * TTL_MS / 1000)
        assert node.leases.owned() == symbols
        assert [token_of(node, symbol) for symbol in symbols] == tokens
        assert await redis.get(KEYS.writer("S7").lease) == f"a|1|{tokens[7]}".encode()
        assert node.sink.held[-1] == 40
        assert not node.sink.counts
        assert node.leases.token("S7") == tokens[7]


async def test_a_stop_releases_every_lease(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url) as node:
        await node.hold("X", "Y")
        token = token_of(node)
    assert await redis.keys("report:writer:*") == await redis.keys("report:writer:token:*")
    assert await redis.get(KEYS.writer("X").counter) == str(token).encode()
    assert node.sink.held[-1] == 0
    assert node.leases.owned() == []


async def test_what_is_no_longer_wanted_is_released(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url) as node:
        await node.hold("X", "Y")
        node.leases.want({"Y": 0})
        assert node.leases.current("X") is None
        await node.leases.settled()
        assert not await redis.exists(LEASE)
        assert node.leases.owned() == ["Y"]


async def test_another_s_lease_is_taken_when_it_has_ended_and_not_before(
    server: RedisProcess, redis: Redis, scripts: Scripts
) -> None:
    other = await scripts.acquire(KEYS.writer("X"), "b", "1", 250)
    async with desk(server.url, ttl_ms=TTL_MS) as node:
        node.leases.want({"X": 0})
        await node.leases.settled()
        assert node.leases.owned() == []
        assert await redis.get(LEASE) == other.lease_value.encode()
        assert 0.1 < await until(lambda: node.leases.owned() == ["X"]) < 0.5
        assert token_of(node) > other.token


async def test_the_lease_of_this_node_s_past_is_taken_over_at_once(
    server: RedisProcess, scripts: Scripts
) -> None:
    """After a kill -9 nobody waits for a dead process's lease."""
    dead = await scripts.acquire(KEYS.writer("X"), "a", "0", 60_000)
    async with desk(server.url, "a", "1") as node:
        node.leases.want({"X": 0})
        await node.leases.settled()
        assert node.leases.owned() == ["X"]
        assert token_of(node) > dead.token


async def test_a_known_token_is_the_floor_of_the_next(server: RedisProcess, redis: Redis) -> None:
    """Out of the checkpoints: Redis may have lost everything and its clock stand wrong."""
    ahead = time.time_ns() // 1_000_000 + 3_600_000
    async with desk(server.url) as node:
        node.leases.want({"X": ahead})
        await node.leases.settled()
        assert token_of(node) == ahead + 1


async def test_a_stolen_lease_is_noticed_at_the_next_renewal(
    server: RedisProcess, scripts: Scripts, redis: Redis
) -> None:
    async with desk(server.url, ttl_ms=TTL_MS) as node:
        await node.hold("X")
        mine = await redis.get(LEASE)
        await scripts.acquire_many([(KEYS.writer("X"), 0, mine.decode())], "b", "1", 60_000)
        assert await until(lambda: not node.leases.owned()) < TTL_MS / 1000 / 4 + 0.1
        assert node.sink.counts["lost:taken"] == 1


async def test_a_lease_that_was_refused_is_asked_for_again(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        lease = node.leases.current("X")
        assert lease is not None
        await redis.delete(LEASE)
        node.leases.drop("X", lease.value, "not_owner")
        assert node.leases.owned() == []
        await until(lambda: node.leases.owned() == ["X"])
        assert token_of(node) > lease.token
        node.leases.drop("X", lease.value, "not_owner")  # of a write that was under way
        assert node.leases.owned() == ["X"]
        assert node.sink.counts["lost:not_owner"] == 1


async def test_one_symbol_that_redis_refuses_leaves_the_others(
    server: RedisProcess, redis: Redis
) -> None:
    await redis.lpush(LEASE, "not a string")
    async with desk(server.url, ttl_ms=TTL_MS) as node:
        node.leases.want({"X": 0, "Y": 0, "Z": 2**60})
        await node.leases.settled()
        assert node.leases.owned() == ["Y"]
        assert node.sink.counts["failed:refused"] == 2
        await redis.delete(LEASE)
        await until(lambda: node.leases.owned() == ["X", "Y"])


class Slow(Scripts):
    """Answers wishes when it is told to."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def acquire_many(self, *args: Any) -> Sequence[Any]:  # type: ignore[override]
        answers = await super().acquire_many(*args)
        self.asked.set()
        await self.answer.wait()
        return answers


async def test_a_grant_that_comes_too_late_is_given_back(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url, scripts=lambda c: Slow(c.writer)) as node:
        assert isinstance(node.scripts, Slow)
        node.leases.want({"X": 0})
        await node.scripts.asked.wait()
        assert await redis.exists(LEASE)
        node.leases.want({})
        node.scripts.answer.set()
        await node.leases.settled()
        assert node.leases.owned() == []
        assert not await redis.exists(LEASE)


class Failing(Scripts):
    """Has a bug, once."""

    bugs = 1

    async def acquire_many(self, *args: Any) -> list[Acquired | Any]:
        if self.bugs:
            self.bugs -= 1
            raise ZeroDivisionError
        return await super().acquire_many(*args)


async def test_a_bug_does_not_end_the_renewals(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url, scripts=lambda c: Failing(c.writer)) as node:
        await node.hold("X")
        assert node.sink.counts["failed:internal"] == 1


# --- Redis away ----------------------------------------------------------------------------------


async def test_without_answers_writing_stops_before_the_lease_ends(
    own_server: RedisProcess,
) -> None:
    async with desk(own_server.url, ttl_ms=1000) as node:
        await node.hold("X")
        own_server.pause()
        try:
            took = await until(lambda: not node.leases.owned(), 2)
            # A renewal falls due within a quarter and is waited for a quarter.
            assert took < 1.0 - 0.166
            assert node.sink.counts["lost:unknown"] == 1
        finally:
            own_server.resume()
        await until(lambda: node.leases.owned() == ["X"])
        assert node.sink.counts["failed:timeout"] >= 1


async def test_a_short_pause_of_redis_costs_no_token(server: RedisProcess, redis: Redis) -> None:
    """Unknown, so not written under; then Redis says that it is still ours."""
    async with desk(server.url, ttl_ms=1200) as node:
        await node.hold("X")
        token = token_of(node)
        await redis.client_pause(700)
        await until(lambda: not node.leases.owned())
        await until(lambda: node.leases.owned() == ["X"])
        assert token_of(node) == token
        assert node.sink.counts["lost:unknown"] == 1


async def test_after_a_restart_without_data_the_token_is_higher(own_server: RedisProcess) -> None:
    async with desk(own_server.url, ttl_ms=TTL_MS) as node:
        await node.hold("X")
        token = token_of(node)
        own_server.kill()
        await until(lambda: not node.leases.owned())
        own_server.start()
        assert await until(lambda: node.leases.owned() == ["X"]) < 0.5
        assert token_of(node) > token
        assert node.leases.token("X") == token_of(node)


async def test_a_stop_without_redis_does_not_hang(own_server: RedisProcess) -> None:
    async with desk(own_server.url, ttl_ms=TTL_MS) as node:
        await node.hold("X")
        own_server.pause()
        start = time.monotonic()
    assert time.monotonic() - start < 1.5
    own_server.resume()


async def test_a_redis_that_comes_up_later_is_found(own_server: RedisProcess) -> None:
    own_server.kill()
    async with desk(own_server.url, ttl_ms=TTL_MS) as node:
        node.leases.want({"X": 0})
        await node.leases.settled()
        assert node.leases.owned() == []
        own_server.start()
        assert await until(lambda: node.leases.owned() == ["X"]) < 0.5


async def test_scripts_that_redis_forgot_cost_no_lease(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url, ttl_ms=TTL_MS) as node:
        await node.hold("X")
        token = token_of(node)
        for _ in range(4):
            await redis.script_flush()
            await asyncio.sleep(TTL_MS / 4 / 1000)
        assert token_of(node) == token
        assert not node.sink.counts
