"""The example agent finds the widest spread, and says how old it is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis

from examples.mcp_agent import Unanswered, call, widest_spread
from serving.reader import reader_client
from tables.report import decode_report, encode_report
from tests.support.mcp_server import connected, server_on
from tests.support.reports import stored


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with reader_client(redis_url) as client:
        yield client


async def put(redis: Redis, symbol: str, spread_bps: float | None, old_ms: int = 0) -> None:
    now_ms = time.time_ns() // 1_000_000 - old_ms
    report = decode_report(stored(symbol, now_ms=now_ms))
    payload, _ = encode_report(msgspec.structs.replace(report, spread_bps=spread_bps), 10**9)
    await redis.set(f"report:{symbol}", payload)


async def test_the_widest_of_many_is_found_with_its_age(redis: Redis) -> None:
    """More than one page of ten; what is stale or has no book is left out, and said to be."""
    for n in range(24):
        await put(redis, f"S{n:02d}USDT", n / 10)
    await put(redis, "OLDUSDT", 99.0, old_ms=5000)
    await put(redis, "MUTEUSDT", None)
    async with connected(server_on(redis)) as client:
        found = await widest_spread(client)
    assert (found.symbol, found.spread_bps) == ("S23USDT", 2.3)
    assert 0 <= found.age_ms < 2000
    assert set(found.left_out) == {"OLDUSDT", "MUTEUSDT"}
    assert found.sentence().startswith(
        f"S23USDT has the widest spread: 2.3000 bps, from data {found.age_ms} ms old."
    )


async def test_where_all_is_stale_it_names_nothing(redis: Redis) -> None:
    await put(redis, "OLDUSDT", 99.0, old_ms=5000)
    async with connected(server_on(redis)) as client:
        found = await widest_spread(client)
    assert found.symbol is None
    assert found.sentence() == "No symbol has fresh data. Left out: OLDUSDT."


async def test_a_refusal_is_told_as_it_was_given(redis: Redis) -> None:
    async with connected(server_on(redis)) as client:
        with pytest.raises(Unanswered, match="unknown_symbol"):
            await call(client, "get_report", symbol="NOPE")
