"""What the tools read out of Redis: reports behind the reader's fence, ticks, names of symbols."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.directory import Directory, SymbolRow
from serving.mcp.book import StoredTick
from serving.mcp.book import decode as decode_tick
from serving.reader import READ_TIMEOUT_S, ReportReader, StoredReport, StoreUnavailable
from tapeline.clock import Clock
from tapeline.errors import ReportError

NEAR: Final = 3
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Market:
    """Reads what is stored.

    Args:
        reader: Shared with other readers of this process, so that its fence is one.
        redis: A client of `serving.reader.reader_client`.
        keys: Key names.
        clock: What ages are told by.
        directory: Knows all symbols, by the same fence.
        timeout_s: How long Redis may take.
    """

    def __init__(
        self,
        reader: ReportReader,
        redis: Redis,
        keys: Keys,
        clock: Clock,
        directory: Directory,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._reader, self._redis, self._keys, self._clock = reader, redis, keys, clock
        self._directory, self._timeout_s = directory, timeout_s

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._clock.now_ms()

    async def report(self, symbol: str) -> StoredReport | None:
        """The newest report, never one below another given before; None without one.

        Raises:
            StoreUnavailable: Redis did not answer in time.
            ReportError: What is stored is no report.
        """
        return await self._reader.get(symbol)

    async def reports(self, symbols: Sequence[str]) -> dict[str, StoredReport | None]:
        """Likewise of several, read in one step, in the order asked for.

        What is no report counts as none.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        found: dict[str, StoredReport | None] = dict.fromkeys(symbols)
        if not found:
            return found
        # Not MGET: in a cluster the keys lie in several slots.
        async with self._redis.pipeline(transaction=False) as pipe:
            for symbol in found:
                pipe.get(self._keys.report(symbol))
            answers = await self._timed(pipe.execute(raise_on_error=False))
        for symbol, payload in zip(list(found), answers, strict=True):
            # A key of another kind, set by hand, answers with an error: as good as none.
            if isinstance(payload, bytes):
                with suppress(ReportError):
                    found[symbol] = self._reader.take(symbol, payload)
        return found

    async def has_report(self, symbol: str) -> bool:
        """Whether any report is stored, be it one that is not given.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        return bool(await self._timed(self._redis.exists(self._keys.report(symbol))))

    async def whole_body(self, symbol: str, report: StoredReport) -> dict[str, Any]:
        """A report's object, with the long lists that were taken out of it where they are stored.

        They are left null where another report's are there by now.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        body = _decode(report.payload)
        if not body["heavy"]:
            return body
        payload = await self._timed(self._redis.get(self._keys.heavy(symbol)))
        if payload is not None:
            with suppress(msgspec.DecodeError, KeyError):
                lists = _decode(payload)
                if (lists["writer_token"], lists["seq"]) == (report.token, report.seq):
                    taken_out = ("depth", "liquidity", "anomalies", "custom")
                    return {**body, **{name: lists[name] for name in taken_out}, "heavy": False}
        return body

    async def tick(self, symbol: str) -> StoredTick | None:
        """The top of the book as stored.

        Raises:
            StoreUnavailable: Redis did not answer in time.
            ReportError: What is stored is no tick.
        """
        payload = await self._timed(self._redis.get(self._keys.tick(symbol)))
        return None if payload is None else decode_tick(payload)

    async def names(self) -> list[str]:
        """Every symbol that Redis knows of, in order.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        return await self._directory.names()

    async def rows(self) -> tuple[SymbolRow, ...]:
        """Likewise, each with its state.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        return await self._directory.look()

    async def knows(self, symbol: str) -> bool:
        """Whether Redis holds a key of the symbol, be it one of this moment.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        lease = self._keys.writer(symbol)
        names = (self._keys.report(symbol), lease.lease, lease.counter, lease.meta)
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(name)
            return any(await self._timed(pipe.execute()))

    async def near(self, symbol: str) -> list[str]:
        """Known symbols of names like this one, nearest first; none while Redis is away."""
        try:
            names = await self.names()
        except StoreUnavailable:
            return []
        wanted = "".join(char for char in symbol.upper() if char.isalnum())
        within = [name for name in names if wanted and (wanted in name or name in wanted)]
        close = difflib.get_close_matches(wanted, names, NEAR, 0.5)
        return list(dict.fromkeys([*close, *within]))[:NEAR]

    async def _timed(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"Redis did not answer: {error!r}") from None
