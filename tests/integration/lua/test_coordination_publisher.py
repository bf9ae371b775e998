"""The publisher on a real Redis: the newest, in order, under a lease, whatever happens."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from agents.coordination.publisher import BATCH_TICKS, BATCH_WRITES, TICKS_PER_S
from lua import Keys, PublishCode, Scripts
from lua.scripts import TRACE_MS
from tapeline.clock import SystemClock
from tests.support.coordination import Desk, desk, encoder, tick_encoder, until
from tests.support.redis_process import RedisProcess

KEYS = Keys()
LEASE, COUNTER, META = KEYS.writer("X")


def noted(written: list[str], what: str, encode: Any) -> Any:
    """The encoder, and a note of when it is asked."""

    def encoded(*order: int) -> Any:
        written.append(what)
        return encode(*order)

    return encoded


async def word(node: Desk, key: str = "report:X") -> object:
    stored = await node.stored(key)
    return stored and stored["word"]


def published(node: Desk, kind: str = "report") -> int:
    return node.sink.counts[f"published:{kind}"]


async def test_a_report_says_under_which_order_it_was_written(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        before_ms = SystemClock().now_ms()
        for number in range(1, 4):
            node.publisher.put("X", number, encoder(f"w{number}"))
            assert await node.publisher.flush()
        stored = await node.stored("report:X")
        lease = node.leases.current("X")
        assert stored is not None
        assert lease is not None
        assert stored["word"] == "w3"
        assert (stored["token"], stored["seq"]) == (lease.token, 3)
        assert stored["updatedAt"] >= before_ms
        assert await redis.hgetall(META) == {
            b"token": str(lease.token).encode(),
            b"seq": b"3",
            b"watermark": b"3",
            b"updated_at": str(stored["updatedAt"]).encode(),
        }
        assert published(node) == 3


async def test_of_many_drafts_the_newest_is_written(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        for number in range(100):
            node.publisher.put("X", number, encoder(f"w{number}"))
        await node.publisher.flush()
        assert await word(node) == "w99"
        assert published(node) == 1


async def test_many_symbols_share_round_trips(server: RedisProcess, redis: Redis) -> None:
    symbols = [f"S{number}" for number in range(100)]
    async with desk(server.url) as node:
        await node.hold(*symbols)
        before = (await redis.info("stats"))["total_reads_processed"]
        for symbol in symbols:
            node.publisher.put(symbol, 1, encoder(symbol))
            node.publisher.put_tick(symbol, 1, tick_encoder(symbol))
        assert await node.publisher.flush()
        after = (await redis.info("stats"))["total_reads_processed"]
        assert after - before < 30
        assert published(node) == published(node, "tick") == 100
        assert await word(node, "report:S42") == await word(node, "tick:S42") == "S42"


async def test_a_new_writer_goes_on_above_the_one_before(
    server: RedisProcess, redis: Redis
) -> None:
    """Also where that one's clock was far ahead."""
    ahead_ms = SystemClock().now_ms() + 86_400_000
    await redis.hset(META, mapping={"token": 5, "seq": 41, "watermark": 3, "updated_at": ahead_ms})
    async with desk(server.url) as node:
        await node.hold("X")
        node.publisher.put("X", 3, encoder("w"))
        await node.publisher.flush()
        stored = await node.stored("report:X")
        assert stored is not None
        assert (stored["seq"], stored["updatedAt"]) == (42, ahead_ms + 1)


