"""All symbols that Redis knows of, and how each is: one look, shared by all who ask."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.reader import ReportReader, StoreUnavailable
from tapeline.clock import Clock, SystemClock
from tapeline.errors import ReportError

LOOK_MS: Final = 250
"""How long a look is good for."""

DISCOVER_MS: Final = 2000
"""Between two searches for new symbols: each walks all keys."""

TIMEOUT_S: Final = 1.0
_SCAN_COUNT: Final = 1000

State = Literal["live", "stale", "gap", "down"]


class _Ingestion(msgspec.Struct):
    book: str


class _Head(msgspec.Struct):
    """Fields of a report beside those that its age is told from."""

    venue: str
    ingestion: _Ingestion


_decode_head: Final = msgspec.json.Decoder(_Head).decode


class SymbolRow(msgspec.Struct, frozen=True):
    """One symbol.

    Attributes:
        venue: Its primary one; None without a report.
        state: ``live``; ``gap`` where data arrives and the book is not whole; ``stale`` where the
            newest data is older than 2000 ms; ``down`` where there is no report, or a stale one
            that nobody writes any more.
        age_ms: Since its report was written; None without one.
        data_age_ms: Since the newest record behind it was received; None without any.
        token, seq: Of the last report; None before the first.
        owner: The node that may write it; '' while nobody may.
    """

    symbol: str
    venue: str | None
    state: State
    age_ms: int | None
    data_age_ms: int | None
    token: int | None
    seq: int | None
    owner: str


class Directory:
    """Looks at all symbols.

    Args:
        redis: A client of `serving.reader.reader_client`.
        keys: Names of the keys.
        reports: Whose fence reports pass.
        clock: What ages are told by.
    """

    def __init__(
        self, redis: Redis, keys: Keys, reports: ReportReader, clock: Clock | None = None
    ) -> None:
        self._redis, self._keys, self._reports = redis, keys, reports
        self._clock = clock or SystemClock()
        self._symbols: frozenset[str] = frozenset()
        self._discovered_ms: int | None = None
        self._rows: tuple[SymbolRow, ...] = ()
        self._looked_ms: int | None = None
        self._looking = asyncio.Lock()

    async def look(self) -> tuple[SymbolRow, ...]:
        """All symbols by name, at most 250 ms old.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        async with self._looking:
            now_ms = self._clock.monotonic_ms()
            if self._looked_ms is None or now_ms - self._looked_ms >= LOOK_MS:
                names = await self._names()
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        self._rows = await self._look_at(names)
                except (RedisError, OSError, TimeoutError) as error:
                    raise StoreUnavailable(f"Redis did not answer: {error!r}") from None
                self._looked_ms = self._clock.monotonic_ms()
            return self._rows

    async def names(self) -> list[str]:
        """All symbols by name, found within the last two seconds.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        async with self._looking:
            return await self._names()

    async def payloads(self, symbols: list[str]) -> list[bytes | None]:
        """What is stored of each symbol, in one round trip.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        if not symbols:
            return []
        try:
            async with asyncio.timeout(TIMEOUT_S):
                async with self._redis.pipeline(transaction=False) as pipe:
                    for symbol in symbols:
                        pipe.get(self._keys.report(symbol))
                    answers: list[Any] = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"Redis did not answer: {error!r}") from None
        return [answer if isinstance(answer, bytes) else None for answer in answers]

    async def _names(self) -> list[str]:
        now_ms = self._clock.monotonic_ms()
        if self._discovered_ms is None or now_ms - self._discovered_ms >= DISCOVER_MS:
            found = set()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    pattern = self._keys.every_report()
                    async for key in self._redis.scan_iter(pattern, count=_SCAN_COUNT):
                        symbol = self._keys.symbol_of(_text(key))
                        if symbol:
                            found.add(symbol)
            except (RedisError, OSError, TimeoutError) as error:
                raise StoreUnavailable(f"Redis did not answer: {error!r}") from None
            self._symbols, self._discovered_ms = frozenset(found), self._clock.monotonic_ms()
        return sorted(self._symbols)

    async def _look_at(self, symbols: list[str]) -> tuple[SymbolRow, ...]:
        if not symbols:
            return ()
        async with self._redis.pipeline(transaction=False) as pipe:
            for symbol in symbols:
                lease = self._keys.writer(symbol)
                pipe.get(lease.lease)
                pipe.hmget(lease.meta, "token", "seq")
                pipe.get(self._keys.report(symbol))
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        # A key of another kind, set by hand, answers with an error: as good as no answer.
        told = [None if isinstance(answer, Exception) else answer for answer in answers]
        return tuple(
            [await self._row(symbol, *told[3 * n : 3 * n + 3]) for n, symbol in enumerate(symbols)]
        )

    async def _row(self, symbol: str, lease: Any, meta: Any, payload: Any) -> SymbolRow:
        owner = _text(lease or b"").partition("|")[0]
        token, seq = (_number(value) for value in meta or (None, None))
        report = head = None
        if payload is not None:
            try:
                report = await self._reports.settle(symbol, payload)
                head = _decode_head(report.payload) if report is not None else None
            except (ReportError, msgspec.DecodeError):
                report = None
        if report is None or head is None:
            return SymbolRow(symbol, None, "down", None, None, token, seq, owner)
        state: State = "live"
        if report.stale:
            state = "stale" if owner else "down"
        elif head.ingestion.book != "ok":
            state = "gap"
        return SymbolRow(
            symbol,
            head.venue,
            state,
            report.age_ms,
            report.data_age_ms,
            report.token,
            report.seq,
            owner,
        )


def _number(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
