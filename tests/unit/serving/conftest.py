"""A real Redis under every reader, and one that a test may pause."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serving.reader import reader_client
from tests.support.redis_process import BINARIES, RedisProcess


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the session's server, which is empty."""
    async with reader_client(redis_url) as client:
        yield client


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server of the test's own: paused, resumed and killed at will."""
    binary = next(filter(None, (find() for find in BINARIES.values())), None)
    if binary is None:
        pytest.skip("no redis-server and no valkey-server on this machine")
    process = RedisProcess(binary, tmp_path)
    process.start()
    yield process
    process.resume()
    process.kill()
