"""Two live systems: their reports as they are announced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.reader import reader_client
from tapeline.compare.outcome import Comparison
from tapeline.compare.pairing import Pairing, Side, parts_of
from tapeline.config import Settings
from tapeline.errors import ReportError
from tapeline.halves import join_halves

HEAR_S: Final = 0.1
ANSWER_S: Final = 2.0
SETTLE_S: Final = 0.5

Progress = Callable[[float, int], None]
"""Told the seconds gone by and the pairs so far."""


class LiveComparison:
    """Listens to both systems for a while.

    Args:
        settings: ``redis_url`` and how keys are named.
        suffixes: Of the two systems; '' for one without.
        symbols: Which to compare; all that are heard of if empty.
        comparison: Takes the pairs.
        near_ms: See `Pairing`.
    """

    def __init__(
        self,
        settings: Settings,
        suffixes: tuple[str, str],
        symbols: Sequence[str],
        comparison: Comparison,
        near_ms: int = 0,
    ) -> None:
        cluster = settings.redis_cluster_keys
        self._keys = tuple(Keys(cluster=cluster, suffix=suffix) for suffix in suffixes)
        self._url, self._symbols = settings.redis_url, frozenset(symbols)
        self._comparison, self._near_ms = comparison, near_ms
        self._pairings: dict[tuple[str, str], Pairing] = {}

    async def run(self, seconds: float, progress: Progress) -> None:
        """Listen, and compare what belongs together.

        Raises:
            ReportError: Redis does not answer.
        """
        try:
            async with reader_client(self._url) as redis, redis.pubsub() as channel:
                async with asyncio.timeout(ANSWER_S):
                    await channel.psubscribe(*{keys.every_report() for keys in self._keys})
                await self._listen(redis, channel, seconds, progress)
        except (RedisError, OSError, TimeoutError) as error:
            raise ReportError(f"Redis did not answer: {error!r}") from None
        self._settle(everything=True)
        for (symbol, part), pairing in self._pairings.items():
            if part == "fast":
                found = self._comparison.symbol(symbol)
                found.reports, found.unpaired = [*pairing.taken], [*pairing.alone]

    async def _listen(self, redis: Redis, channel: Any, seconds: float, progress: Progress) -> None:
        began_s = settled_s = time.monotonic()
        while (now_s := time.monotonic()) - began_s < seconds:
            left_s = seconds - (now_s - began_s)
            message = await channel.get_message(timeout=min(HEAR_S, left_s))
            written: dict[tuple[Side, str], None] = {}
            while message is not None:
                self._hear(message, written)
                message = await channel.get_message(timeout=0)
            if written:
                async with asyncio.timeout(ANSWER_S):
                    await self._fetch(redis, list(written))
            if now_s - settled_s >= SETTLE_S:
                settled_s = now_s
                self._settle()
                progress(now_s - began_s, sum(o.pairs for o in self._comparison.symbols.values()))

    def _hear(self, message: dict[str, Any], written: dict[tuple[Side, str], None]) -> None:
        if message["type"] != "pmessage":
            return
        name = message["channel"].decode(errors="replace")
        for side, keys in enumerate(self._keys):
            # The pattern of a system without suffix matches the other's channels, too.
            if message["pattern"].decode() == keys.every_report() and keys.announces(name):
                symbol = keys.symbol_of(name)
                if symbol and (not self._symbols or symbol in self._symbols):
                    written[1 if side else 0, symbol] = None

    async def _fetch(self, redis: Redis, written: Sequence[tuple[Side, str]]) -> None:
        async with redis.pipeline(transaction=False) as pipe:
            for side, symbol in written:
                keys = self._keys[side]
                pipe.mget(keys.report(symbol), keys.heavy(symbol))
            answers: list[Any] = await pipe.execute()
        for (side, symbol), (payload, heavy) in zip(written, answers, strict=True):
            if payload is not None:
                self._take(side, symbol, payload, heavy)

    def _take(self, side: Side, symbol: str, payload: bytes, heavy: bytes | None) -> None:
        try:
            body = orjson.loads(payload)
            if body.get("heavy") and not join_halves(body, heavy):
                return  # the other half is written with the next one
            parts = parts_of(body)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ReportError(f"what is stored of {symbol} is no report: {error!r}") from None
        self._comparison.symbol(symbol)
        for name, part in parts.items():
            pairing = self._pairings.get((symbol, name))
            if pairing is None:
                pairing = self._pairings[symbol, name] = Pairing(self._near_ms)
            pairing.add(side, part)

    def _settle(self, *, everything: bool = False) -> None:
        for (symbol, name), pairing in self._pairings.items():
            for pair in pairing.settle(everything=everything):
                self._comparison.add(symbol, name, pair)
