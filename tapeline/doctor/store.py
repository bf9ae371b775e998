"""Redis or Valkey: there, quick enough for leases, safe, and with the scripts it needs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from lua.scripts import DEFAULT_SCRIPTS
from tapeline.config import Settings, mask
from tapeline.doctor.model import Check, Finding, fail, ok, skip, warn

ANSWER_S: Final = 2.0
PINGS: Final = 10
SLOW_MS: Final = 20.0
"""A round trip above it eats into leases, and into the age of every report."""

VERSION_LEAST: Final = (6, 2)
MEMORY_WARN: Final = 0.8
"""Of its limit."""

CLOCK_WARN_MS: Final = 200
CLOCK_FAIL_MS: Final = 1000

NOT_SET: Final = "REDIS_URL is not set"
AWAY: Final = (RedisConnectionError, RedisTimeoutError, OSError)

Look = Callable[[Redis, Settings], Awaitable[Finding]]


def checks(settings: Settings) -> list[Check]:
    """All checks of Redis."""
    looks: dict[str, Look] = {
        "redis": look_at_redis,
        "redis.scripts": look_at_scripts,
        "redis.eviction": look_at_eviction,
        "redis.persistence": look_at_persistence,
        "clock.redis": look_at_clock,
    }
    return [
        Check(name, partial(_connected, settings, name, look), "redis-cli -u $REDIS_URL PING")
        for name, look in looks.items()
    ]


async def _connected(settings: Settings, name: str, look: Look) -> Finding:
    """Look with a client of this check's own; who can't connect is told of once, by ``redis``."""
    first = name == "redis"
    expected = "a Redis or Valkey that answers"
    if not settings.redis_url:
        if not first:
            return skip(NOT_SET, expected)
        fix = "export REDIS_URL=redis://127.0.0.1:6379/0 (`tapeline dev` brings one of its own)"
        return fail(NOT_SET, expected, fix)
    redis = Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=ANSWER_S,
        socket_timeout=ANSWER_S,
        retry=Retry(NoBackoff(), 0),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    try:
        return await look(redis, settings)
    except AWAY as error:
        if not first:
            return skip("Redis does not answer", expected)
        fix = f"start it, or set REDIS_URL: redis-cli -u {mask(settings.redis_url)} PING"
        return fail(f"{mask(settings.redis_url)}: {error}", expected, fix)
    except NoPermissionError as error:
        fix = f"ACL SETUSER {urlsplit(settings.redis_url).username or 'default'} with what it names"
        return fail(str(error), f"a user who may do what {name} looks at", fix)
    except RedisError as error:
        return fail(str(error), expected, f"redis-cli -u {mask(settings.redis_url)} PING")
    finally:
        await redis.aclose()


async def _info(redis: Redis, section: str) -> dict[str, Any]:
    found: dict[str, Any] = await redis.info(section)
    return found


async def look_at_redis(redis: Redis, settings: Settings) -> Finding:
    """Its version, its role, and how long it takes to answer."""
    most_ms = settings.lease_renew_ms
    expected = (
        f"version {'.'.join(map(str, VERSION_LEAST))} or later, the primary, answers in less than "
        f"{SLOW_MS:g} ms (leases end at {most_ms})"
    )
    server = await _info(redis, "server")
    name = "Valkey" if "valkey_version" in server else "Redis"
    version = str(server.get("valkey_version") or server.get("redis_version", "0"))
    role = (await _info(redis, "replication")).get("role", "master")
    cluster = (await _info(redis, "cluster")).get("cluster_enabled", 0)
    trips_ms = []
    for _ in range(PINGS):
        began_s = time.perf_counter()
        await redis.ping()
        trips_ms.append((time.perf_counter() - began_s) * 1000)
    slowest, median = max(trips_ms), sorted(trips_ms)[PINGS // 2]
    found = f"{name} {version}, {role}, {median:.1f} ms, {slowest:.1f} at most"
    if _version(version) < VERSION_LEAST:
        return fail(found, expected, "a newer Redis or Valkey")
    if role != "master":
        return fail(found, expected, "set REDIS_URL to the primary; a replica takes no writes")
    if cluster and not settings.redis_cluster_keys:
        return fail(f"{found}, a cluster", expected, "NT_REDIS_CLUSTER_KEYS=true, on all processes")
    if median >= most_ms:
        return fail(found, expected, "a Redis nearer by, or a larger NT_LEASE_TTL_MS")
    if median >= SLOW_MS:
        return warn(found, expected, "a Redis nearer by, on a machine with less to do")
    return ok(found, expected)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())


async def look_at_scripts(redis: Redis, _settings: Settings) -> Finding:
    """Loads the scripts, as every worker does; that changes no key."""
    expected = f"{len(DEFAULT_SCRIPTS)} scripts loadable"
    for script in DEFAULT_SCRIPTS.values():
        try:
            sha: Any = await redis.script_load(script.source)
        except NoPermissionError:
            raise
        except ResponseError as error:
            return fail(
                f"{script.name}: {error}", expected, "a Redis or Valkey that allows scripts"
            )
        said = sha.decode() if isinstance(sha, bytes) else sha
        if said != script.sha:
            return fail(f"{script.name} has hash {said}", script.sha, "install Tapeline anew")
    return ok(f"{len(DEFAULT_SCRIPTS)} scripts", expected)


async def look_at_eviction(redis: Redis, _settings: Settings) -> Finding:
    """What it does when its memory is full: nothing of ours may be thrown away."""
    expected = "maxmemory-policy noeviction, and memory to spare"
    memory = await _info(redis, "memory")
    policy, limit = str(memory.get("maxmemory_policy", "")), int(memory.get("maxmemory", 0))
    used = int(memory.get("used_memory", 0))
    if not policy:
        return skip("it does not say", expected)
    share = f"{used / limit:.0%} of {limit / 2**20:.0f} MiB used" if limit else "no memory limit"
    found = f"{policy}, {share}"
    if policy != "noeviction":
        fix = "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in its config file"
        if not limit:
            return warn(f"{found}: leases and tokens may go once there is one", expected, fix)
        return fail(f"{found}: leases and fencing tokens may be thrown away", expected, fix)
    if limit and used >= MEMORY_WARN * limit:
        return warn(found, expected, "raise maxmemory, or lower NT_STREAMS_MAXLEN")
    return ok(found, expected)


async def look_at_persistence(redis: Redis, _settings: Settings) -> Finding:
    """Whether tokens outlive it."""
    expected = "appendonly yes, and the last writes to disk successful"
    kept = await _info(redis, "persistence")
    broken = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if kept.get(name, "ok") != "ok"
    ]
    if broken:
        fix = "see its log and its disk; until then it may refuse all writes"
        return fail(f"{', '.join(broken)} is not ok", expected, fix)
    if not int(kept.get("aof_enabled", 0)):
        fix = "redis-cli CONFIG SET appendonly yes, and the same in its config file"
        return warn("appendonly no: a restart forgets fencing tokens and API keys", expected, fix)
    return ok("appendonly yes", expected)


async def look_at_clock(redis: Redis, _settings: Settings) -> Finding:
    """Its clock, beside ours: of several answers the quickest is believed."""
    await redis.ping()  # connecting is not to count
    best: tuple[float, float] | None = None
    for _ in range(PINGS // 2):
        before_ms, began_s = time.time() * 1000, time.perf_counter()
        seconds, micros = await redis.time()
        trip_ms = (time.perf_counter() - began_s) * 1000
        ahead_ms = seconds * 1000 + micros / 1000 - (before_ms + trip_ms / 2)
        if best is None or trip_ms < best[0]:
            best = trip_ms, ahead_ms
    assert best is not None
    return judge_clock("Redis", best[1], best[0] / 2)


def judge_clock(whose: str, ahead_ms: float, error_ms: float) -> Finding:
    """What an offset means.

    Args:
        whose: Its owner.
        ahead_ms: How far it is ahead of ours, negative if behind.
        error_ms: How far that may be off.
    """
    expected = f"within {CLOCK_WARN_MS} ms of ours"
    found = (
        f"{whose}'s clock is {abs(ahead_ms):.0f} ms {'ahead of' if ahead_ms > 0 else 'behind'} ours"
    )
    found += f", give or take {error_ms:.0f}"
    fix = "timedatectl set-ntp true, or chronyc makestep, on whichever is wrong"
    beyond_ms = abs(ahead_ms) - error_ms
    if beyond_ms >= CLOCK_FAIL_MS:
        return fail(found, expected, fix)
    return warn(found, expected, fix) if beyond_ms >= CLOCK_WARN_MS else ok(found, expected)
