"""Feed leases on a real Redis."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from lua import Scripts
from streams.feed_lease import FeedKey, FeedLeases, lease_client
from tests.support.bridge import until

TTL_MS = 400
KEYS = [FeedKey("binance", "BTCUSDT"), FeedKey("binance", "ETHUSDT")]

pytestmark = pytest.mark.redis


class Bridge:
    """One contender."""

    def __init__(self, redis_url: str, name: str) -> None:
        self.client: Redis = lease_client(redis_url, TTL_MS)
        self.tokens: dict[FeedKey, list[int]] = {key: [] for key in KEYS}
        self.revocations = 0
        self.leases = FeedLeases(
            Scripts(self.client), KEYS, self, node_id=name, incarnation=name, ttl_ms=TTL_MS
        )

    def granted(self, key: FeedKey, token: int) -> None:
        self.tokens[key].append(token)

    def revoked(self, key: FeedKey) -> None:
        self.revocations += 1

    @property
    def holds_all(self) -> bool:
        return all(self.leases.token(key) for key in KEYS)


async def test_a_second_bridge_waits_and_takes_over_with_higher_tokens(redis_url: str) -> None:
    first, second = Bridge(redis_url, "a"), Bridge(redis_url, "b")
    await first.leases.step()
    await second.leases.step()
    assert first.holds_all
    assert not second.holds_all
    await first.leases.release()
    await second.leases.step()
    assert second.holds_all
    for key in KEYS:
        assert second.tokens[key][0] > first.tokens[key][0]
    await second.leases.release()
    for bridge in (first, second):
        await bridge.client.aclose()


async def test_a_bridge_that_died_is_replaced_when_its_lease_has_run_out(redis_url: str) -> None:
    first, second = Bridge(redis_url, "a"), Bridge(redis_url, "b")
    await first.leases.step()
    waiting = asyncio.create_task(second.leases.run())
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    await until(lambda: second.holds_all)
    assert loop.time() - start_s < 2 * TTL_MS / 1000
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await first.leases.step()  # it was only paused: Redis says that the leases are another's
    assert first.revocations == len(KEYS)
    assert not first.holds_all
    await second.leases.release()
    for bridge in (first, second):
        await bridge.client.aclose()


async def test_renewals_keep_the_lease_longer_than_its_life(redis_url: str) -> None:
    first, second = Bridge(redis_url, "a"), Bridge(redis_url, "b")
    await first.leases.step()
    renewing = asyncio.create_task(first.leases.run())
    contending = asyncio.create_task(second.leases.run())
    await asyncio.sleep(3 * TTL_MS / 1000)
    assert first.holds_all
    assert not second.holds_all
    assert [len(tokens) for tokens in first.tokens.values()] == [1, 1]
    for task in (renewing, contending):
        task.cancel()
    await asyncio.gather(renewing, contending, return_exceptions=True)
    await first.leases.release()
    for bridge in (first, second):
        await bridge.client.aclose()


async def test_a_flushed_redis_grants_a_higher_token_to_the_old_holder(redis_url: str) -> None:
    bridge = Bridge(redis_url, "a")
    await bridge.leases.step()
    await bridge.client.flushall()
    await bridge.client.script_flush()
    await bridge.leases.step()
    for key in KEYS:
        before, after = bridge.tokens[key]
        assert after > before
    await bridge.leases.release()
    await bridge.client.aclose()
