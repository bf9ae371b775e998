"""Leases of many symbols, kept alive by a task of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from agents.coordination.connections import FAILURES, failure_reason
from agents.coordination.lease_state import AGAIN_MS, RETRY_MS, Lease, LeaseBook
from agents.coordination.sink import CoordinationSink, NullSink
from lua import Acquired, LeaseKeys, RenewCode, Scripts
from tapeline.clock import Clock, SystemClock
from tapeline.logging import get_logger

log = get_logger("lease")


class LeaseManager:
    """Acquires the leases wanted, renews them each quarter of their life, releases at a stop.

    A renewal that fails, or whose reply does not come within a quarter of the lease's life,
    ends the right to write at once; the lease is then asked for again, and Redis says whether
    it is still ours (same token) or what the next token is.

    Args:
        scripts: On a client that neither retries nor waits (`Connections.writer`).
        node: This node's id. Its heartbeat must have been accepted before `start`: leases of
            the node's earlier incarnations are then known to be orphans and are taken over.
        incarnation: This start of it.
        ttl_ms: Life of a lease.
        keys_of: Key names by symbol; the report writer's by default.
        clock: For deadlines.
        sink: Whoever counts.
        on_gained: Called with each symbol that may be written from now on.
        on_lost: Called with each symbol that may not be written any more, and why.
    """

    def __init__(
        self,
        scripts: Scripts,
        node: str,
        incarnation: str,
        ttl_ms: int,
        *,
        keys_of: Callable[[str], LeaseKeys] | None = None,
        clock: Clock | None = None,
        sink: CoordinationSink | None = None,
        on_gained: Callable[[str], None] | None = None,
        on_lost: Callable[[str, str], None] | None = None,
    ) -> None:
        self._scripts = scripts
        self._book = LeaseBook(node, incarnation, ttl_ms)
        self._keys_of = keys_of or scripts.keys.writer
        self._clock = clock or SystemClock()
        self._sink = sink or NullSink()
        self._on_gained = [on_gained] if on_gained else []
        self._on_lost = on_lost
        self._renew_ms = ttl_ms // 4
        self._timeout_s = ttl_ms / 4 / 1000
        self._renew_at_ms = 0
        self._releases: list[Lease] = []
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._away = False

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the task; `want` says what to acquire."""
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name="leases")

    async def stop(self) -> None:
        """Release what is held, as far as Redis answers; the rest expires."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            # Not cancelled: a grant whose reply is thrown away could not be released.
            await self._task
            self._task = None
        self._releases += self._book.want({})
        await self._release()
        self._sink.leases(0)

    # --- wishes and answers --------------------------------------------------------------------

    def listen(self, on_gained: Callable[[str], None]) -> None:
        """Also call ``on_gained`` with each symbol that may be written from now on."""
        self._on_gained.append(on_gained)

    def want(self, floors: Mapping[str, int], keep: Collection[str] = ()) -> None:
        """Set the symbols to hold, each with the highest token known of it (0: none).

        Symbols not named are no longer written, from this call on, and are released; but those
        to ``keep`` are held on to, until another takes them.
        """
        self._releases += self._book.want(floors, keep)
        self._wake.set()

    def take(self, symbol: str, expected: str, floor: int = 0) -> None:
        """Take a lease at once: a free one, or exactly this one of another's."""
        self._book.raise_floor(symbol, floor)
        self._book.take(symbol, expected)
        self._wake.set()

    def assigned(self, symbol: str) -> bool:
        """Whether the symbol is ours whoever holds its lease."""
        return self._book.assigned(symbol)

    async def settled(self) -> None:
        """Wait until every wish has been put to Redis once, whatever it answered."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake.set()
        await waiter

    def wanted(self) -> list[str]:
        """The symbols wanted, held or not."""
        return self._book.wanted()

    def owned(self) -> list[str]:
        """The symbols that may be written now."""
        now_ms = self._clock.monotonic_ms()
        return [s for s in self._book.wanted() if self._book.valid(s, now_ms) is not None]

    def current(self, symbol: str) -> Lease | None:
        """The lease that ``symbol`` may be written under now; ask right before each write."""
        return self._book.valid(symbol, self._clock.monotonic_ms())

    def token(self, symbol: str) -> int:
        """Highest token of ``symbol`` ever seen; the floor of the next grant."""
        return self._book.floor(symbol)

    def drop(self, symbol: str, value: str, reason: str) -> None:
        """Redis refused a write under this lease: stop, and ask for another."""
        if self._book.drop(symbol, value, self._clock.monotonic_ms() + AGAIN_MS):
            self._lost(symbol, reason)
            self._wake.set()

    # --- the task ------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            waiters, self._waiters = self._waiters, []
            try:
                await self._pass()
            except Exception:
                # Never silently without renewals: said, and tried again.
                log.exception("lease.pass_failed")
                self._sink.failed("internal")
                await asyncio.sleep(RETRY_MS / 1000)
            _settle(waiters)
            await self._pause()
        _settle(self._waiters)

    async def _pass(self) -> None:
        await self._release()
        if self._clock.monotonic_ms() >= self._renew_at_ms:
            await self._renew()
        if not self._stopping:
            await self._acquire()
            await self._acquire()  # what the first found held by our own past

    async def _pause(self) -> None:
        due_ms = self._book.next_due_ms()
        wake_ms = self._renew_at_ms if due_ms is None else min(due_ms, self._renew_at_ms)
        wait_ms = wake_ms - self._clock.monotonic_ms()
        try:
            async with asyncio.timeout(max(0, wait_ms) / 1000):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _renew(self) -> None:
        leases = self._book.held()
        sent_ms = self._clock.monotonic_ms()
        self._renew_at_ms = sent_ms + self._renew_ms
        if not leases:
            return
        pairs = [(self._keys_of(lease.symbol).lease, lease.value) for lease in leases]
        answers: Sequence[RenewCode | BaseException]
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._scripts.renew_many(pairs, self._book.ttl_ms)
            self._answered()
        except FAILURES as error:
            self._failed("renew", error)
            answers = [error] * len(leases)
        now_ms = self._clock.monotonic_ms()
        for lease, answer in zip(leases, answers, strict=True):
            if answer is RenewCode.RENEWED:
                regained = now_ms >= lease.deadline_ms
                self._book.renewed(lease, sent_ms)
                log.debug("lease_renewed", symbol=lease.symbol, token=lease.token)
                if regained:
                    self._gained(lease.symbol)
            elif answer is RenewCode.LOST:
                if self._book.drop(lease.symbol, lease.value, now_ms):
                    self._lost(lease.symbol, "taken")
            elif self._book.drop(lease.symbol, lease.value, now_ms, lost=False):
                # Lease unknown: stop writing. Asking for it tells what it is.
                self._lost(lease.symbol, "unknown")
        self._count()

    async def _acquire(self) -> None:
        sent_ms = self._clock.monotonic_ms()
        wishes = self._book.due(sent_ms)
        if not wishes:
            return
        book = self._book
        answers: Sequence[Acquired | BaseException]
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._scripts.acquire_many(
                    [(self._keys_of(symbol), floor, steal) for symbol, floor, steal in wishes],
                    book.node,
                    book.incarnation,
                    book.ttl_ms,
                )
            self._answered()
        except FAILURES as error:
            self._failed("acquire", error)
            answers = [error] * len(wishes)
        for (symbol, _, _), answer in zip(wishes, answers, strict=True):
            if isinstance(answer, BaseException):
                if not self._away:
                    log.warning("lease.refused", symbol=symbol, error=str(answer))
                    self._sink.failed("refused")
                book.unanswered(symbol, self._clock.monotonic_ms())
                continue
            unwanted = book.answered(symbol, answer, sent_ms)
            if unwanted is not None:
                self._releases.append(unwanted)
                self._wake.set()
            elif answer.mine:
                log.info("lease_acquired", symbol=symbol, token=answer.token, code=answer.code.name)
                self._gained(symbol)
        self._count()

    async def _release(self) -> None:
        if not self._releases:
            return
        leases, self._releases = self._releases, []
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._scripts.release_many(
                    [(self._keys_of(lease.symbol).lease, lease.value) for lease in leases]
                )
        except FAILURES as error:
            self._failed("release", error)
        self._count()

    # --- telling others ------------------------------------------------------------------------

    def _failed(self, step: str, error: BaseException) -> None:
        reason = failure_reason(error)
        if not self._away:
            log.warning("lease.redis_away", step=step, reason=reason, error=repr(error))
        self._away = True
        self._sink.failed(reason)

    def _answered(self) -> None:
        if self._away:
            log.info("lease.redis_back")
        self._away = False

    def _gained(self, symbol: str) -> None:
        for listener in self._on_gained:
            listener(symbol)

    def _lost(self, symbol: str, reason: str) -> None:
        log.warning("lease_lost", symbol=symbol, reason=reason)
        self._sink.lease_lost(symbol, reason)
        if self._on_lost is not None:
            self._on_lost(symbol, reason)

    def _count(self) -> None:
        self._sink.leases(len(self.owned()))


def _settle(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
