"""Raw events in Redis Streams: in order, once, and never in the engines' way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from agents import raw_streams
from agents.metrics import Metrics
from agents.raw_streams import RawStreams
from tests.support.worker import Client, eventually


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    async with Redis.from_url(redis_url) as client:
        yield client


def copier(redis: Any, maxlen: int = 1000) -> RawStreams:
    return RawStreams(redis, maxlen, Metrics())


async def entries(redis: Client, symbol: str) -> list[tuple[str, bytes]]:
    found = await redis.xrange(f"events:{symbol}")
    return [(entry_id.decode(), fields[b"event"]) for entry_id, fields in found]


@pytest.mark.redis
async def test_ids_are_epoch_and_offset(redis: Client) -> None:
    """So a reader can join an entry to its record, and offset 0 has an id too."""
    streams = copier(redis)
    streams.put("BTCUSDT", 0, 0, b"a")
    streams.put("ETHUSDT", 0, 5, b"b")
    streams.put("BTCUSDT", 2, 0, b"c")
    await streams.flush()
    assert await entries(redis, "BTCUSDT") == [("0-1", b"a"), ("2-1", b"c")]
    assert await entries(redis, "ETHUSDT") == [("0-6", b"b")]


@pytest.mark.redis
async def test_what_comes_again_is_refused_by_redis(redis: Client) -> None:
    """After a restart, from the committed offset on."""
    for start in (0, 3):
        streams = copier(redis)
        for offset in range(start, 6):
            streams.put("BTCUSDT", 0, offset, str(offset).encode())
        await streams.flush()
    assert await entries(redis, "BTCUSDT") == [(f"0-{n + 1}", str(n).encode()) for n in range(6)]


@pytest.mark.redis
async def test_merged_windows_go_by_their_writer_s_token(redis: Client) -> None:
    """One that has been replaced writes nothing any more, as if fenced."""
    before, after = copier(redis), copier(redis)
    for value in (b"a", b"b"):
        before.put_merged("BTCUSDT", 7, value)
    before.put_merged("ETHUSDT", 4, b"x")
    before.put_merged("ETHUSDT", 6, b"y")
    await before.flush()
    after.put_merged("BTCUSDT", 9, b"c")
    await after.flush()
    before.put_merged("BTCUSDT", 7, b"late")
    await before.flush()
    found = await redis.xrange("merged:BTCUSDT")
    assert [(entry.decode(), fields[b"merged"]) for entry, fields in found] == [
        ("7-1", b"a"),
        ("7-2", b"b"),
        ("9-1", b"c"),
    ]
    assert [entry for entry, _ in await redis.xrange("merged:ETHUSDT")] == [b"4-1", b"6-1"]


@pytest.mark.redis
async def test_a_stream_is_capped(redis: Client) -> None:
    """About: Redis drops whole nodes of its list."""
    streams = copier(redis, 100)
    for offset in range(2000):
        streams.put("BTCUSDT", 0, offset, b"x")
    await streams.flush(4)
    assert 100 <= await redis.xlen("events:BTCUSDT") < 300


class AwayRedis:
    """Fails until told otherwise; then takes everything."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.tries = 0
        self.taken: list[str] = []
        self._batch: list[str] = []

    def pipeline(self, *, transaction: bool) -> Self:
        assert not transaction
        self._batch = []
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None: ...

    def xadd(self, key: str, fields: dict[str, bytes], **options: Any) -> None:
        self._batch.append(options["id"])

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        self.tries += 1
        if self.error is not None:
            if isinstance(self.error, ResponseError):
                return [self.error] * len(self._batch)
            raise self.error
        self.taken += self._batch
        return [b"id"] * len(self._batch)


@pytest.mark.parametrize(
    "error", [RedisConnectionError("away"), ResponseError("OOM command not allowed")]
)
async def test_what_waits_is_written_when_redis_is_back(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, with nothing in between lost."""
    monkeypatch.setattr(raw_streams, "RETRY_SECONDS", 0.001)
    redis = AwayRedis(error)
    streams = copier(redis)
    running = asyncio.create_task(streams.run())
    streams.put("BTCUSDT", 0, 0, b"a")

    async def tried() -> bool:
        return redis.tries > 1

    await eventually(tried)
    streams.put("BTCUSDT", 0, 1, b"b")
    redis.error = None

    async def written() -> bool:
        return redis.taken == ["0-1", "0-2"]

    await eventually(written)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_oldest_are_dropped_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """And counted; the engines are not held up."""
    monkeypatch.setattr(raw_streams, "WAITING_MAX", 3)
    redis = AwayRedis(RedisConnectionError("away"))
    metrics = Metrics()
    streams = RawStreams(redis, 100, metrics)  # type: ignore[arg-type]
    for offset in range(5):
        streams.put("BTCUSDT", 0, offset, b"x")
    redis.error = None
    await streams.flush()
    assert redis.taken == ["0-3", "0-4", "0-5"]
    dropped = metrics.registry.get_sample_value(
        "tapeline_engine_events_total", {"event": "streams_dropped"}
    )
    assert dropped == 2


async def test_a_stop_does_not_wait_for_a_redis_that_is_away() -> None:
    """What could not be written is said."""
    streams = copier(AwayRedis(RedisConnectionError("away")))
    streams.put("BTCUSDT", 0, 0, b"x")
    await streams.flush()
