"""A real Redis and a real Valkey under every test of scripts and of their callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from lua import Scripts
from tests.support.redis_process import BINARIES, RedisProcess


def _binary(name: str) -> str:
    binary = BINARIES[name]()
    if binary is None:
        pytest.skip(f"no {name}-server on this machine")
    return binary


@pytest.fixture(scope="session", params=sorted(BINARIES))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisProcess]:
    """One server for many tests; they must leave it running."""
    process = RedisProcess(_binary(request.param), tmp_path_factory.mktemp(request.param))
    process.start()
    yield process
    process.kill()


@pytest.fixture(params=sorted(BINARIES))
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisProcess]:
    """A server that its test may kill, restart and pause."""
    process = RedisProcess(_binary(request.param), tmp_path)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def redis(server: RedisProcess) -> AsyncIterator[Redis]:
    """A client of an empty server."""
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        await client.config_set("maxmemory", 0)
        yield client


@pytest.fixture
def scripts(redis: Redis) -> Scripts:
    return Scripts(redis)
