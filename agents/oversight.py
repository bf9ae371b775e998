"""The look every few seconds: do lease, rendezvous hashing and Kafka agree; repaired and counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final

from agents.assignor import HrwAssignor
from agents.coordination.connections import FAILURES
from agents.coordination.reconcile import Differences, Repairs, able_nodes, differences
from agents.metrics import Metrics
from agents.ownership import Ownership
from agents.shards import Shards
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.logging import get_logger

LOOK_S: Final = (2.0, 3.0)
"""Between two looks; at random, so that nodes do not look together."""

log = get_logger("oversight")


class Oversight:
    """Compares, counts, and has the group assign anew where a difference lasts.

    Args:
        app: The Faust application; its assignor knows who has which seat.
        settings: Of the worker.
        shards, ownership, metrics, clock: Its parts.
        symbols: How many listed symbols each partition has; changes with the list.

    Attributes:
        found: What differed at the last look.
    """

    def __init__(
        self,
        app: Any,
        settings: Settings,
        shards: Shards,
        ownership: Ownership,
        metrics: Metrics,
        clock: Clock,
        symbols: Mapping[int, int],
    ) -> None:
        self._app, self._settings = app, settings
        self._shards, self._ownership = shards, ownership
        self._metrics, self._clock = metrics, clock
        self._symbols = symbols
        self._repairs = Repairs(settings.node_id)
        self.found = Differences()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(*LOOK_S))
            if not self._app.rebalancing:
                await self._look()

    async def _look(self) -> None:
        # Who has no Redis can write nothing: given partitions, it would keep others from them.
        HrwAssignor.weight = self._settings.node_weight if self._ownership.is_alive() else 0.0
        if self._app.assignor.said_weight == 0 < HrwAssignor.weight:
            # The group took us for one that can write nothing. Nobody else knows better.
            log.info("ownership.able_again")
            self._app.consumer.request_rejoin()
            return
        try:
            weights = await self._ownership.weights()
        except FAILURES as error:
            log.warning("oversight.redis_away", error=repr(error))
            return
        seats = self._app.assignor.seats()
        if not weights or self._settings.node_id not in seats:
            return
        found = differences(
            self._ownership.owned(),
            self._shards.symbols(),
            seats,
            weights,
            {p: self._symbols.get(p, 0) for p in range(self._settings.partitions)},
            self._settings.hrw_sticky_pct,
        )
        if found != self.found:
            log.info("ownership.compared", **found.by_kind())
        self.found = found
        self._metrics.differences(found.by_kind())
        if self._repairs.due(found, able_nodes(seats, weights), self._clock.monotonic_ms()):
            log.warning("ownership.repaired", misplaced=found.misplaced)
            self._metrics.ownership_repairs.inc()
            self._app.consumer.request_rejoin()
