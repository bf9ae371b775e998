"""How far this node is, for readers that reach neither Kafka nor its ``/health``.

A key of its own beside the heartbeat, which a script compares and peers read each second: that one
stays small. Written by a task of its own; whatever goes wrong here is logged, and harms no report.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from tapeline.beats import BEAT_MS, JITTER_MS, TTL_S, Rates, count_start, own_version
from tapeline.clock import Clock
from tapeline.logging import get_logger

PARTITIONS_MAX: Final = 256
"""Partitions told of one by one, some 15 KB; beyond, those that lag least are left out first."""

log = get_logger("node_stats")


class NodeFigures:
    """What a node says of itself. No I/O.

    Args:
        health: What ``/health`` says.
        positions: Next record expected, by assigned partition; None before the first.
        ends: Next offset to be written, by partition, as far as is known.
        clock: Stamps and rates.

    Attributes:
        restarts: How often the node was started before, as far as Redis remembers.
    """

    def __init__(
        self,
        health: Callable[[], tuple[bool, dict[str, Any]]],
        positions: Callable[[], Mapping[int, int | None]],
        ends: Callable[[], Mapping[int, int]],
        clock: Clock,
    ) -> None:
        self._health, self._positions, self._ends, self._clock = health, positions, ends, clock
        self._rates = Rates()
        self.restarts = 0

    def look(self) -> dict[str, Any]:
        """As it is now; counts it among the rates, too."""
        _, health = self._health()
        positions, ends = self._positions(), self._ends()
        known = {p: at for p, at in positions.items() if at is not None}
        self._rates.look(self._clock.monotonic_ms(), known)
        partitions = [self._partition(p, at, ends) for p, at in sorted(known.items())]
        rates = [one["rate_per_s"] for one in partitions if one["rate_per_s"] is not None]
        shown = sorted(partitions, key=lambda one: (-one["lag"], one["partition"]))
        shown = sorted(shown[:PARTITIONS_MAX], key=lambda one: one["partition"])
        return {
            "v": 1,
            "at_ms": self._clock.now_ms(),
            "version": own_version(),
            "restarts": self.restarts,
            "status": health["status"],
            "outages": health["outages"],
            "complete": health["assigned"],
            "owned": len(health["owned_symbols"]),
            "assigned": len(health["assigned_symbols"]),
            "warm": len(health["warm_symbols"]),
            "rate_per_s": round(sum(rates), 1) if rates else None,
            # A partition without a record since the assignment has no position, and no lag.
            "lag": sum(one["lag"] for one in partitions),
            "partitions": shown,
            "partitions_left_out": len(partitions) - len(shown),
        }

    def _partition(self, partition: int, at: int, ends: Mapping[int, int]) -> dict[str, Any]:
        # One broker answers too low: it ends where we are, at least.
        end = max(at, ends.get(partition, 0))
        return {
            "partition": partition,
            "position": at,
            "end": end,
            "lag": end - at,
            "rate_per_s": self._rates.per_s(partition),
        }


class NodeStats:
    """Writes `NodeFigures` to Redis each second."""

    def __init__(
        self, node_id: str, figures: NodeFigures, rng: random.Random | None = None
    ) -> None:
        self._node_id, self._figures = node_id, figures
        self._rng = rng or random.Random()
        self._counted = self._away = False

    async def run(self, redis: Redis, keys: Keys) -> None:
        """Until cancelled.

        Args:
            redis: A client for what is not a decision.
            keys: Key names.
        """
        while True:
            try:
                await self._write(redis, keys)
                self._away = False
            except (RedisError, OSError, TimeoutError) as error:
                if not self._away:
                    self._away = True
                    log.warning("node_stats.redis_away", error=repr(error))
            except Exception:  # readers will not know how far we are; reports go on
                log.exception("node_stats.failed")
            pause_ms = BEAT_MS + self._rng.uniform(-JITTER_MS, JITTER_MS)
            await asyncio.sleep(pause_ms / 1000)

    async def _write(self, redis: Redis, keys: Keys) -> None:
        if not self._counted:
            starts = keys.starts("worker", self._node_id)
            self._figures.restarts = await count_start(redis, starts)
            self._counted = True
        payload = orjson.dumps(self._figures.look())
        await redis.set(keys.node_stats(self._node_id), payload, ex=TTL_S)
