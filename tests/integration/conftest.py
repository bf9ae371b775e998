"""An installation of a test's own, on the servers that all tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.worker import Client, Installation


@pytest.fixture
async def one(kafka_url: str, redis_url: str) -> AsyncIterator[Installation]:
    installation = Installation(kafka_url, redis_url, env={"NT_CLOCK": "records"})
    await installation.apply_topics()
    yield installation
    await installation.close()


@pytest.fixture
async def redis(one: Installation) -> AsyncIterator[Client]:
    async with one.redis() as client:
        yield client
