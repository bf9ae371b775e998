"""Heartbeat, leases and publisher as one piece; and none of it where it is switched off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from agents.coordination.membership import DuplicateNode
from agents.eviction import Group
from agents.ledger import CommitLedger
from agents.metrics import Metrics
from agents.ownership import Ownership
from agents.shards import Shards
from streams.symbols import parse_symbols
from tables.parameters import Parameters
from tapeline.clock import SystemClock
from tapeline.config import load_settings
from tapeline.kafka_access import KafkaAccess
from tests.support.worker import Client, eventually

SYMBOL = "BTCUSDT"
TOPIC = "md.events.v1"


def made(redis_url: str, **settings: Any) -> tuple[Ownership, Shards]:
    if redis_url:
        settings["redis_url"] = redis_url
    chosen = load_settings({}, node_id="n1", **settings)
    shards = Shards(parse_symbols(f"binance:{SYMBOL}"), 1, Parameters(), CommitLedger())
    shards.assign({0}, [])

    def duplicate(error: DuplicateNode) -> None:
        raise AssertionError(error)

    ownership = Ownership(
        chosen,
        shards,
        Metrics(),
        SystemClock(),
        duplicate,
        warm=lambda: (),
        seated=lambda: True,
        on_change=lambda _symbol, _gained: None,
        group=Group(KafkaAccess(("127.0.0.1:1",)), "tests", "nt-n1"),
    )
    return ownership, shards


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_without_reports_and_streams_nobody_connects() -> None:
    """Engines run, nothing is owned, and every question has an answer."""
    ownership, shards = made("", enable_kv_reports=False)
    await ownership.start("http://127.0.0.1:1/metrics")
    await ownership.assigned({SYMBOL: 7})
    await ownership.load_epoch(TOPIC)
    assert ownership.owned() == ownership.wanted() == []
    assert ownership.token(SYMBOL) == 0
    assert ownership.last_heartbeat_ms() == 0
    ownership.put_tick(SYMBOL, 1, lambda _token, _seq: b"")
    assert await ownership.raise_epoch(TOPIC) == 1
    assert shards.epoch == 1
    await ownership.stop()


@pytest.mark.redis
async def test_streams_alone_beat_and_lease_nothing(redis_url: str, redis: Client) -> None:
    """They need a connection, no right."""
    ownership, _ = made(redis_url, enable_kv_reports=False, enable_streams=True)
    await ownership.start("http://127.0.0.1:1/metrics")
    await ownership.assigned({})
    assert await ownership.redis.ping()
    assert ownership.owned() == []
    await ownership.stop()
    assert await redis.keys("*") == []


@pytest.mark.redis
async def test_assigned_symbols_are_leased_written_and_given_back(
    redis_url: str, redis: Client
) -> None:
    """Under a token above all that its checkpoints know."""
    ownership, _ = made(redis_url)
    await ownership.start("http://127.0.0.1:1/metrics")
    floor = 2_000_000_000_000
    await ownership.assigned({SYMBOL: floor})
    assert ownership.owned() == ownership.wanted() == [SYMBOL]
    assert ownership.token(SYMBOL) > floor
    assert ownership.last_heartbeat_ms() > 0
    node = json.loads(await redis.get("nt:node:n1"))
    assert node["metrics_url"] == "http://127.0.0.1:1/metrics"
    ownership.put_tick(SYMBOL, 1, lambda token, seq: json.dumps([token, seq]).encode())

    async def written() -> bool:
        return bool(await redis.exists(f"tick:{SYMBOL}"))

    await eventually(written, 3)
    assert json.loads(await redis.get(f"tick:{SYMBOL}")) == [ownership.token(SYMBOL), 1]
    token = ownership.token(SYMBOL)
    await ownership.stop()
    assert not await redis.exists(f"report:writer:{SYMBOL}", "nt:node:n1")
    # What is kept afterwards, at a stop, is kept under the token that was held.
    assert ownership.token(SYMBOL) == token


@pytest.mark.redis
async def test_the_token_is_the_own_one_while_another_writes(redis_url: str, redis: Client) -> None:
    """A state kept under the other's token would replace the other's."""
    await redis.set(f"report:writer:{SYMBOL}", "n2|abc|9000000000000", px=60_000)
    await redis.set(f"report:writer:token:{SYMBOL}", "9000000000000")
    ownership, _ = made(redis_url)
    await ownership.start("http://127.0.0.1:1/metrics")
    await ownership.assigned({})
    assert ownership.owned() == []
    assert ownership.wanted() == [SYMBOL]
    assert ownership.token(SYMBOL) == 0
    await ownership.stop()


@pytest.mark.redis
async def test_the_topics_epoch_only_rises(redis_url: str, redis: Client) -> None:
    """By what Redis says, and by what is known where Redis has forgotten it."""
    ownership, shards = made(redis_url)
    await ownership.start("http://127.0.0.1:1/metrics")
    key = f"nt:topic:epoch:{TOPIC}"
    await redis.set(key, 4)
    await ownership.load_epoch(TOPIC)
    assert shards.epoch == 4
    assert await ownership.raise_epoch(TOPIC) == 5
    assert int(await redis.get(key)) == 5
    await redis.delete(key)
    await ownership.load_epoch(TOPIC)
    assert shards.epoch == 5
    assert await ownership.raise_epoch(TOPIC) == 6
    assert int(await redis.get(key)) == 6
    await ownership.stop()
