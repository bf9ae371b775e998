"""Reads that wait for one another share a round trip."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tapeline.errors import ReportError

BATCH_MAX: Final = 256
GRACE_S: Final = 0.005


class StoreUnavailable(ReportError):
    """Redis did not answer in time."""


class Fetcher:
    """Gets values of keys over one connection, all that are asked for meanwhile in one go.

    Each on its own, requests that pile up behind a hiccup would each open a connection, be late by
    that, give up, and leave the connection to be closed: a reader that should have caught up in
    milliseconds stays down under a load that it bears. So there is one request to Redis at a time,
    and who comes while it is under way shares the next.

    Args:
        redis: A client of `serving.reader.reader_client`.
        timeout_s: How long an answer may take, from when it was asked for.
    """

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        self._redis, self._timeout_s = redis, timeout_s
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._since_s = 0.0
        self._flight: asyncio.Task[None] | None = None

    async def get(self, key: str) -> bytes | None:
        """What is stored, read after it was asked for; None where nothing is.

        Raises:
            StoreUnavailable: Redis did not answer in time, or with an error.
        """
        # Shielded: one who leaves takes nobody else's answer along.
        return _answer(await asyncio.shield(self._ask_for(key)))

    async def get_two(self, first: str, second: str) -> tuple[bytes | None, bytes | None]:
        """Two in one go; otherwise as `get`."""
        asked = asyncio.gather(self._ask_for(first), self._ask_for(second))
        one, other = await asyncio.shield(asked)
        return _answer(one), _answer(other)

    def _ask_for(self, key: str) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._since_s = loop.time()
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = loop.create_future()
        if self._flight is None or self._flight.done():
            self._flight = loop.create_task(self._fly(), name="reads of Redis")
        return future

    async def _fly(self) -> None:
        """Ask until nobody waits any more."""
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            answers = await self._within(list(batch), self._since_s + self._timeout_s)
            for future, answer in zip(batch.values(), answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _within(self, keys: list[str], deadline_s: float) -> list[Any]:
        """An answer or an error for each key, by the deadline.

        A process that was not let run for a while finds both on its return, the answer in its
        socket and the deadline passed, and would believe the latter. So it looks once more.
        """
        loop, answers = asyncio.get_running_loop(), list[Any]()
        asking = loop.create_task(self._ask_all(keys, answers), name="a read of Redis")
        await asyncio.wait({asking}, timeout=max(0.0, deadline_s - GRACE_S - loop.time()))
        if not asking.done():
            await asyncio.wait({asking}, timeout=GRACE_S)
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking})
        error: BaseException | None = TimeoutError()
        if not asking.cancelled():
            error = asking.exception()
            if error is not None and not isinstance(error, RedisError | OSError):
                raise error
        return answers + [error] * (len(keys) - len(answers))

    async def _ask_all(self, keys: list[str], answers: list[Any]) -> None:
        for at in range(0, len(keys), BATCH_MAX):
            answers += await self._ask(keys[at : at + BATCH_MAX])

    async def _ask(self, keys: list[str]) -> list[Any]:
        if len(keys) == 1:
            return [await self._redis.get(keys[0])]
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(key)
            return await pipe.execute(raise_on_error=False)


def _answer(found: Any) -> bytes | None:
    """What has come, raised where it is an error: that of a future nobody asks would be a warning."""
    if isinstance(found, Exception):
        raise StoreUnavailable(f"Redis did not answer: {found!r}")
    answer: bytes | None = found
    return answer