async def test_a_long_report_is_split_and_counted(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        node.publisher.put("X", 1, lambda token, seq, at: (b"{}", b"[1,2,3]"))
        await node.publisher.flush()
        assert await redis.get(KEYS.heavy("X")) == b"[1,2,3]"
        assert node.sink.counts["split"] == 1
        node.publisher.put("X", 2, encoder("short"))
        await node.publisher.flush()
        assert not await redis.exists(KEYS.heavy("X"))


async def test_ticks_are_written_at_most_once_a_period_and_the_last_one_always(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url, tick_period_ms=100) as node:
        await node.hold("X")
        start = time.monotonic()
        number = 0
        while time.monotonic() - start < 0.55:
            number += 1
            node.publisher.put_tick("X", number, tick_encoder(f"t{number}"))
            await asyncio.sleep(0.001)
        await until(lambda: not node.publisher._waiting())
        assert await word(node, "tick:X") == f"t{number}"
        assert 4 <= published(node, "tick") <= 7


async def test_reports_go_first_and_ticks_are_not_forgotten(
    server: RedisProcess, redis: Redis
) -> None:
    """However many reports wait, a part of each round trip is the ticks'."""
    symbols = [f"S{number:02}" for number in range(40)]
    async with desk(server.url) as node:
        await node.hold(*symbols)
        written: list[str] = []
        for symbol in symbols:
            node.publisher.put_tick(symbol, 1, noted(written, "tick", tick_encoder(symbol)))
            node.publisher.put(symbol, 1, noted(written, "report", encoder(symbol)))
        assert await node.publisher.flush()
        first = written[:BATCH_WRITES]
        assert first.count("tick") == BATCH_TICKS
        assert first[:24] == ["report"] * 24
        assert written.count("report") == written.count("tick") == 40


async def test_many_symbols_share_the_ticks_there_may_be(
    server: RedisProcess, redis: Redis
) -> None:
    """Not more often than the period, and with many symbols less often."""
    symbols = [f"S{number}" for number in range(60)]
    async with desk(server.url) as node:
        await node.hold(*symbols)
        began = time.monotonic()
        for number in range(100):
            for symbol in symbols:
                node.publisher.put_tick(symbol, number, tick_encoder(symbol))
            await asyncio.sleep(0.01)
        seconds = time.monotonic() - began
        # One each at once, and the rest as the budget allows.
        assert published(node, "tick") <= 60 + TICKS_PER_S * seconds * 1.1
        assert published(node, "tick") >= 2 * 60


async def test_without_a_lease_nothing_is_written_until_there_is_one(
    server: RedisProcess, scripts: Scripts
) -> None:
    other = await scripts.acquire(KEYS.writer("X"), "b", "1", 60_000)
    async with desk(server.url, ttl_ms=400) as node:
        node.leases.want({"X": 0})
        await node.leases.settled()
        node.publisher.put("X", 1, encoder("old"))
        node.publisher.put_tick("X", 1, tick_encoder("t"))
        node.publisher.put("X", 2, encoder("new"))
        assert not await node.publisher.flush(0.05)
        assert await node.stored("report:X") is None
        await scripts.release(LEASE, other.lease_value)
        await until(lambda: published(node) == published(node, "tick") == 1)
        assert await word(node) == "new"


async def test_what_was_given_up_is_not_written(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        node.leases.want({})
        node.publisher.put("X", 1, encoder("w"))
        node.publisher.put_tick("X", 1, tick_encoder("w"))
        node.publisher.clear(["X", "never seen"])
        await node.hold("X")
        assert await node.publisher.flush()
        assert await redis.keys("report:X") == []


async def test_a_stop_writes_what_waits(server: RedisProcess, redis: Redis) -> None:
    async with desk(server.url, tick_period_ms=1000) as node:
        await node.hold("X")
        for number in (1, 2):
            node.publisher.put("X", number, encoder(f"w{number}"))
            node.publisher.put_tick("X", number, tick_encoder(f"t{number}"))
            await until(lambda: published(node, "tick") == 1)  # the second waits for its period
        await node.publisher.stop()
        await node.publisher.stop()
        assert await word(node) == "w2"
        assert await word(node, "tick:X") == "t2"


# --- refusals ------------------------------------------------------------------------------------


async def test_a_fenced_writer_drops_the_symbol_at_once(
    server: RedisProcess, redis: Redis, scripts: Scripts
) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        mine = await redis.get(LEASE)
        (thief,) = await scripts.acquire_many(
            [(KEYS.writer("X"), 0, mine.decode())], "b", "1", 60_000
        )
        node.publisher.put("X", 1, encoder("mine"))
        await until(lambda: node.sink.counts["conflict:fenced"] == 1)
        assert node.leases.owned() == []
        assert await node.stored("report:X") is None
        # It waits, under the thief's nose; when he is gone the newest is written.
        node.publisher.put("X", 2, encoder("newest"))
        await redis.delete(LEASE)
        await until(lambda: published(node) == 1)
        stored = await node.stored("report:X")
        assert stored is not None
        assert stored["word"] == "newest"
        assert stored["token"] > thief.token  # type: ignore[union-attr, operator]


async def test_a_writer_whose_lease_is_gone_takes_a_new_one(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        await redis.delete(LEASE)
        node.publisher.put("X", 1, encoder("w"))
        await until(lambda: published(node) == 1)
        assert node.sink.counts["conflict:not_owner"] == 1
        assert await word(node) == "w"


async def test_a_writer_that_is_behind_is_counted_and_not_repeated(
    server: RedisProcess, redis: Redis
) -> None:
    await redis.hset(META, mapping={"watermark": 100, "tick_watermark": 100})
    async with desk(server.url) as node:
        await node.hold("X")
        node.publisher.put("X", 99, encoder("behind"))
        node.publisher.put_tick("X", 99, tick_encoder("behind"))
        assert await node.publisher.flush()
        assert node.sink.counts["stale:report"] == node.sink.counts["stale:tick"] == 1
        assert await redis.keys("report:X") == await redis.keys("tick:X") == []
        node.publisher.put("X", 100, encoder("level"))
        assert await node.publisher.flush()
        assert await word(node) == "level"


async def test_a_process_remembers_its_watermark_when_redis_has_lost_it(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url) as node:
        await node.hold("X")
        node.publisher.put("X", 100, encoder("w"))
        node.publisher.put_tick("X", 100, tick_encoder("w"))
        await node.publisher.flush()
        await redis.flushall()
        node.publisher.put("X", 99, encoder("behind"))
        node.publisher.put_tick("X", 99, tick_encoder("behind"))
        assert node.sink.counts["stale:report"] == node.sink.counts["stale:tick"] == 1


async def test_an_encoder_that_fails_is_counted_and_the_rest_is_written(
    server: RedisProcess, redis: Redis
) -> None:
    def broken(token: int, seq: int, updated_at: int) -> tuple[bytes, bytes]:
        raise ValueError("no")

    async with desk(server.url) as node:
        await node.hold("X", "Y")
        node.publisher.put("X", 1, broken)
        node.publisher.put("Y", 1, encoder("w"))
        assert await node.publisher.flush()
        assert node.sink.counts["failed:encode"] == 1
        assert await word(node, "report:Y") == "w"


async def test_one_symbol_that_redis_refuses_is_given_up_after_three_tries(
    server: RedisProcess, redis: Redis
) -> None:
    async with desk(server.url) as node:
        await node.hold("X", "Y")
        await redis.delete(META)
        await redis.set(META, "not a hash")
        node.publisher.put("X", 1, encoder("w1"))
        node.publisher.put("Y", 1, encoder("w"))
        await until(lambda: node.sink.counts["failed:gave_up"] >= 1)
        # Looked at late, the next round may have begun.
        assert node.sink.counts["failed:refused"] >= 3 * node.sink.counts["failed:gave_up"]
        assert await word(node, "report:Y") == "w"
        await redis.delete(META)
        node.publisher.put("X", 2, encoder("w2"))
        await until(lambda: published(node) == 2)
        assert await word(node) == "w2"


class Traces:
    """Follows every write."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, object]] = []

    def begin(self, writes: Any) -> list[tuple[str, str]]:
        return [(KEYS.trace(write.symbol), f"{write.token}.{write.seq} t") for write in writes]

    def context_of(self, write: Any) -> None:
        return None

    def ended(self, write: Any, answer: object) -> None:
        self.ends.append((write.seq, answer))


async def test_a_write_s_trace_is_set_with_it_and_its_end_is_told(
    server: RedisProcess, redis: Redis
) -> None:
    """Readers that see the report see which trace it is of; that goes in seconds."""
    async with desk(server.url) as node:
        traces = Traces()
        node.publisher._traces = traces
        await node.hold("X")
        await redis.script_flush()  # the answers of scripts that are sent again are in order, too
        for number in (1, 2):
            node.publisher.put("X", number, encoder(f"w{number}"))
            assert await node.publisher.flush()
        lease = node.leases.current("X")
        assert lease is not None
        assert await redis.get("report:X:trace") == f"{lease.token}.2 t".encode()
        assert 0 < await redis.pttl("report:X:trace") <= TRACE_MS
        assert traces.ends == [(1, PublishCode.OK), (2, PublishCode.OK)]
        server.pause()
        node.publisher.put("X", 3, encoder("w3"))
        await until(lambda: len(traces.ends) == 3)
        server.resume()
        assert isinstance(traces.ends[2][1], TimeoutError)
