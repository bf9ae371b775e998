"""Reports and ticks: accepted from the newest token's holder, in order, and from nobody else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from lua import Acquired, PublishCode, ReportWrite, Scripts, TickWrite
from lua.keys import Keys

KEYS = Keys()
LEASE, COUNTER, META = KEYS.writer("BTCUSDT")
REPORT, HEAVY, TICK = KEYS.report("BTCUSDT"), KEYS.heavy("BTCUSDT"), KEYS.tick("BTCUSDT")
TTL_MS = 300_000

Write = ReportWrite | TickWrite


@pytest.fixture
async def lease(scripts: Scripts) -> Acquired:
    return await take(scripts, "a")


async def take(scripts: Scripts, who: str) -> Acquired:
    return await scripts.acquire(KEYS.writer("BTCUSDT"), who, "1", 2000)


def report(lease: Acquired, seq: int = 1, watermark: int = 100, **changes: Any) -> ReportWrite:
    write = ReportWrite(
        symbol="BTCUSDT",
        lease_value=lease.lease_value,
        token=lease.token,
        seq=seq,
        watermark=watermark,
        updated_at=1_700_000_000_000 + seq,
        payload=b"report %d" % seq,
    )
    return replace(write, **changes)


def tick(lease: Acquired, seq: int = 1, watermark: int = 100, **changes: Any) -> TickWrite:
    write = TickWrite(
        symbol="BTCUSDT",
        lease_value=lease.lease_value,
        token=lease.token,
        seq=seq,
        watermark=watermark,
        payload=b"tick %d" % seq,
    )
    return replace(write, **changes)


BOTH = pytest.mark.parametrize("make", [report, tick])
"""One fence: what holds for a report holds for a tick."""


async def send(scripts: Scripts, write: Write) -> PublishCode:
    if isinstance(write, ReportWrite):
        return await scripts.publish(write, TTL_MS)
    return await scripts.publish_tick(write, TTL_MS)


async def state(redis: Redis) -> dict[bytes, bytes]:
    return {key: await redis.dump(key) for key in await redis.keys()}


async def steal(redis: Redis, scripts: Scripts) -> Acquired:
    """Another takes over."""
    await redis.delete(LEASE)
    return await take(scripts, "b")


# --- accepted ------------------------------------------------------------------------------------


async def test_a_report_is_stored_with_its_order(
    redis: Redis, scripts: Scripts, lease: Acquired
) -> None:
    assert await scripts.publish(report(lease, seq=5), TTL_MS) is PublishCode.OK
    assert await redis.get(REPORT) == b"report 5"
    assert await redis.hgetall(META) == {
        b"token": str(lease.token).encode(),
        b"seq": b"5",
        b"watermark": b"100",
        b"updated_at": b"1700000000005",
    }
    assert await redis.pttl(META) == -1
    assert TTL_MS - 5000 < await redis.pttl(REPORT) <= TTL_MS


async def test_a_tick_has_an_order_of_its_own(
    redis: Redis, scripts: Scripts, lease: Acquired
) -> None:
    assert await scripts.publish(report(lease, seq=5, watermark=100), TTL_MS) is PublishCode.OK
    assert await scripts.publish_tick(tick(lease, seq=1, watermark=50), TTL_MS) is PublishCode.OK
    assert await redis.get(TICK) == b"tick 1"
    assert await redis.hmget(META, "seq", "watermark", "tick_seq", "tick_watermark") == [
        b"5",
        b"100",
        b"1",
        b"50",
    ]
    assert TTL_MS - 5000 < await redis.pttl(TICK) <= TTL_MS
    assert await scripts.publish(report(lease, seq=6, watermark=101), TTL_MS) is PublishCode.OK


async def test_a_long_report_is_in_two_keys_until_it_is_short_again(
    redis: Redis, scripts: Scripts, lease: Acquired
) -> None:
    await scripts.publish(report(lease, 1, heavy=b"long lists"), TTL_MS)
    assert await redis.get(HEAVY) == b"long lists"
    assert TTL_MS - 5000 < await redis.pttl(HEAVY) <= TTL_MS
    await scripts.publish(report(lease, 2), TTL_MS)
    assert not await redis.exists(HEAVY)


@BOTH
async def test_an_accepted_write_is_announced_and_a_refused_one_is_not(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    channel = REPORT if make is report else TICK
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        assert (await pubsub.get_message(timeout=1))["type"] == "subscribe"
        await send(scripts, make(lease, seq=1))
        await send(scripts, make(lease, seq=1))
        await send(scripts, make(lease, seq=2))
        announced = [orjson.loads((await pubsub.get_message(timeout=1))["data"]) for _ in range(2)]
        assert await pubsub.get_message(timeout=0.02) is None
    assert announced == [{"symbol": "BTCUSDT", "token": lease.token, "seq": seq} for seq in (1, 2)]


@BOTH
async def test_expiry_begins_anew_with_each_accepted_write_only(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    key = REPORT if make is report else TICK
    await send(scripts, make(lease, seq=1))
    await redis.pexpire(key, 1000)
    assert await send(scripts, make(lease, seq=1)) is PublishCode.DUPLICATE
    assert await redis.pttl(key) <= 1000
    assert await send(scripts, make(lease, seq=2)) is PublishCode.OK
    assert await redis.pttl(key) > 1000


async def test_payloads_are_bytes_of_any_kind(
    redis: Redis, scripts: Scripts, lease: Acquired
) -> None:
    body = bytes(range(256)) * 2000
    await scripts.publish(report(lease, payload=body, heavy=body), TTL_MS)
    assert await redis.get(REPORT) == await redis.get(HEAVY) == body


# --- refused -------------------------------------------------------------------------------------


@BOTH
async def test_a_retry_is_a_duplicate_and_so_is_anything_older(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    await send(scripts, make(lease, seq=7))
    kept = await state(redis)
    assert await send(scripts, make(lease, seq=7)) is PublishCode.DUPLICATE
    assert await send(scripts, make(lease, seq=6, watermark=999)) is PublishCode.DUPLICATE
    assert await state(redis) == kept


@BOTH
async def test_a_newer_grant_fences_the_old_writer_before_the_new_one_writes(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    await send(scripts, make(lease, seq=1))
    new = await steal(redis, scripts)
    kept = await state(redis)
    assert await send(scripts, make(lease, seq=2)) is PublishCode.FENCED
    assert await state(redis) == kept
    assert await send(scripts, make(new, seq=new.last_seq + 1)) is PublishCode.OK


@BOTH
async def test_the_last_accepted_write_fences_too_where_the_counter_was_lost(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    new = await steal(redis, scripts)
    await send(scripts, make(new))
    await redis.delete(COUNTER)
    await redis.set(LEASE, lease.lease_value)  # even if the old lease were back
    assert await send(scripts, make(lease, seq=9, watermark=999)) is PublishCode.FENCED


async def test_a_report_of_a_newer_token_fences_the_old_writer_s_ticks(
    redis: Redis, scripts: Scripts, lease: Acquired
) -> None:
    new = await steal(redis, scripts)
    await send(scripts, report(new))
    await redis.delete(COUNTER)
    await redis.set(LEASE, lease.lease_value)
    assert await send(scripts, tick(lease)) is PublishCode.FENCED


@BOTH
async def test_a_writer_whose_lease_has_expired_is_not_the_owner(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    await redis.pexpire(LEASE, 1)
    await asyncio.sleep(0.01)
    assert await send(scripts, make(lease)) is PublishCode.NOT_OWNER
    assert not await redis.exists(REPORT, TICK)


@BOTH
async def test_a_writer_after_a_wipe_is_not_the_owner(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    await redis.flushall()
    assert await send(scripts, make(lease)) is PublishCode.NOT_OWNER
    assert await redis.keys() == []


@BOTH
async def test_a_writer_that_is_behind_is_told_so(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    await send(scripts, make(lease, seq=1, watermark=100))
    new = await steal(redis, scripts)
    kept = await state(redis)
    assert await send(scripts, make(new, seq=2, watermark=99)) is PublishCode.STALE_DATA
    assert await state(redis) == kept
    assert await send(scripts, make(new, seq=3, watermark=100)) is PublishCode.OK


@BOTH
async def test_a_watermark_of_a_later_epoch_is_ahead_of_any_before(
    scripts: Scripts, lease: Acquired, make: Any
) -> None:
    await send(scripts, make(lease, seq=1, watermark=2**40 - 1))
    assert await send(scripts, make(lease, seq=2, watermark=2**40)) is PublishCode.OK
    assert await send(scripts, make(lease, seq=3, watermark=2**40 - 1)) is PublishCode.STALE_DATA


@BOTH
async def test_numbers_near_the_limit_are_told_apart(
    redis: Redis, scripts: Scripts, make: Any
) -> None:
    """Up to 2^53 - 1 a double holds every integer."""
    high = await scripts.acquire(KEYS.writer("BTCUSDT"), "a", "1", 2000, 2**53 - 1002)
    assert await send(scripts, make(high, seq=2**52, watermark=2**53 - 2)) is PublishCode.OK
    assert await send(scripts, make(high, seq=2**52 + 1, watermark=2**53 - 3)) is (
        PublishCode.STALE_DATA
    )
    assert await send(scripts, make(high, seq=2**52 + 1, watermark=2**53 - 1)) is PublishCode.OK
    await redis.delete(LEASE)
    higher = await take(scripts, "b")
    assert higher.token == high.token + 1
    assert await send(scripts, make(high, seq=2**52 + 2)) is PublishCode.FENCED


@BOTH
async def test_a_lost_counter_is_repaired_by_the_next_write(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    await redis.delete(COUNTER)
    assert await send(scripts, make(lease)) is PublishCode.OK
    assert await redis.get(COUNTER) == str(lease.token).encode()


@BOTH
async def test_without_memory_a_write_changes_nothing(
    redis: Redis, scripts: Scripts, lease: Acquired, make: Any
) -> None:
    await send(scripts, make(lease, seq=1))
    await redis.delete(COUNTER)
    kept = await state(redis)
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            await send(scripts, make(lease, seq=2))
    finally:
        await redis.config_set("maxmemory", 0)
    assert await state(redis) == kept
    assert await send(scripts, make(lease, seq=2)) is PublishCode.OK


# --- many at once, and scripts that Redis forgot --------------------------------------------------


async def test_many_writes_of_both_kinds_are_answered_each(
    redis: Redis, scripts: Scripts, lease: Acquired
) -> None:
    await redis.lpush(KEYS.writer("ODD").counter, "not a string")
    answers = await scripts.publish_many(
        [
            report(lease, 1),
            tick(lease, 1),
            report(lease, 1),
            report(lease, 2, watermark=1),
            replace(report(lease, 3), symbol="ODD"),
            replace(report(lease, 3), token=lease.token - 1),
        ],
        TTL_MS,
    )
    assert answers[:4] == [
        PublishCode.OK,
        PublishCode.OK,
        PublishCode.DUPLICATE,
        PublishCode.STALE_DATA,
    ]
    assert isinstance(answers[4], RedisError)
    assert answers[5] is PublishCode.FENCED


async def test_a_script_that_redis_forgot_is_sent_again(
    redis: Redis, scripts: Scripts, lease: Acquired
) -> None:
    """Also inside a pipeline, and also one that knows some scripts and not others."""
    await redis.script_flush()
    assert await scripts.publish(report(lease, 1), TTL_MS) is PublishCode.OK
    await redis.script_flush()
    assert (
        await scripts.publish_many(
            [report(lease, 2), tick(lease, 1), report(lease, 3), tick(lease, 2)], TTL_MS
        )
        == [PublishCode.OK] * 4
    )
    await redis.script_flush()
    assert await scripts.publish(report(lease, 4), TTL_MS) is PublishCode.OK
    assert await scripts.publish_many([tick(lease, 3), report(lease, 5)], TTL_MS) == (
        [PublishCode.OK] * 2
    )
    assert await redis.get(REPORT) == b"report 5"
    assert await redis.get(TICK) == b"tick 3"
