"""What heartbeats are made of, whoever sends them: rates out of counts, and counted starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from redis.asyncio import Redis

BEAT_MS: Final = 1000
JITTER_MS: Final = 100
TTL_S: Final = 5
"""Life of a heartbeat: whoever has not sent one for so long is gone."""

STARTS_TTL_S: Final = 86_400
"""Restarts are counted until a day has passed without one."""

LOOKS_MAX: Final = 6
"""Rates are over the last five beats: one is too few to read, ten lag behind an outage."""


class Rates:
    """How fast counts rise, over the last few looks at them. Pure."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, dict[Hashable, float]]] = deque(maxlen=LOOKS_MAX)

    def look(self, now_ms: int, counts: Mapping[Any, float]) -> None:
        """The counts as they are now, by any clock that does not step back."""
        self._looks.append((now_ms, dict(counts)))

    def per_s(self, key: Hashable) -> float | None:
        """Of one count; None before it was seen twice. A count that fell was begun anew."""
        if not self._looks:
            return None
        now_ms, newest = self._looks[-1]
        if key not in newest:
            return None
        for then_ms, counts in self._looks:
            if key in counts and counts[key] <= newest[key] and then_ms < now_ms:
                return round((newest[key] - counts[key]) * 1000 / (now_ms - then_ms), 1)
        return None


async def count_start(redis: Redis, key: str) -> int:
    """Count one more start under ``key``; returns how many there were before it."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.incr(key)
        pipe.expire(key, STARTS_TTL_S)
        answers: list[Any] = await pipe.execute()
    return int(answers[0]) - 1


@cache
def own_version() -> str:
    """Of the product, or that it runs from a checkout."""
    try:
        return version("tapeline")
    except PackageNotFoundError:
        return "checkout"
