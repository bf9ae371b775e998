"""What a reader sees from outside: every accepted write, in the order in which Redis took it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys

RETRY_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Write:
    """An accepted report.

    Attributes:
        heard_s: On this process's monotonic clock.
        token, seq: As announced.
        watermark: Of the newest report when it was looked at; how far the source had advanced.
    """

    symbol: str
    heard_s: float
    token: int
    seq: int
    watermark: int


@dataclass(slots=True)
class Observer:
    """Listens to the announcements of all reports, past any proxy.

    Attributes:
        writes: By symbol, in the order they were heard in.
    """

    url: str
    symbols: list[str]
    writes: dict[str, list[Write]] = field(default_factory=lambda: defaultdict(list))

    async def run(self) -> None:
        """Listen until cancelled; while Redis is away, to nothing."""
        while True:
            try:
                await self._listen()
            except (OSError, RedisError):
                await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        keys = Keys()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with Redis.from_url(self.url) as store, store.pubsub() as channel:
            await channel.subscribe(*(keys.report(symbol) for symbol in self.symbols))
            reading = asyncio.create_task(self._look(store, keys, waiting))
            try:
                async for message in channel.listen():
                    if message["type"] == "message":
                        waiting.put_nowait((time.monotonic(), message["data"]))
            finally:
                reading.cancel()

    async def _look(self, store: Any, keys: Keys, waiting: Any) -> None:
        while True:
            batch = [await waiting.get()]
            while not waiting.empty():
                batch.append(waiting.get_nowait())
            told = [(heard, json.loads(data)) for heard, data in batch]
            async with store.pipeline(transaction=False) as pipe:
                for _, one in told:
                    pipe.hget(keys.meta(one["symbol"]), "watermark")
                marks = await pipe.execute()
            for (heard, one), mark in zip(told, marks, strict=True):
                self.writes[one["symbol"]].append(
                    Write(one["symbol"], heard, one["token"], one["seq"], int(mark or 0))
                )
