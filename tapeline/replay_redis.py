"""Reports of a replay in Redis, under a prefix of their own: never a live key."""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import Final, Self

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tables.report import Report
from tapeline.errors import ConfigError, StackError

FLUSH_S: Final = 0.05

LIVE: Final = ("report", "tick", "feed", "nt", "events")
"""First words of the keys of a live system."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,64}(:[A-Za-z0-9._-]{1,64})*")


def check_prefix(prefix: str) -> str:
    """The prefix, if it can't be in a live system's way.

    Raises:
        ConfigError: It is empty, malformed, or begins as live keys do.
    """
    first = prefix.partition(":")[0]
    if _PREFIX.fullmatch(prefix) is None or first in LIVE:
        raise ConfigError(
            "--redis",
            prefix,
            "a prefix of the replay's own, such as replay or lab:1; letters, digits, dots, dashes "
            f"and underscores, and not beginning with {', '.join(LIVE)}, which are live keys",
        )
    return prefix


class RedisOut:
    """``PREFIX:report:SYMBOL``, the newest report only; announced on the channel of that name."""

    def __init__(self, redis_url: str, prefix: str, ttl_ms: int) -> None:
        self._redis = Redis.from_url(redis_url)
        self._prefix = check_prefix(prefix)
        self._ttl_ms = ttl_ms
        self._waiting: dict[str, tuple[int, bytes]] = {}
        self._flushed_s = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._redis.aclose()

    def put(self, report: Report, payload: bytes) -> None:
        """Take a report; one of the symbol not yet written is replaced."""
        self._waiting[report.symbol] = report.seq, payload

    async def flush_if_due(self) -> None:
        """`flush`, at most 20 times a second."""
        if self._waiting and time.monotonic() - self._flushed_s >= FLUSH_S:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits.

        Raises:
            StackError: Redis does not answer.
        """
        waiting, self._waiting = self._waiting, {}
        pipeline = self._redis.pipeline(transaction=False)
        for symbol, (seq, payload) in waiting.items():
            key = f"{self._prefix}:report:{symbol}"
            pipeline.set(key, payload, px=self._ttl_ms)
            pipeline.publish(key, orjson.dumps({"symbol": symbol, "token": 0, "seq": seq}))
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StackError(f"Redis does not take the replay's reports: {error}") from None
        self._flushed_s = time.monotonic()
