"""A feed's last hour as its bridges have kept it: read, and put together. Mostly pure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.reader import StoreUnavailable
from serving.status.models import MinutePoint

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
ENTRIES_MAX: Final = 200
TIMEOUT_S: Final = 0.15
_FIELD: Final = b"point"


class _Point(msgspec.Struct):
    records: int = 0
    gaps: int = 0
    resyncs: int = 0
    reconnects: int = 0
    looks: int = 0
    in_sync: int = 0
    age_ms_max: int | None = None
    span_ms: int = 0


_decode: Final = msgspec.json.Decoder(_Point).decode


async def read_minutes(
    redis: Redis, keys: Keys, venue: str, symbol: str, now_ms: int
) -> list[MinutePoint]:
    """The points of the last hour, oldest first.

    Raises:
        StoreUnavailable: Redis did not answer in time.
    """
    key = keys.feed_minutes(venue, symbol)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            entries: Any = await redis.xrange(
                key, min=str(max(0, now_ms - HOUR_MS - MINUTE_MS)), count=ENTRIES_MAX
            )
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"Redis did not answer: {error!r}") from None
    return minutes_of(entries)


def minutes_of(entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[MinutePoint]:
    """Points by minute; several bridges that took turns within one are counted together."""
    by_minute: dict[int, _Point] = {}
    for entry_id, fields in entries:
        try:
            point = _decode(fields[_FIELD])
            ts_ms = int(entry_id.partition(b"-")[0])
        except (KeyError, ValueError, msgspec.DecodeError):
            continue  # none of ours
        known = by_minute.get(ts_ms)
        by_minute[ts_ms] = point if known is None else _together(known, point)
    return [_shown(ts_ms, point) for ts_ms, point in sorted(by_minute.items())]


def _together(one: _Point, other: _Point) -> _Point:
    ages = [age for age in (one.age_ms_max, other.age_ms_max) if age is not None]
    return _Point(
        records=one.records + other.records,
        gaps=one.gaps + other.gaps,
        resyncs=one.resyncs + other.resyncs,
        reconnects=one.reconnects + other.reconnects,
        looks=one.looks + other.looks,
        in_sync=one.in_sync + other.in_sync,
        age_ms_max=max(ages, default=None),
        span_ms=one.span_ms + other.span_ms,
    )


def _shown(ts_ms: int, point: _Point) -> MinutePoint:
    return MinutePoint(
        ts_ms=ts_ms,
        records=point.records,
        records_per_s=round(point.records * 1000 / point.span_ms, 1) if point.span_ms > 0 else None,
        gaps=point.gaps,
        resyncs=point.resyncs,
        reconnects=point.reconnects,
        in_sync_pct=round(100 * point.in_sync / point.looks, 1) if point.looks > 0 else None,
        age_ms_max=point.age_ms_max,
    )
