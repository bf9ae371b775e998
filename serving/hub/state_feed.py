"""States out of Redis: announcements tell what to read, and reading everything again heals.

An announcement is lost where a connection breaks, so all that is followed is read again every
second. Redis being away is noticed by a ping, for a subscription that hears nothing looks the same
as a quiet market.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from serving.hub.hub import Board
from serving.hub.metrics import HubMetrics
from serving.hub.states import StateTable
from serving.hub.wire import Batch, State
from serving.reader import SYMBOL_PATTERN
from tapeline.clock import Clock
from tapeline.errors import ReportError
from tapeline.logging import get_logger

TIMEOUT_S: Final = 1.0
"""For one answer: with the time between two pings well under the two seconds in which clients are told."""

PING_S: Final = 0.4
HEAL_S: Final = 1.0
SCAN_S: Final = 5.0
RETRY_S: Final = 0.2
QUIET_S: Final = 5.0
"""Silence after which a subscription is asked whether it is there."""

CHUNK: Final = 32
"""Objects of one read, so that other clients are served in between."""

AWAY: Final = (RedisError, OSError, TimeoutError)

_SYMBOL: Final = re.compile(SYMBOL_PATTERN, re.ASCII)

log = get_logger("hub")


class _Announcement(msgspec.Struct):
    symbol: str
    token: int = 0
    seq: int = 0


class _Writer(msgspec.Struct):
    node_id: str
    token: int


class _Report(msgspec.Struct):
    token: int
    seq: int
    updated_at: int


class _Status(msgspec.Struct, omit_defaults=True):
    """What ``status`` says of a symbol; null where there is none.

    The rest is `serving.status.feed.Words`: how the chain is that it comes by.
    """

    symbol: str
    writer: _Writer | None
    report: _Report | None
    state: str = ""
    sentence: str = ""
    feeds: dict[str, str] = {}
    chain: dict[str, Any] = {}


_announced: Final = msgspec.json.Decoder(_Announcement).decode
_encode: Final = msgspec.json.Encoder().encode


class StateFeed:
    """Keeps a `StateTable` up to date, and tells a `Board` what is new.

    Args:
        redis: A client without a time limit of its own.
        keys: Names of the keys.
        board: Who wants what.
        clock: For ages, and for telling when something came.
        metrics: Where failures are counted.
        changed: Called when the board may have something for somebody.
        source: Called with whether Redis answers, when that changes.

    Attributes:
        table: What is known.
        up: Whether Redis answers; None before it is known.
        words: Asked what else ``status`` says of a symbol; None for nothing.
        appeared: Called with each symbol that the board does not know yet.
        settled: Called with family and symbol when the store has been asked for it.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        board: Board,
        clock: Clock,
        metrics: HubMetrics,
        changed: Callable[[], None],
        source: Callable[[bool], None],
    ) -> None:
        self._redis, self._keys, self._board, self._clock = redis, keys, board, clock
        self._metrics, self._changed, self._source = metrics, changed, source
        self.table = StateTable()
        self.up: bool | None = None
        self.words: Callable[[], Awaitable[Callable[[str], dict[str, Any]]]] | None = None
        self._asked: dict[str, dict[str, None]] = {"report": {}, "tick": {}, "status": {}}
        self._wake = asyncio.Event()
        self._scan = asyncio.Event()
        self._ticks_followed = asyncio.Event()
        self.appeared: Callable[[str], None] = lambda _symbol: None
        self.settled: Callable[[str, str], None] = lambda _family, _symbol: None

    def work(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What is to be run, each until cancelled."""
        reports, ticks = self._keys.every_report(), self._keys.every_tick()
        return (
            lambda: self._listen("report", reports, None),
            lambda: self._listen("tick", ticks, self._ticks_followed),
            self._read,
            self._ping,
            self._heal,
            self._find,
        )

    def ask(self, family: str, symbol: str) -> None:
        """Read this now: somebody waits for it."""
        self._asked[family][symbol] = None
        if family == "tick":
            self._ticks_followed.set()
        self._wake.set()

    def find(self) -> None:
        """Look for symbols now: somebody wants all of them."""
        self._scan.set()

    # --- announcements ---------------------------------------------------------------------------

    async def _listen(self, family: str, pattern: str, followed: asyncio.Event | None) -> None:
        said = False
        while True:
            if followed is not None:
                await followed.wait()
            try:
                async with contextlib.aclosing(self._messages(pattern)) as messages:
                    async for data in messages:
                        said = False
                        self._hear(family, data)
                        if followed is not None and not self._board.followed(family):
                            followed.clear()
                            break
            except AWAY as error:
                # Once: without announcements everything still comes, a second later.
                if self.up and not said:
                    said = True
                    log.warning("hub.not_listening", pattern=pattern, error=repr(error))
                await asyncio.sleep(RETRY_S)

    async def _messages(self, pattern: str) -> AsyncGenerator[bytes, None]:
        """What is announced.

        Raises:
            TimeoutError: Not even a ping is answered: the connection is dead, though nobody said.
        """
        pubsub = self._redis.pubsub()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await pubsub.psubscribe(pattern)
            asked = False
            while True:
                message = await pubsub.get_message(timeout=QUIET_S)
                if message is not None:
                    asked = False
                    if message["type"] == "pmessage":
                        if self._keys.announces(message["channel"]):
                            yield message["data"]
                    elif message["type"] == "psubscribe":
                        self._again()  # what was announced until now has been missed
                elif asked:
                    raise TimeoutError
                else:
                    asked = True
                    async with asyncio.timeout(TIMEOUT_S):
                        await pubsub.ping()
        finally:
            with contextlib.suppress(*AWAY):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _hear(self, family: str, data: bytes) -> None:
        try:
            said = _announced(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        symbol = said.symbol
        if _SYMBOL.fullmatch(symbol) is None:
            return
        if family == "report" and symbol not in self._board.symbols:
            self.appeared(symbol)
        if symbol in self._board.followed(family) and (
            said.token,
            said.seq,
        ) > self.table.order(family, symbol):
            self._asked[family][symbol] = None
            self._wake.set()

    def _again(self) -> None:
        for family, asked in self._asked.items():
            asked.update(dict.fromkeys(self._board.followed(family)))
        self._wake.set()

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for family, asked in self._asked.items():
                while asked:
                    symbols = [symbol for symbol, _ in zip(asked, range(CHUNK), strict=False)]
                    for symbol in symbols:
                        del asked[symbol]
                    try:
                        async with asyncio.timeout(TIMEOUT_S):
                            await self._fetch(family, symbols)
                    except AWAY as error:
                        self._heard(up=False, why=repr(error))
                        await asyncio.sleep(RETRY_S)
                        asked.update(dict.fromkeys(symbols))

    async def _fetch(self, family: str, symbols: list[str]) -> None:
        if family == "status":
            await self._fetch_status(symbols)
        else:
            name = self._keys.tick if family == "tick" else self._keys.report
            payloads: Any = await self._redis.mget([name(symbol) for symbol in symbols])
            arrived_ms = self._clock.monotonic_ms()
            for symbol, payload in zip(symbols, payloads, strict=True):
                if payload is not None:
                    self._take(family, symbol, payload, arrived_ms)
        for symbol in symbols:
            self._board.begin(family, symbol, lambda c, s=symbol: self.table.current(c, s))  # type: ignore[misc]
            self.settled(family, symbol)
        self._changed()

    def _take(self, family: str, symbol: str, payload: bytes, arrived_ms: int) -> None:
        take = self.table.take_tick if family == "tick" else self.table.take_report
        try:
            self._hand_on(take(symbol, payload, arrived_ms))
        except ReportError as error:
            self._metrics.errors.labels("unreadable").inc()
            log.warning("hub.unreadable", symbol=symbol, family=family, error=str(error)[:200])

    def _hand_on(self, new: Iterable[State | Batch]) -> None:
        for what in new:
            self._board.offer(what)

    async def _fetch_status(self, symbols: list[str]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for symbol in symbols:
                pipe.get(self._keys.writer(symbol).lease)
                pipe.hmget(self._keys.meta(symbol), ["token", "seq", "updated_at"])
            replies = await pipe.execute()
        words = await self.words() if self.words is not None else None
        now_ms, arrived_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        for at, symbol in enumerate(symbols):
            lease, meta = replies[2 * at : 2 * at + 2]
            said = words(symbol) if words is not None else None
            state = _status(symbol, lease, meta, now_ms, arrived_ms, said)
            if state is not None:
                self._hand_on(self.table.take_status(state))

    # --- whether it is there ---------------------------------------------------------------------

    def _heard(self, *, up: bool, why: str = "") -> None:
        if up == self.up:
            return
        before, self.up = self.up, up
        self._metrics.store_up.set(1 if up else 0)
        if up:
            if before is not None:
                log.info("hub.store_up")
            self._again()
        else:
            log.warning("hub.store_down", error=why)
        self._source(up)

    async def _ping(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._redis.ping()
                self._heard(up=True)
            except AWAY as error:
                self._heard(up=False, why=repr(error))
            await asyncio.sleep(PING_S)

    async def _heal(self) -> None:
        while True:
            await asyncio.sleep(HEAL_S)
            if self.up:
                self._again()

    async def _find(self) -> None:
        while True:
            if self._board.of_all and self.up is not False:
                try:
                    await self._walk()
                except AWAY as error:
                    log.debug("hub.not_searched", error=repr(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SCAN_S):
                    await self._scan.wait()
            self._scan.clear()

    async def _walk(self) -> None:
        cursor = 0
        while True:
            async with asyncio.timeout(TIMEOUT_S):
                reply: Any = await self._redis.scan(cursor, self._keys.every_report(), 1000)
            cursor, found = reply
            for key in found:
                symbol = self._keys.symbol_of(key.decode(errors="replace"))
                if symbol not in self._board.symbols and _SYMBOL.fullmatch(symbol):
                    self.appeared(symbol)
            if not cursor:
                return


def _status(
    symbol: str,
    lease: bytes | None,
    meta: list[bytes | None],
    now_ms: int,
    arrived_ms: int,
    said: dict[str, Any] | None = None,
) -> State | None:
    """What is known of a symbol's writer; None where nothing is."""
    try:
        token, seq, updated_at = (int(value or 0) for value in meta)
        writer = None
        if lease is not None:
            node_id, _, own = lease.decode().split("|")
            writer = _Writer(node_id, int(own))
    except ValueError:
        return None
    if writer is None and not token:
        return None
    report = _Report(token, seq, updated_at) if token else None
    return State(
        "status",
        symbol,
        (max(token, writer.token if writer else 0), now_ms),
        _encode(_Status(symbol, writer, report, **(said or {}))),
        written_ms=now_ms,
        data_age_ms=now_ms - updated_at if token else None,
        at_ms=now_ms,
        arrived_ms=arrived_ms,
    )
