"""What each key has asked: kept in Redis, capped, read back by the key's owner alone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys

PENDING_MAX: Final = 10_000
"""Calls that may wait to be written; beyond, the oldest are dropped and counted."""

BATCH_MAX: Final = 500
FLUSH_S: Final = 0.5
KEPT_S: Final = 30 * 86_400
"""A key that nobody uses has no history after this."""

TIMEOUT_S: Final = 1.0


class Call(msgspec.Struct, frozen=True):
    """One call.

    Attributes:
        at_ms: When it came.
        method, path: What was called; the path as it is documented.
        query: Its parameters; a key is never among them.
        status, took_ms, sent_bytes: What became of it.
        request_id: As in the log.
    """

    at_ms: int
    method: str
    path: str
    query: str
    status: int
    took_ms: float
    sent_bytes: int
    request_id: str


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Call).decode


class History:
    """Calls on their way to Redis, and back.

    Args:
        redis: A client of a user who may write ``nt:queries:*``.
        keys: Names of the keys of Redis.
        kept: Calls kept of a key, about; 0 keeps none.
        on_dropped: Told how many calls were given up.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        kept: int,
        on_dropped: Callable[[int], object] | None = None,
    ) -> None:
        self._redis, self._keys, self._kept = redis, keys, kept
        self._pending: deque[tuple[str, Call]] = deque(maxlen=PENDING_MAX)
        self._on_dropped = on_dropped or (lambda _count: None)

    def add(self, key_id: str, call: Call) -> None:
        """Remember a call; never waits."""
        if not self._kept:
            return
        if len(self._pending) == PENDING_MAX:
            self._on_dropped(1)
        self._pending.append((key_id, call))

    async def flush(self) -> None:
        """Write what waits.

        Raises:
            RedisError, OSError, TimeoutError: Redis did not take it; it goes on waiting.
        """
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(BATCH_MAX, len(self._pending)))]
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._write(batch)
            except (RedisError, OSError, TimeoutError):
                room = PENDING_MAX - len(self._pending)
                if len(batch) > room:
                    self._on_dropped(len(batch) - room)
                self._pending.extendleft(reversed(batch[-room:] if room else []))
                raise

    async def _write(self, batch: list[tuple[str, Call]]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for key_id, call in batch:
                pipe.xadd(
                    self._keys.queries(key_id),
                    {"call": _encode(call)},
                    maxlen=self._kept,
                    approximate=True,
                )
            for key_id in {key_id for key_id, _ in batch}:
                pipe.expire(self._keys.queries(key_id), KEPT_S)
            await pipe.execute()

    async def run(self) -> None:
        """Write again and again, until cancelled; an outage is waited out."""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except (RedisError, OSError, TimeoutError):
                continue

    async def read(self, key_id: str, limit: int, before: str = "") -> tuple[list[Call], str]:
        """The newest calls of a key, newest first.

        Args:
            key_id: Whose.
            limit: How many at most.
            before: Where the page before ended; '' for the first.

        Returns:
            The calls, and where the next page begins; '' after the last.

        Raises:
            RedisError, OSError, TimeoutError: Redis did not answer.
        """
        if before and not before.strip("0-"):
            return [], ""  # nothing comes before that, which is an error to Redis
        async with asyncio.timeout(TIMEOUT_S):
            await self.flush()
            entries: Any = await self._redis.xrevrange(
                self._keys.queries(key_id), f"({before}" if before else "+", "-", count=limit + 1
            )
        calls = []
        for _, fields in entries[:limit]:
            try:
                calls.append(_decode(fields[b"call"]))
            except (KeyError, msgspec.DecodeError):
                continue
        more = len(entries) > limit
        return calls, entries[limit - 1][0].decode() if more else ""
