"""Which resources are said to have changed, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from lua import Keys
from serving.directory import Directory
from serving.mcp.bus import RedisBus
from serving.mcp.counts import McpCounts
from serving.mcp.market import Market
from serving.mcp.updates import COALESCE_MS, LIST_URI, SLOW_MS, Updates, report_uri
from serving.reader import STALE_MS, ReportReader, reader_client
from tapeline.clock import SystemClock
from tapeline.tasks import end
from tests.support.bridge import until
from tests.support.redis_process import RedisProcess
from tests.support.reports import stored

FAST, SLOW = report_uri("BTCUSDT", "fast"), report_uri("BTCUSDT", "slow")


def test_the_first_write_is_told_at_once_and_names_a_new_symbol() -> None:
    updates = Updates()
    assert list(updates.wrote("BTCUSDT", 1000)) == [LIST_URI, FAST, SLOW]


def test_later_writes_are_told_together_when_their_time_is_up() -> None:
    updates = Updates()
    list(updates.wrote("BTCUSDT", 1000))
    assert list(updates.wrote("BTCUSDT", 1100)) == []
    assert list(updates.wrote("BTCUSDT", 1200)) == []
    assert list(updates.passed(1000 + COALESCE_MS - 1)) == []
    assert list(updates.passed(1000 + COALESCE_MS)) == [FAST]
    assert list(updates.passed(1000 + 2 * COALESCE_MS)) == []
    assert list(updates.passed(1000 + SLOW_MS)) == [SLOW]


def test_symbols_do_not_wait_for_each_other() -> None:
    updates = Updates()
    list(updates.wrote("BTCUSDT", 1000))
    assert report_uri("ETHUSDT", "fast") in list(updates.wrote("ETHUSDT", 1001))


def test_silence_is_told_once() -> None:
    """No write says that a report has turned stale."""
    updates = Updates()
    list(updates.wrote("BTCUSDT", 1000))
    assert list(updates.passed(1000 + STALE_MS)) == []
    assert list(updates.passed(1001 + STALE_MS)) == [FAST, SLOW]
    assert list(updates.passed(9999 + STALE_MS)) == []
    assert FAST in list(updates.wrote("BTCUSDT", 20_000))


def test_after_a_gap_in_hearing_everything_is_told() -> None:
    updates = Updates()
    list(updates.wrote("BTCUSDT", 1000))
    updates.knows(["ETHUSDT"], 1000)
    told = list(updates.missed(1010))
    assert told == [
        LIST_URI,
        FAST,
        SLOW,
        *(report_uri("ETHUSDT", kind) for kind in ("fast", "slow")),
    ]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_never_more_than_one_event_in_a_period_and_the_last_write_is_told(steps: list[int]) -> None:
    updates, now_ms, told = Updates(), 0, []
    last_ms = 0
    for step in steps:
        for _ in range(step // 50):
            now_ms += 50
            told += [now_ms for uri in updates.passed(now_ms) if uri == FAST]
        now_ms += step % 50
        last_ms = now_ms
        told += [now_ms for uri in updates.wrote("BTCUSDT", now_ms) if uri == FAST]
    for _ in range(10):
        now_ms += 50
        told += [now_ms for uri in updates.passed(now_ms) if uri == FAST]
    assert all(later - earlier >= COALESCE_MS for earlier, later in pairwise(told))
    assert told[-1] >= last_ms


# --- over Redis ----------------------------------------------------------------------------------


@asynccontextmanager
async def running(redis: Redis) -> AsyncIterator[RedisBus]:
    keys, clock = Keys(), SystemClock()
    reader = ReportReader(redis, keys, clock)
    market = Market(reader, redis, keys, clock, Directory(redis, keys, reader, clock))
    bus = RedisBus(redis, keys, clock, market, McpCounts(CollectorRegistry()))
    task = asyncio.create_task(bus.run())
    try:
        yield bus
    finally:
        await end(task)


async def announce(redis: Redis, symbol: str, seq: int = 1) -> None:
    await redis.publish(f"report:{symbol}", json.dumps({"symbol": symbol, "token": 7, "seq": seq}))


EVENTS = Keys().mcp_events().encode()


async def test_an_update_published_via_one_replica_reaches_a_listener_on_another(
    redis: Redis,
) -> None:
    heard: list[ServerEvent] = []
    published = [ResourceUpdated("market://glossary"), ResourcesListChanged()]
    async with running(redis) as one, running(redis) as other:
        other.subscribe(heard.append)
        await until(lambda: other.hears)
        while dict(await redis.pubsub_numsub(Keys().mcp_events()))[EVENTS] < 1:  # noqa: ASYNC110, it has none
            await asyncio.sleep(0.005)
        await one.publish(published[0])
        await one.publish(published[1])
        # Among what is told at the beginning, as it may have been missed.
        await until(lambda: [event for event in heard if event in published][-2:] == published)


async def test_a_write_reaches_every_listener_and_nobody_after_it_left(redis: Redis) -> None:
    one: list[ServerEvent] = []
    two: list[ServerEvent] = []
    async with running(redis) as bus:
        leave = bus.subscribe(one.append)
        bus.subscribe(two.append)
        await until(lambda: bus.hears)
        leave()
        leave()
        one.clear()
        await announce(redis, "BTCUSDT")
        await until(lambda: ResourceUpdated(FAST) in two)
    assert one == []


async def test_what_was_written_before_redis_was_listened_to_is_told(redis: Redis) -> None:
    """A client may have read before, and the write may have come in between."""
    await redis.set("report:BTCUSDT", stored())
    heard: list[ServerEvent] = []
    async with running(redis) as bus:
        bus.subscribe(heard.append)
        await until(lambda: ResourceUpdated(FAST) in heard)
        assert ResourcesListChanged() in heard


async def test_redis_is_listened_to_only_while_somebody_listens_here(redis: Redis) -> None:
    async with running(redis) as bus:
        assert await redis.pubsub_numpat() == 0
        leave = bus.subscribe(lambda _event: None)
        await until(lambda: bus.hears)
        assert await redis.pubsub_numpat() == 1
        leave()
        await until(lambda: not bus.hears)


async def test_messages_of_other_programs_are_left(redis: Redis) -> None:
    heard: list[ServerEvent] = []
    async with running(redis) as bus:
        bus.subscribe(heard.append)
        await until(lambda: bus.hears)
        heard.clear()
        for payload in (b"", b"[]", b'{"symbol": 5}', b"\xff"):
            await redis.publish("report:BTCUSDT", payload)
            await redis.publish("nt:mcp:events", payload)
        await redis.publish("nt:mcp:events", b'{"kind":"other"}')
        await announce(redis, "BTCUSDT")
        await until(lambda: ResourceUpdated(FAST) in heard)
    assert {getattr(event, "uri", LIST_URI) for event in heard} == {FAST, SLOW, LIST_URI}


@pytest.mark.slow
async def test_redis_gone_and_back_is_heard_again(own_server: RedisProcess) -> None:
    """And everything is told anew, since it is not known what was missed."""
    heard: list[ServerEvent] = []
    async with reader_client(own_server.url) as redis, running(redis) as bus:
        bus.subscribe(heard.append)
        await until(lambda: bus.hears)
        await announce(redis, "BTCUSDT")
        await until(lambda: ResourceUpdated(FAST) in heard)
        own_server.kill()
        await until(lambda: not bus.hears)
        heard.clear()
        own_server.start()
        await until(lambda: ResourceUpdated(FAST) in heard, 10.0)
        assert bus.hears
