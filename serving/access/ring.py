"""The keys that are in force, as a reader knows them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.access.keys import VERSION_FIELD, ApiKey, decoded, parsed
from tapeline.clock import Clock, SystemClock
from tapeline.errors import TapelineError

POLL_MS: Final = 250
"""Age from which what is known is checked before it is used: a revocation is in force after
this and one answer of Redis."""

GRACE_MS: Final = 60_000
"""How long keys are still taken while Redis can't be asked. Longer, and a revoked key would live
on behind a cut cable; shorter, and a failover would lock everybody out."""

MISS_MS: Final = 50
"""Between two looks for keys that are not known: guessing must not become load on Redis."""

TIMEOUT_S: Final = 0.15


class KeysUnknown(TapelineError):
    """Redis has not said yet, or not for too long, which keys are in force."""


class KeyRing:
    """Finds keys; asks Redis when what it knows is old, and only for what has changed.

    There is no task behind it: whoever comes with a key pays for the look, at most four times a
    second together.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        clock: Clock | None = None,
        *,
        poll_ms: int = POLL_MS,
        grace_ms: int = GRACE_MS,
    ) -> None:
        self._redis, self._name = redis, keys.api_keys()
        self._clock = clock or SystemClock()
        self._poll_ms, self._grace_ms = poll_ms, grace_ms
        self._known: dict[str, ApiKey] = {}
        self._version: bytes | None = None
        self._heard_ms: int | None = None
        self._tried_ms: int | None = None
        self._asking = asyncio.Lock()

    @property
    def in_force(self) -> int:
        """How many known keys are not revoked."""
        return sum(key.revoked_ms is None for key in self._known.values())

    async def find(self, text: str) -> ApiKey | None:
        """The key of this text; None where there is none, or it is revoked.

        Raises:
            KeysUnknown: Redis could not be asked, now and for the last minute.
        """
        parts = parsed(text)
        if parts is None:
            return None
        key_id, secret = parts
        await self._look(self._poll_ms)
        if key_id not in self._known:
            await self._look(MISS_MS)  # it may have been made a moment ago
        key = self._known.get(key_id)
        if key is None or key.revoked_ms is not None or not key.opens_with(secret):
            return None
        return key

    async def current(self, key_id: str) -> ApiKey | None:
        """The key of this id while it is in force, for whoever has shown it before.

        Raises:
            KeysUnknown: As `find`.
        """
        await self._look(self._poll_ms)
        key = self._known.get(key_id)
        return None if key is None or key.revoked_ms is not None else key

    async def refresh(self) -> None:
        """Look now.

        Raises:
            KeysUnknown: As `find`.
        """
        await self._look(0)

    async def _look(self, age_ms: int) -> None:
        """Ask, unless somebody has within the last ``age_ms``."""
        if not self._is_old(age_ms):
            return self._check()
        async with self._asking:
            if self._is_old(age_ms):
                self._tried_ms = self._clock.monotonic_ms()
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        await self._ask()
                except (RedisError, OSError, TimeoutError):
                    return self._check()
                self._heard_ms = self._clock.monotonic_ms()
        return self._check()

    def _is_old(self, age_ms: int) -> bool:
        return self._tried_ms is None or self._clock.monotonic_ms() - self._tried_ms >= age_ms

    def _check(self) -> None:
        if self._heard_ms is None or self._clock.monotonic_ms() - self._heard_ms > self._grace_ms:
            raise KeysUnknown("which API keys are in force is not known: Redis did not answer")

    async def _ask(self) -> None:
        version: Any = await self._redis.hget(self._name, VERSION_FIELD)
        if version is not None and version == self._version:
            return
        fields: Any = await self._redis.hgetall(self._name)
        # What was fetched is at least as new as the version asked for before it.
        self._known, self._version = decoded(fields), version
