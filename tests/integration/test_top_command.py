"""``tapeline top`` against a Redis filled by hand, with a node that answers and one that does not."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from tapeline.http_probe import ProbeServer
from tests.support import commands
from tests.support.reports import stored


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
async def probe() -> AsyncIterator[ProbeServer]:
    """The probe server of a worker, as workers have it."""
    body: dict[str, Any] = {
        "node_id": "w1",
        "uptime": 60.0,
        "owned_symbols": ["BTCUSDT"],
        "last_heartbeat_ts": 1,
        "assigned": True,
        "assigned_symbols": ["BTCUSDT", "ETHUSDT"],
        "warm_symbols": ["SOLUSDT"],
        "status": "ok",
        "stalled": [],
        "outages": {},
    }
    server = ProbeServer("127.0.0.1", 0, CollectorRegistry(), lambda: (True, body))
    await server.start()
    yield server
    await server.stop()


async def _beat(redis: Redis, node: str, metrics_url: str, age_ms: int) -> None:
    body = {
        "node_id": node, "incarnation": f"{node}-1", "hostname": "host-a", "pid": 4711,
        "pid_space": "x", "started_at": _now_ms() - 60_000, "metrics_url": metrics_url,
        "last_heartbeat": _now_ms() - age_ms,
    }  # fmt: skip
    await redis.set(f"nt:node:{node}", json.dumps(body), ex=30)
    await redis.zadd("nt:nodes", {node: _now_ms()})


async def _write(redis: Redis, symbol: str, owner: str, age_ms: int) -> None:
    at_ms = _now_ms() - age_ms
    if owner:
        await redis.set(f"report:writer:{symbol}", f"{owner}|{owner}-1|9", px=30_000)
    meta = {"token": 9, "seq": 4, "watermark": 77, "updated_at": at_ms}
    await redis.hset(f"report:meta:{symbol}", mapping=meta)
    await redis.set(f"report:{symbol}", stored(symbol, token=9, seq=4, now_ms=at_ms))


@pytest.mark.slow
async def test_one_look_shows_every_node_and_symbol_as_one_object(
    redis_url: str, probe: ProbeServer
) -> None:
    async with Redis.from_url(redis_url) as redis, redis.pubsub() as there:
        await there.subscribe("nt:alive:w1")
        await _beat(redis, "w1", f"{probe.url}/metrics", 200)
        await _beat(redis, "w2", "http://127.0.0.1:1/metrics", 3000)
        await _write(redis, "BTCUSDT", "w1", 50)
        await _write(redis, "ETHUSDT", "", 60_000)
        process = await commands.start("top", "--once", "--json", REDIS_URL=redis_url)
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    [line] = out.splitlines()
    body = json.loads(line)
    assert body["error"] is None

    one, two = body["nodes"]
    assert (one["node_id"], one["state"], one["health"]) == ("w1", "up", "ok")
    assert (one["owned"], one["assigned"], one["warm"]) == (1, 2, 1)
    assert (one["hostname"], one["pid"]) == ("host-a", 4711)
    assert 60 <= one["up_s"] < 120
    assert (two["node_id"], two["state"], two["health"]) == ("w2", "vanished", None)
    assert (two["owned"], two["assigned"], two["warm"]) == (None, None, None)
    assert two["heartbeat_age_ms"] >= 3000

    btc, eth = body["symbols"]
    assert (btc["symbol"], btc["owner"], btc["token"], btc["seq"]) == ("BTCUSDT", "w1", 9, 4)
    assert (btc["watermark"], btc["writes"]) == (77, 0)
    assert btc["report_age_ms"] >= 50
    assert isinstance(btc["offset"], int)
    assert (eth["symbol"], eth["owner"], eth["state"]) == ("ETHUSDT", "", "stale")
    assert eth["data_age_ms"] >= 60_000
