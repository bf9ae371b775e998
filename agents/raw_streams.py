"""Events for readers without Kafka: capped Redis Streams ``events:SYMBOL`` and ``merged:SYMBOL``.

An event's id is (topic epoch, offset + 1), so an event redelivered after a restart is refused
by Redis itself, and a reader can join an entry to its record. That holds for one partition's
offsets only: a misrouted record's, if higher, would have Redis refuse all that follow. A merged
window's id is (token of its writer, how many before it under that token): what a writer that has
been replaced still writes, Redis refuses, too. Redis being slow or away costs the oldest waiting
entries, counted; it never holds up the engines.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

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
MERGED_FIELD: Final = "merged"

log = get_logger("raw_streams")


class _Entry(NamedTuple):
    key: str
    entry_id: str
    field: str
    value: bytes


class RawStreams:
    """Copies records to Redis Streams, newest first to survive."""

    def __init__(
        self, redis: Redis, maxlen: int, metrics: Metrics, keys: Keys | None = None
    ) -> None:
        self._keys = keys or Keys()
        self._redis = redis
        self._maxlen = maxlen
        self._metrics = metrics
        self._waiting: deque[_Entry] = deque()
        self._merged: dict[str, tuple[int, int]] = {}  # token, windows under it
        self._wake = asyncio.Event()
        self._away = False

    def put(self, symbol: str, epoch: int, offset: int, value: bytes) -> None:
        """Queue one event."""
        self._put(_Entry(self._keys.events(symbol), f"{epoch}-{offset + 1}", FIELD, value))

    def put_merged(self, symbol: str, token: int, value: bytes) -> None:
        """Queue one merged window, of the holder of this token."""
        known, windows = self._merged.get(symbol, (0, 0))
        windows = windows + 1 if token == known else 1
        self._merged[symbol] = token, windows
        self._put(_Entry(self._keys.merged(symbol), f"{token}-{windows}", MERGED_FIELD, value))

    def _put(self, entry: _Entry) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self._metrics.engine_events.labels("streams_dropped").inc()
        self._waiting.append(entry)
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
            for key, entry_id, field, value in batch:
                pipe.xadd(
                    key,
                    {field: value},
                    id=entry_id,
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
