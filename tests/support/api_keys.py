"""API keys for tests, in a Redis of theirs."""

from __future__ import annotations

from redis.asyncio import Redis

from lua import Keys
from serving.access import SCOPES
from serving.access.keys import KeyStore, mint
from tapeline.clock import SystemClock


async def issue(
    redis: Redis, *scopes: str, name: str = "desk", rate: int | None = 10_000
) -> tuple[str, str]:
    """(text, id) of a new key; one with all scopes unless some are given."""
    key, text = mint(name, scopes or SCOPES, rate, SystemClock().now_ms())
    await KeyStore(redis, Keys()).put(key)
    return text, key.id


async def revoke(redis: Redis, key_id: str) -> None:
    await KeyStore(redis, Keys()).revoke(key_id, SystemClock().now_ms())
