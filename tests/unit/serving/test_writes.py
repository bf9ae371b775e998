"""Gaps between accepted writes: what counts as one, and what is nobody's fault but ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from lua import Keys
from serving.reader import reader_client
from serving.writes import Listener, Writes
from tests.support.redis_process import RedisProcess

# --- what a gap is --------------------------------------------------------------------------------


def test_a_gap_is_the_longest_time_between_writes_that_advanced() -> None:
    writes = Writes()
    for at_s, mark in ((0.0, 1), (0.2, 2), (1.0, 3), (1.1, 4)):
        writes.heard("A", mark, at_s)
    assert writes.gap_s("A", 1.2) == pytest.approx(0.8)
    assert writes.tracks["A"].writes == 4


def test_a_write_of_the_same_records_ends_no_gap() -> None:
    writes = Writes()
    for at_s, mark in ((0.0, 5), (0.5, 5), (1.0, 4), (1.5, 6)):
        writes.heard("A", mark, at_s)
    assert writes.gap_s("A", 1.5) == pytest.approx(1.5)


def test_a_gap_that_is_open_counts() -> None:
    writes = Writes()
    writes.heard("A", 1, 0.0)
    assert writes.gap_s("A", 7.0) == pytest.approx(7.0)
    assert writes.gap_s("B", 7.0) is None


def test_a_symbol_that_is_expected_and_never_heard_of_has_a_gap() -> None:
    writes = Writes()
    writes.expect(["A"], 2.0)
    assert writes.gap_s("A", 5.0) == pytest.approx(3.0)
    writes.expect(["A"], 4.0)  # again, as each look does
    writes.heard("A", 1, 6.0)
    assert writes.gap_s("A", 6.5) == pytest.approx(4.0)


def test_counting_anew_takes_the_last_write_along() -> None:
    """So a gap that began just before a kill is counted from where it began."""
    writes = Writes()
    for at_s, mark in ((0.0, 1), (5.0, 2)):
        writes.heard("A", mark, at_s)
    writes.count_anew()
    assert writes.gap_s("A", 5.2) == pytest.approx(0.2)
    writes.heard("A", 3, 5.9)
    assert writes.gap_s("A", 6.0) == pytest.approx(0.9)
    assert writes.tracks["A"].writes == 1


def test_while_nothing_can_be_heard_no_gap_grows() -> None:
    writes = Writes()
    writes.heard("A", 1, 0.0)
    writes.blind(0.5)
    writes.blind(3.0)
    assert writes.gap_s("A", 9.0) == pytest.approx(0.5)
    writes.sees(10.0)
    writes.heard("A", 2, 10.1)
    assert writes.gap_s("A", 10.3) == pytest.approx(0.5)


# --- what is heard --------------------------------------------------------------------------------


async def write(redis: Redis, symbol: str, watermark: object, seq: int = 1) -> None:
    """As the publish script announces."""
    await redis.hset(f"report:meta:{symbol}", "watermark", str(watermark))
    await redis.publish(f"report:{symbol}", f'{{"symbol":"{symbol}","token":7,"seq":{seq}}}')


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Listener]:
    async with reader_client(url) as ear:
        listener = Listener(ear, Keys())
        task = asyncio.create_task(listener.run())
        try:
            assert await listener.ready(4.0)
            yield listener
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(good: Callable[[], object]) -> None:
    async with asyncio.timeout(4):
        while not good():  # noqa: ASYNC110 - nobody would set an event
            await asyncio.sleep(0.01)


async def test_announced_writes_are_heard_with_their_watermarks(
    redis: Redis, redis_url: str
) -> None:
    async with listening(redis_url) as listener:
        tracks = listener.writes.tracks
        await write(redis, "A", 5)
        await write(redis, "B", 9)
        await until(lambda: {"A", "B"} <= set(tracks))
        assert (tracks["A"].mark, tracks["B"].mark) == (5, 9)


async def test_a_burst_is_heard_to_the_last(redis: Redis, redis_url: str) -> None:
    async with listening(redis_url) as listener:
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hset("report:meta:A", "watermark", "3")
            for seq in range(1200):
                pipe.publish("report:A", f'{{"symbol":"A","token":7,"seq":{seq}}}')
            await pipe.execute()
        await until(lambda: "A" in listener.writes.tracks)
        await until(lambda: listener.writes.tracks["A"].writes == 1200)


async def test_what_others_say_on_such_channels_is_passed_over(
    redis: Redis, redis_url: str
) -> None:
    async with listening(redis_url) as listener:
        for said in ("", "{}", "no json", '{"symbol":3}'):
            await redis.publish("report:X", said)
            await redis.publish("nt:handover", said)
        await write(redis, "B", "no number")
        await write(redis, "A", 5)
        await until(lambda: "A" in listener.writes.tracks)
        assert set(listener.writes.tracks) == {"A"}
        assert listener.error == ""


async def test_a_node_drains_from_when_it_says_so_until_it_no_longer_does(
    redis: Redis, redis_url: str
) -> None:
    async with listening(redis_url) as listener:
        await redis.publish("nt:handover", '{"node_id":"w2","state":"draining"}')
        await redis.publish("nt:handover", '{"node_id":"w3","state":"something"}')
        await until(listener.draining)
        assert listener.draining() == {"w2"}
        await until(lambda: not listener.draining())


@pytest.mark.slow
async def test_a_redis_that_stands_still_is_noticed_and_then_heard_again(
    own_server: RedisProcess,
) -> None:
    async with listening(own_server.url) as listener, reader_client(own_server.url) as redis:
        await write(redis, "A", 1)
        await until(lambda: "A" in listener.writes.tracks)
        own_server.pause()
        await asyncio.sleep(3.5)
        assert listener.error
        assert listener.writes.blind_since_s is not None
        gap_s = listener.writes.tracks["A"].longest_s
        own_server.resume()
        await until(lambda: not listener.error)
        await write(redis, "A", 2)
        await until(lambda: listener.writes.tracks["A"].mark == 2)
        assert listener.writes.tracks["A"].longest_s == gap_s
