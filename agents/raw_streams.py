"""Raw events for readers without Kafka: one capped Redis Stream a symbol, ``events:SYMBOL``.

An entry's id is (topic epoch, offset + 1), so an event redelivered after a restart is refused
by Redis itself, and a reader can join an entry to its record. That holds for one partition's
offsets only: a misrouted record's, if higher, would have Redis refuse all that follow. Redis being slow or away costs
the oldest waiting entries, counted; it never holds up the engines.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from agents.metrics import Metrics
from lua import Keys
from tapeline.logging import get_logger

WAITING_MAX: Final = 20_000
PIPELINE_MAX: Final = 1_000
RETRY_SECONDS: Final = 0.5
FLUSH_SECONDS: Final = 1.0
FIELD: Final = "event"

log = get_logger("raw_streams")


class RawStreams:
    """Copies records to Redis Streams, newest first to survive."""

    def __init__(
        self, redis: Redis, maxlen: int, metrics: Metrics, keys: Keys | None = None
    ) -> None:
        self._keys = keys or Keys()
        self._redis = redis
        self._maxlen = maxlen
        self._metrics = metrics
        self._waiting: deque[tuple[str, int, int, bytes]] = deque()
        self._wake = asyncio.Event()
        self._away = False

    def put(self, symbol: str, epoch: int, offset: int, value: bytes) -> None:
        """Queue one event."""
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self._metrics.engine_events.labels("streams_dropped").inc()
        self._waiting.append((symbol, epoch, offset, value))
        self._wake.set()

    async def flush(self, timeout_s: float = FLUSH_SECONDS) -> None:
        """Write what is queued, as far as Redis takes it in time: at a stop, behind `run`."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._waiting:
                    await self._write()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("streams.not_written", events=len(self._waiting), error=repr(error))

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                try:
                    await self._write()
                except (RedisError, OSError, TimeoutError) as error:
                    if not self._away:
                        self._away = True
                        log.warning("streams.redis_away", error=repr(error))
                    await asyncio.sleep(RETRY_SECONDS)

    async def _write(self) -> None:
        batch = [self._waiting[n] for n in range(min(PIPELINE_MAX, len(self._waiting)))]
        async with self._redis.pipeline(transaction=False) as pipe:
            for symbol, epoch, offset, value in batch:
                pipe.xadd(
                    self._keys.events(symbol),
                    {FIELD: value},
                    id=f"{epoch}-{offset + 1}",
                    maxlen=self._maxlen,
                    approximate=True,
                )
            results = await pipe.execute(raise_on_error=False)
        refused = [r for r in results if isinstance(r, Exception) and not _is_repeat(r)]
        if refused:
            raise refused[0]
        for entry in batch:
            if self._waiting and self._waiting[0] is entry:
                self._waiting.popleft()
        self._away = False


def _is_repeat(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "equal or smaller" in str(error)
