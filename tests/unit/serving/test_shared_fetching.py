"""Reads of Redis that share a round trip."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from serving.fetching import BATCH_MAX, Fetcher, StoreUnavailable
from serving.reader import ReportReader, reader_client
from tests.support.redis_process import RedisProcess
from tests.support.reports import stored

TIMEOUT_S = 0.15


async def counted(redis: Redis, name: str) -> int:
    return int((await redis.info("stats"))[name])


async def test_who_asks_meanwhile_shares_the_next_round_trip(redis: Redis) -> None:
    """However many: one connection, and a command for each key and not for each who asks."""
    names = [f"k{n}" for n in range(BATCH_MAX + 10)]
    await redis.mset({name: name for name in names})
    fetcher = Fetcher(redis, 5.0)
    connections = await counted(redis, "total_connections_received")
    commands = await counted(redis, "total_commands_processed")
    found = await asyncio.gather(*(fetcher.get(name) for _ in range(4) for name in names))
    assert found == [name.encode() for name in names] * 4
    assert await counted(redis, "total_connections_received") == connections
    assert await counted(redis, "total_commands_processed") - commands <= 2 * len(names) + 10


async def test_what_is_read_is_not_older_than_the_question(redis: Redis, redis_url: str) -> None:
    """Who comes while a request is under way gets the answer of the one after."""
    fetcher = Fetcher(redis, 5.0)
    async with reader_client(redis_url) as other:
        for n in range(20):
            early = asyncio.create_task(fetcher.get("k"))
            await asyncio.sleep(0)
            await other.set("k", n)
            assert await fetcher.get("k") == b"%d" % n
            await early


async def test_two_come_together(redis: Redis) -> None:
    await redis.set("a", 1)
    assert await Fetcher(redis, 5.0).get_two("a", "b") == (b"1", None)
    assert await Fetcher(redis, 5.0).get_two("a", "a") == (b"1", b"1")


async def test_a_key_of_another_kind_spoils_no_other(redis: Redis) -> None:
    await redis.set("a", 1)
    await redis.lpush("b", 1)
    fetcher = Fetcher(redis, 5.0)
    asked = [fetcher.get(name) for name in ("a", "b", "a", "c")]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert found[0] == found[2] == b"1"
    assert isinstance(found[1], StoreUnavailable)
    assert found[3] is None
    with pytest.raises(StoreUnavailable, match="ResponseError"):
        await fetcher.get("b")


async def test_who_leaves_takes_nobody_s_answer_along(redis: Redis) -> None:
    await redis.set("a", 1)
    fetcher = Fetcher(redis, 5.0)
    leaver, stayer = (asyncio.create_task(fetcher.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    assert await stayer == b"1"
    with pytest.raises(asyncio.CancelledError):
        await leaver


async def test_an_answer_that_does_not_come_is_not_waited_for(own_server: RedisProcess) -> None:
    """By anybody longer than the limit from when they asked; then all is well at once."""
    async with reader_client(own_server.url) as redis:
        await redis.set("a", 1)
        fetcher = Fetcher(redis, TIMEOUT_S)
        assert await fetcher.get("a") == b"1"
        own_server.pause()
        took: list[float] = []

        async def ask(after_s: float) -> None:
            await asyncio.sleep(after_s)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await fetcher.get("a")
            took.append(time.monotonic() - began)

        await asyncio.gather(*(ask(n / 100) for n in range(30)))
        assert max(took) < TIMEOUT_S + 1.0
        assert sorted(took)[15] < TIMEOUT_S * 1.5
        own_server.resume()
        assert await fetcher.get("a") == b"1"


async def test_a_process_that_was_not_let_run_believes_the_answer_it_finds(redis: Redis) -> None:
    """And not its deadline, which has passed meanwhile, too. It is long: read in many pieces."""
    payload = b"x" * 1_000_000
    await redis.set("a", payload)
    fetcher = Fetcher(redis, TIMEOUT_S)
    await fetcher.get("a")
    for _ in range(5):
        asking = asyncio.create_task(fetcher.get("a"))
        for _ in range(4):
            await asyncio.sleep(0)  # it is on its way
        time.sleep(TIMEOUT_S * 1.5)  # noqa: ASYNC251 - that is what a busy machine does
        assert await asking == payload


async def test_an_older_answer_that_comes_later_is_asked_for_again() -> None:
    """Not taken for a store that has stepped back: nobody sees null while there is a report."""
    older, newer = stored(seq=1), stored(seq=2)
    gates = [asyncio.Event(), asyncio.Event()]
    answers: list[Any] = [(older, gates[0]), (newer, gates[1])]

    async def fetch(_symbol: str) -> bytes | None:
        if not answers:
            return newer
        payload, gate = answers.pop(0)
        await gate.wait()
        return payload  # type: ignore[no-any-return]

    reader = ReportReader(fetch)
    first = asyncio.create_task(reader.get("BTCUSDT"))
    await asyncio.sleep(0)
    second = asyncio.create_task(reader.get("BTCUSDT"))
    await asyncio.sleep(0)
    gates[1].set()
    found = await second
    gates[0].set()
    again = await first
    assert found is not None
    assert again is not None
    assert (found.seq, again.seq) == (2, 2)


async def test_a_store_that_has_stepped_back_is_still_not_believed() -> None:
    payloads = [stored(token=9, seq=4), stored(token=9, seq=3), stored(token=9, seq=3)]

    async def fetch(_symbol: str) -> bytes | None:
        return payloads.pop(0)

    reader = ReportReader(fetch)
    assert await reader.get("BTCUSDT") is not None
    assert await reader.get("BTCUSDT") is None
