"""Watching over what others write and this node could: looks, decides by `takeover`, and acts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from agents.coordination.connections import FAILURES, failure_reason
from agents.coordination.lease import LeaseManager
from agents.coordination.sink import CoordinationSink, NullSink
from agents.coordination.takeover import Takeover
from agents.coordination.view import View
from lua import Scripts, Sight
from tapeline.clock import Clock, SystemClock
from tapeline.logging import get_logger

WATCH_S: Final = 0.4
RETRY_S: Final = 0.1

log = get_logger("takeover")


@dataclass(frozen=True, slots=True)
class Watched:
    """A symbol that this node has a copy of, and does not write.

    Attributes:
        watermark: How far the copy is.
        assigned: Kafka has assigned it to us, and our seat in the group is certain.
    """

    watermark: int
    assigned: bool


class Evictor(Protocol):
    """Tells the consumer group that a node is dead."""

    async def second_sign(self, node: str) -> str:
        """What else says that a node which has vanished is dead; '' if nothing does."""
        ...

    async def evict(self, node: str) -> bool:
        """Take its members out of the group."""
        ...


class Watcher:
    """Takes the leases of writers that have gone, are stuck, or ask to be relieved.

    Args:
        scripts: On a client that neither retries nor waits.
        leases: Where what is taken is kept.
        view: Which nodes are there.
        takeover: Decides.
        watched: The symbols to watch over, each as it is now.
        evictor: For nodes that have vanished.
        clock: For all of it.
        sink: Whoever counts.
    """

    def __init__(
        self,
        scripts: Scripts,
        leases: LeaseManager,
        view: View,
        takeover: Takeover,
        watched: Callable[[], Mapping[str, Watched]],
        evictor: Evictor,
        *,
        clock: Clock | None = None,
        sink: CoordinationSink | None = None,
    ) -> None:
        self._scripts, self._leases, self._view = scripts, leases, view
        self._takeover, self._watched, self._evictor = takeover, watched, evictor
        self._clock = clock or SystemClock()
        self._sink = sink or NullSink()
        self._wake = asyncio.Event()
        self._evictions: set[asyncio.Task[None]] = set()
        self._away = False

    def wake(self) -> None:
        """Look now: something has changed."""
        self._wake.set()

    def note(self, symbol: str, watermark: int) -> None:
        """Our copy of a symbol has come on."""
        self._takeover.note(symbol, watermark, self._clock.monotonic_ms())

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._pass()
                except Exception:
                    # Never silently without a watch: said, and gone on with.
                    log.exception("takeover.pass_failed")
                    self._sink.failed("internal")
                    await asyncio.sleep(RETRY_S)
                await self._pause()
        finally:
            for task in self._evictions:
                task.cancel()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(WATCH_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _pass(self) -> None:
        self._evict()
        watched = self._watched()
        self._takeover.watch(watched)
        if not watched:
            return
        now_ms = self._clock.monotonic_ms()
        for symbol, one in watched.items():
            self._takeover.note(symbol, one.watermark, now_ms)
        sights = await self._look(list(watched))
        now_ms = self._clock.monotonic_ms()
        for symbol, sight in sights.items():
            self._takeover.saw(symbol, sight, now_ms)
        takings = self._takeover.due(
            sights,
            frozenset(symbol for symbol, one in watched.items() if one.assigned),
            frozenset(self._view.suspects(now_ms)),
            frozenset(self._view.draining),
            now_ms,
        )
        for taking in takings:
            log.info(
                "lease.taking",
                symbol=taking.symbol,
                reason=taking.reason,
                holder=sights[taking.symbol].holder,
            )
            self._sink.taking(taking.symbol, taking.reason)
            self._leases.take(taking.symbol, taking.expected, sights[taking.symbol].token)

    async def _look(self, symbols: list[str]) -> dict[str, Sight]:
        keys = self._scripts.keys
        try:
            answers = await self._scripts.look_many([keys.writer(symbol) for symbol in symbols])
        except FAILURES as error:
            if not self._away:
                log.warning("takeover.redis_away", error=repr(error))
            self._away = True
            self._sink.failed(failure_reason(error))
            return {}
        self._away = False
        return {
            symbol: answer
            for symbol, answer in zip(symbols, answers, strict=True)
            if isinstance(answer, Sight)
        }

    # --- eviction ------------------------------------------------------------------------------

    def _evict(self) -> None:
        now_ms = self._clock.monotonic_ms()
        for node, since_ms in self._view.suspects(now_ms).items():
            if self._takeover.may_evict(node, since_ms, self._view.present(), now_ms):
                self._takeover.evicted(node, now_ms)
                task = asyncio.create_task(self._evict_one(node), name=f"evict-{node}")
                self._evictions.add(task)
                task.add_done_callback(self._evictions.discard)

    async def _evict_one(self, node: str) -> None:
        try:
            sign = await self._evictor.second_sign(node)
            if not sign:
                log.info("node.spared", peer=node)
                return
            if node not in self._view.suspects(self._clock.monotonic_ms()):
                return
            if await self._evictor.evict(node):
                log.warning("node.evicted", peer=node, sign=sign)
                self._sink.evicted(node)
        except Exception:
            # Then its session times out: slower, and just as good.
            log.exception("node.not_evicted", peer=node)
