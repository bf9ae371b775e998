"""Reading reports: the stored object untouched, with its age beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec
from redis.asyncio import Redis

from lua import Keys
from serving.fetching import Fetcher, StoreUnavailable
from tapeline.clock import Clock, SystemClock
from tapeline.errors import ReportError

STALE_MS: Final = 2000
"""A reader calls a report stale when its newest data is older: what ``down`` is to a writer."""

__all__ = [
    "READ_TIMEOUT_S",
    "STALE_MS",
    "SYMBOL_PATTERN",
    "BadSymbol",
    "Fetch",
    "ReportReader",
    "StoreUnavailable",
    "StoredReport",
    "aged",
    "check_symbol",
    "reader_client",
]

READ_TIMEOUT_S: Final = 0.15

# As `tables.report.SYMBOL_PATTERN`, which a test compares. Not imported from there: a reader has
# no use for what comes with it, numpy among others, and starts in two thirds of the time.
SYMBOL_PATTERN: Final = "[A-Z0-9][A-Z0-9._-]{0,31}"
_SYMBOL: Final = re.compile(SYMBOL_PATTERN, re.ASCII)


class BadSymbol(ReportError):
    """What was asked for can't be a symbol."""

    def __init__(self, symbol: str) -> None:
        super().__init__(
            f"symbol {symbol!r} is malformed; expected 1 to 32 capital letters, digits, "
            "dots, dashes or underscores, such as BTCUSDT"
        )
        self.symbol = symbol


def check_symbol(symbol: str) -> None:
    """Let a well-formed symbol pass.

    Raises:
        BadSymbol: It can't be a symbol.
    """
    if _SYMBOL.fullmatch(symbol) is None:
        raise BadSymbol(symbol)


class _WriterHead(msgspec.Struct):
    writer_token: int = msgspec.field(name="writerToken")


class _PositionHead(msgspec.Struct):
    now_ms: int


class _SourceHead(msgspec.Struct):
    fast: _PositionHead


class _Head(msgspec.Struct):
    """The few fields of a report that its age is told from."""

    writer: _WriterHead
    seq: int
    updated_at: int = msgspec.field(name="updatedAt")
    source: _SourceHead
    data_age_ms: int | None


_decode_head: Final = msgspec.json.Decoder(_Head).decode


class StoredReport(msgspec.Struct, frozen=True):
    """A report as it stands in Redis, and how old it is now.

    Attributes:
        payload: Canonical JSON, byte for byte as written.
        token, seq: Its place in the order of all reports of the symbol.
        age_ms: Since it was written.
        data_age_ms: Since the newest record behind it was received; None without any.
        stale: Whether that is more than 2000 ms, or there is none.
    """

    payload: bytes
    token: int
    seq: int
    age_ms: int
    data_age_ms: int | None
    stale: bool


def aged(payload: bytes, now_ms: int) -> StoredReport:
    """A stored report seen at ``now_ms``.

    Raises:
        ReportError: It is not a report of schema 1.x.
    """
    try:
        head = _decode_head(payload)
    except msgspec.DecodeError as error:
        raise ReportError(f"what is stored is no report: {error}") from None
    data_age_ms = None
    if head.data_age_ms is not None:
        data_age_ms = head.data_age_ms + max(0, now_ms - head.source.fast.now_ms)
    return StoredReport(
        payload=payload,
        token=head.writer.writer_token,
        seq=head.seq,
        age_ms=max(0, now_ms - head.updated_at),
        data_age_ms=data_age_ms,
        stale=data_age_ms is None or data_age_ms > STALE_MS,
    )


Fetch = Callable[[str], Awaitable[bytes | None]]
"""Gets what is stored of a symbol; raises `StoreUnavailable`."""


def reader_client(redis_url: str) -> Redis:
    """A client for a `ReportReader`, which limits the time of each read itself.

    The client's own limit is off: it sends inside ``asyncio.wait_for``, which on Python 3.11
    drops a cancellation that arrives as the sending ends. A watch would then outlive Ctrl-C.
    """
    return Redis.from_url(redis_url, socket_timeout=None)


class ReportReader:
    """Reads reports, and never steps back.

    A replica that lags, or a Redis restored from an old file, may hold a report older than one
    already handed out. The reader remembers the newest (token, seq) of each symbol and answers
    None instead.
    """

    def __init__(
        self,
        redis: Redis | Fetcher | Fetch,
        keys: Keys | None = None,
        clock: Clock | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """Read nothing yet.

        Args:
            redis: Where reports are (see `reader_client`), or what fetches one some other way: of a
                key, a `Fetcher`, of a symbol, any function.
            keys: Names of the keys.
            clock: What ages are told by.
            timeout_s: How long Redis may take.
        """
        self._fetch: Fetch
        if isinstance(redis, Redis | Fetcher):
            fetcher = redis if isinstance(redis, Fetcher) else Fetcher(redis, timeout_s)
            named = keys or Keys()
            self._fetch = lambda symbol: fetcher.get(named.report(symbol))
        else:
            self._fetch = redis
        self._clock = clock or SystemClock()
        self._newest: dict[str, tuple[int, int]] = {}

    async def get(self, symbol: str) -> StoredReport | None:
        """The newest report of ``symbol``; None when there is none.

        Raises:
            BadSymbol: It can't be a symbol.
            StoreUnavailable: Redis did not answer in time.
            ReportError: What is stored is no report.
        """
        check_symbol(symbol)
        for _ in range(2):
            payload = await self._fetch(symbol)
            if payload is None:
                return None
            report = self.take(symbol, payload)
            if report is not None:
                return report
            # Somebody else has been handed a newer one while this was on its way; then the next
            # is at least as new. If it is not, the store has stepped back.
        return None

    async def settle(self, symbol: str, payload: bytes) -> StoredReport | None:
        """What was fetched some other way, or what has become of it meanwhile; as `get`."""
        return self.take(symbol, payload) or await self.get(symbol)

    def take(self, symbol: str, payload: bytes) -> StoredReport | None:
        """What was fetched some other way, by the same fence; None where it is a step back.

        Raises:
            ReportError: It is no report.
        """
        report = aged(payload, self._clock.now_ms())
        order = (report.token, report.seq)
        if order < self._newest.get(symbol, (0, 0)):
            return None
        self._newest[symbol] = order
        return report

    async def watch(self, symbol: str, poll_ms: int = 100) -> AsyncIterator[StoredReport]:
        """Each new report of ``symbol`` as it appears, and the last again when it goes stale.

        Raises:
            BadSymbol: It can't be a symbol.
            StoreUnavailable: Redis did not answer in time.
            ReportError: What is stored is no report.
        """
        seen, was_stale = (0, 0), False
        while True:
            report = await self.get(symbol)
            if report is not None:
                order = (report.token, report.seq)
                if order > seen or (report.stale and not was_stale):
                    seen, was_stale = order, report.stale
                    yield report
            await asyncio.sleep(poll_ms / 1000)
