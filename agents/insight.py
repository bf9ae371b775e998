"""What a worker tells beside its metrics: sampled records' traces, lags in log lines, their level."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from agents.batches import Batch
from agents.cycles import Cycles
from agents.ownership import Ownership
from agents.report_traces import ReportTraces
from agents.shards import BatchOutcome, Shards
from agents.tail import Tail
from agents.transport import BatchConsumer
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.log_level import levels_followed
from tapeline.logging import tell_lags
from tapeline.tracing import start_tracing
from tapeline.tracing_metrics import register


class Insight:
    """Puts itself beside a worker's parts; before they are started.

    Attributes:
        apply: `Shards.apply`, with a look at what is sampled.

    Raises:
        ConfigError: Traces are wanted, and can't be made.
    """

    def __init__(
        self,
        settings: Settings,
        shards: Shards,
        ownership: Ownership,
        cycles: Cycles,
        tail: Tail,
        registry: CollectorRegistry,
        clock: Clock,
    ) -> None:
        self._settings, self._shards, self._ownership = settings, shards, ownership
        self._clock = clock
        self._open = AsyncExitStack()
        self._tracing = start_tracing(settings, "worker")
        self._traces: ReportTraces | None = None
        self.apply: Callable[[Batch], BatchOutcome] = shards.apply
        BatchConsumer.traced = tail.traced = self._tracing is not None
        if self._tracing is not None:
            register(registry, self._tracing)
            self._traces = ReportTraces(
                self._tracing,
                settings.events_topic,
                settings.suffixed(settings.app_id),
                ownership.keys,
                ownership.holds,
            )
            self.apply = self._traces.applying(shards.apply)
        cycles.traces = ownership.traces = self._traces
        tell_lags(self._lag_ms)

    async def start(self) -> None:
        """The loop runs."""
        keys, settings = self._ownership.keys, self._settings
        await self._open.enter_async_context(
            levels_followed(
                settings,
                settings.redis_url,
                keys.log_level(settings.node_id),
                keys.log_level("*"),
            )
        )

    async def stop(self) -> None:
        """Tell what is left, in bounded time."""
        await self._open.aclose()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.stop)

    def lost(self, symbol: str) -> None:
        """A symbol is another's to write now."""
        if self._traces is not None:
            self._traces.forget(symbol)

    def _lag_ms(self, symbol: str) -> int | None:
        """How far a symbol's state is behind now."""
        engine = self._shards.engine(symbol)
        if engine is None or not engine.newest_ms:
            return None
        return max(0, self._clock.now_ms() - engine.newest_ms)
