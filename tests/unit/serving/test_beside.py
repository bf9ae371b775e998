"""A system with a suffix announces on channels that a reader without one listens on, too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mcp.server.subscriptions import ServerEvent
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from lua import Keys
from serving.directory import Directory
from serving.hub.state_feed import StateFeed
from serving.mcp.bus import RedisBus
from serving.mcp.counts import McpCounts
from serving.mcp.market import Market
from serving.reader import ReportReader, reader_client
from serving.writes import Listener
from tapeline.clock import SystemClock
from tapeline.tasks import end

LIVE, BESIDE = Keys(), Keys(suffix="nt")


async def announce(redis: Redis, keys: Keys, symbol: str, seq: int = 1) -> None:
    """As the publish script does."""
    await redis.hset(keys.meta(symbol), "watermark", seq)
    said = json.dumps({"symbol": symbol, "token": 7, "seq": seq})
    await redis.publish(keys.report(symbol), said)


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        await end(task)


async def until(good: Callable[[], object]) -> None:
    async with asyncio.timeout(4):
        while not good():  # noqa: ASYNC110 - nobody would set an event
            await asyncio.sleep(0.005)


async def test_top_counts_the_writes_of_its_own_system(redis: Redis, redis_url: str) -> None:
    """Or the longest gap of a symbol that is not written would be short."""
    for ours, other in ((LIVE, BESIDE), (BESIDE, LIVE)):
        async with reader_client(redis_url) as ear:
            listener = Listener(ear, ours)
            async with running(listener.run()):
                assert await listener.ready(4.0)
                await announce(redis, other, "A")
                await announce(redis, other, "B")
                await announce(redis, ours, "B")
                await until(lambda: "B" in listener.writes.tracks)  # noqa: B023
                assert set(listener.writes.tracks) == {"B"}
                assert listener.writes.tracks["B"].writes == 1


async def test_mcp_tells_of_the_reports_of_its_own_system(redis: Redis) -> None:
    clock, told = SystemClock(), list[ServerEvent]()
    reader = ReportReader(redis, LIVE, clock)
    market = Market(reader, redis, LIVE, clock, Directory(redis, LIVE, reader, clock))
    bus = RedisBus(redis, LIVE, clock, market, McpCounts(CollectorRegistry()))
    async with running(bus.run()):
        bus.subscribe(told.append)
        await until(lambda: bus.hears)
        await announce(redis, BESIDE, "ETHUSDT")
        await announce(redis, LIVE, "BTCUSDT")
        await until(lambda: any("BTCUSDT" in str(event) for event in told))
        assert not any("ETHUSDT" in str(event) for event in told)


async def test_the_hub_hears_its_own_system(redis: Redis) -> None:
    """`_messages` alone: what it yields is believed."""
    feed = StateFeed.__new__(StateFeed)
    feed._redis, feed._keys = redis, LIVE
    heard: list[bytes] = []

    async def listen() -> None:
        async for data in feed._messages(LIVE.every_report()):
            heard.append(data)  # noqa: PERF401 - looked at while it grows

    feed._asked, feed._wake = {}, asyncio.Event()
    async with running(listen()):
        while not await redis.pubsub_numpat():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await announce(redis, BESIDE, "ETHUSDT")
        await announce(redis, LIVE, "BTCUSDT")
        await until(lambda: heard)
        assert [json.loads(data)["symbol"] for data in heard] == ["BTCUSDT"]
