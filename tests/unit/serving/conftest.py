"""A real Redis under every reader, and one that a test may pause."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serving.reader import reader_client
from tests.support.redis_process import RedisProcess, running_server


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the session's server, which is empty."""
    async with reader_client(redis_url) as client:
        yield client


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server of the test's own: paused, resumed and killed at will."""
    with running_server(tmp_path) as process:
        yield process
