"""The publisher while replies are lost and Redis is away: goes on, and writes the newest after."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from lua import Keys, PublishCode, Scripts
from tests.support.coordination import Desk, desk, encoder, tick_encoder, until
from tests.support.redis_process import RedisProcess

LEASE = Keys().writer("X").lease


async def word(node: Desk, key: str = "report:X") -> object:
    stored = await node.stored(key)
    return stored and stored["word"]


def published(node: Desk, kind: str = "report") -> int:
    return node.sink.counts[f"published:{kind}"]


# --- lost replies, forgotten scripts ---------------------------------------------------------------


class Deaf(Scripts):
    """Writes, and loses the reply."""

    deaf = 0
    seen: list[list[PublishCode | Any]]

    async def publish_many(self, writes: Any, ttl_ms: int) -> list[Any]:
        codes = await super().publish_many(writes, ttl_ms)
        self.seen = [*getattr(self, "seen", []), codes]
        if self.deaf:
            self.deaf -= 1
            raise RedisTimeoutError("Timeout reading from socket")
        return codes


async def test_a_write_whose_reply_was_lost_is_repeated_and_counted_once(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url, scripts=lambda c: Deaf(c.writer)) as node:
        assert isinstance(node.scripts, Deaf)
        await node.hold("X")
        node.scripts.deaf = 2
        node.publisher.put("X", 1, encoder("w"))
        await until(lambda: published(node) == 1)
        assert node.scripts.seen == [
            [PublishCode.OK],
            [PublishCode.DUPLICATE],
            [PublishCode.DUPLICATE],
        ]
        assert node.sink.counts["failed:timeout"] == 2
        stored = await node.stored("report:X")
        assert stored is not None
        assert stored["seq"] == 1


class Buggy(Scripts):
    """Has a bug, once."""

    bugs = 1

    async def publish_many(self, writes: Any, ttl_ms: int) -> list[Any]:
        if self.bugs:
            self.bugs -= 1
            raise ZeroDivisionError
        return await super().publish_many(writes, ttl_ms)


async def test_a_bug_does_not_end_the_writing(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url, scripts=lambda c: Buggy(c.writer)) as node:
        await node.hold("X")
        node.publisher.put("X", 1, encoder("w1"))
        await until(lambda: node.sink.counts["failed:internal"] == 1)
        node.publisher.put("X", 2, encoder("w2"))
        await until(lambda: published(node) == 2)
        assert await word(node) == "w2"


async def test_scripts_that_redis_forgot_cost_nothing(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        for number in range(5):
            await redis.script_flush()
            node.publisher.put("X", number, encoder(f"w{number}"))
            node.publisher.put_tick("X", number, tick_encoder("t"))
            assert await node.publisher.flush()
        assert await word(node) == "w4"
        assert not any(name.startswith("failed") for name in node.sink.counts)


# --- Redis away ------------------------------------------------------------------------------------


async def produce(node: Desk, stop: asyncio.Event) -> int:
    """A worker that goes on computing; the number of its last report."""
    number = 0
    while not stop.is_set():
        number += 1
        node.publisher.put("X", number, encoder(f"w{number}"))
        node.publisher.put_tick("X", number, tick_encoder(f"t{number}"))
        await asyncio.sleep(0.01)
    return number


async def returns_after(node: Desk, outage: Any) -> float:
    """Seconds from the end of an outage to the next accepted report, which is the newest."""
    stop = asyncio.Event()
    producer = asyncio.create_task(produce(node, stop))
    await until(lambda: published(node) > 5)
    await outage()
    # Whatever was accepted on the way out does not count.
    before, start = published(node), time.monotonic()
    await until(lambda: published(node) > before, 5)
    took = time.monotonic() - start
    stop.set()
    last = await producer
    assert await node.publisher.flush()
    assert await word(node) == f"w{last}"
    assert await word(node, "tick:X") == f"t{last}"
    return took


async def test_after_a_kill_and_restart_the_newest_is_there_within_a_second(
    own_server: RedisProcess,
) -> None:
    async with desk(own_server.url) as node:
        await node.hold("X")

        async def outage() -> None:
            own_server.kill()
            await asyncio.sleep(1.0)
            own_server.start()

        assert await returns_after(node, outage) < 1.0
        assert node.sink.counts["failed:connection"] > 0


async def test_after_a_stop_and_go_of_redis_the_newest_is_there_within_a_second(
    own_server: RedisProcess,
) -> None:
    async with desk(own_server.url) as node:
        await node.hold("X")

        async def outage() -> None:
            own_server.pause()
            await asyncio.sleep(1.5)
            own_server.resume()

        assert await returns_after(node, outage) < 1.0
        assert node.sink.counts["failed:timeout"] > 0


async def test_after_a_client_pause_the_newest_is_there_within_a_second(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url) as node:
        await node.hold("X")

        async def outage() -> None:
            await redis.client_pause(1000)
            await asyncio.sleep(1.0)

        assert await returns_after(node, outage) < 1.0


async def test_a_stop_without_redis_does_not_hang(own_server: RedisProcess) -> None:
    async with desk(own_server.url) as node:
        await node.hold("X")
        own_server.kill()
        node.publisher.put("X", 1, encoder("w"))
        start = time.monotonic()
        await node.publisher.stop(0.3)
        assert time.monotonic() - start < 0.6


async def test_two_nodes_of_one_symbol_never_both_write(server: RedisProcess, redis: Redis) -> None:
    """The second waits; it goes on from the first's order when that one stops."""
    async with desk(server.url, "b", ttl_ms=400) as second:
        async with desk(server.url, "a", ttl_ms=400) as first:
            await first.hold("X")
            second.leases.want({"X": 0})
            for number in range(10):
                first.publisher.put("X", number, encoder("first"))
                second.publisher.put("X", number, encoder("second"))
                assert await first.publisher.flush()
            assert await word(first) == "first"
            assert published(second) == 0
        await until(lambda: published(second) == 1)
        stored = orjson.loads(await redis.get("report:X"))
        assert (stored["word"], stored["seq"]) == ("second", 11)


async def test_a_write_held_up_on_its_way_is_fenced(server: RedisProcess, redis: Redis) -> None:
    """A process stopped between its look at the lease and its write."""

    class HeldUp(Scripts):
        go = asyncio.Event()

        async def publish_many(self, writes: Any, ttl_ms: int) -> list[Any]:
            await self.go.wait()
            return await super().publish_many(writes, ttl_ms)

    async with (
        desk(server.url, "b") as thief,
        desk(server.url, scripts=lambda c: HeldUp(c.writer)) as victim,
    ):
        await victim.hold("X")
        victim.publisher.put("X", 1, encoder("victim"))
        await asyncio.sleep(0)
        await redis.delete(LEASE)
        await thief.hold("X")
        thief.publisher.put("X", 1, encoder("thief"))
        assert await thief.publisher.flush()
        HeldUp.go.set()
        await until(lambda: victim.sink.counts["conflict:fenced"] == 1)
        assert await word(thief) == "thief"
