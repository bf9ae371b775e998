"""What a bridge says of itself in Redis each second, and each feed's last hour, minute by minute.

Readers have no Kafka and may not reach the bridge's own ``/health``: this is all they see of it.
The work has a task and connections of its own. Redis being away, or slow, costs heartbeats and
nothing else; whatever goes wrong here is logged, and never ends the bridge.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from streams.feed_minutes import KEPT_MINUTES, Minutes, Point
from streams.feeds import Feeds, Line
from streams.kafka_writer import KafkaWriter
from streams.outbox import Outbox
from streams.sources import FrameSource
from tapeline.beats import BEAT_MS, JITTER_MS, TTL_S, Rates, count_start, own_version
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.logging import get_logger

FEEDS_MAX: Final = 500
"""Feeds told of in one heartbeat, about 60 KB; beyond, those that are well are left out first."""

REMEMBERED_MS: Final = 3_600_000
"""How long a bridge that has gone stays in the index."""

MINUTES_TTL_S: Final = 7_200
AT_ONCE: Final = 200
"""Minutes written in one round trip: a client that gives up soon has no time for more."""
FAREWELL_S: Final = 0.5

FIELD: Final = "point"

FAILURES: Final = (RedisError, OSError, TimeoutError)

log = get_logger("bridge_beat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What of a bridge is looked at.

    Attributes:
        sources: One a venue.
        feeds: By venue.
        outbox: What the broker has not acknowledged.
        writer: Brings it there.
        resyncs: Books asked for anew, by (venue, symbol).
        outage: Whether the broker has taken nothing for too long.
        metrics_url: Where its metrics are served; known once it listens.
    """

    sources: Iterable[FrameSource]
    feeds: Mapping[str, Feeds]
    outbox: Outbox
    writer: KafkaWriter
    resyncs: Mapping[tuple[str, str], int]
    outage: Callable[[], bool]
    metrics_url: Callable[[], str]


class Figures:
    """A bridge's heartbeat, made of what its parts have counted. No I/O.

    Attributes:
        minutes: Of the feeds that this bridge writes.
        restarts: How often it was started before, as far as Redis remembers.
    """

    def __init__(self, settings: Settings, parts: Parts, clock: Clock) -> None:
        self._settings, self._parts, self._clock = settings, parts, clock
        self._rates = Rates()
        self._written: dict[tuple[str, str], tuple[int, int, int]] = {}  # token, seq, records
        self.started_at = clock.now_ms()
        self.minutes = Minutes()
        self.restarts = 0

    def look(self) -> dict[str, Any]:
        """The heartbeat of now; counts it among the rates and minutes, too."""
        settings, parts = self._settings, self._parts
        now_ms, monotonic_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        self._count(monotonic_ms)
        # A venue of which nothing is followed has nothing to be well or ill.
        followed = [s for s in parts.sources if parts.feeds[s.assembler.venue].lines]
        feeds = {
            f"{source.assembler.venue}:{line.symbol}": self._feed(source, line, now_ms)
            for source in followed
            for line in parts.feeds[source.assembler.venue].lines.values()
        }
        shown = sorted(feeds, key=lambda name: feeds[name]["book"] == "in_sync")[:FEEDS_MAX]
        return {
            "v": 1,
            "bridge_id": settings.node_id,
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "version": own_version(),
            "started_at": self.started_at,
            "restarts": self.restarts,
            "metrics_url": parts.metrics_url(),
            "last_heartbeat": now_ms,
            "topic": settings.events_topic,
            "partitions": settings.partitions,
            "broker": {
                "connected": parts.writer.connected,
                "outage": parts.outage(),
                "records": parts.outbox.depth,
                "bytes": parts.outbox.bytes,
                "age_ms": parts.outbox.age_ms(monotonic_ms),
                "acknowledged_per_s": self._rates.per_s("acknowledged"),
            },
            "venues": {s.assembler.venue: self._venue(s, now_ms) for s in followed},
            "feeds": {name: feeds[name] for name in shown},
            "feeds_left_out": len(feeds) - len(shown),
        }

    def _count(self, monotonic_ms: int) -> None:
        counts: dict[Any, float] = {"acknowledged": self._parts.outbox.acknowledged}
        for source in self._parts.sources:
            venue = source.assembler.venue
            counts["frames", venue] = source.counts.frames
            for line in self._parts.feeds[venue].lines.values():
                counts["records", venue, line.symbol] = self._records(venue, line)
        self._rates.look(monotonic_ms, counts)

    def _records(self, venue: str, line: Line) -> int:
        """All records of a feed since the start: a line's own numbers begin anew with each token."""
        token, seq, records = self._written.get((venue, line.symbol), (0, 0, 0))
        if line.token:
            records += line.seq - (seq if line.token == token else 0)
            token, seq = line.token, line.seq
        self._written[venue, line.symbol] = token, seq, records
        return records

    def _venue(self, source: FrameSource, now_ms: int) -> dict[str, Any]:
        venue = source.assembler.venue
        feeds, last_ms = self._parts.feeds[venue], source.counts.last_frame_ms
        return {
            "connected": feeds.connected,
            "frame_age_ms": max(0, now_ms - last_ms) if last_ms else None,
            "frames_per_s": self._rates.per_s(("frames", venue)),
            "reconnects": sum(source.counts.reconnects.values()),
            "symbols": len(feeds.lines),
            "in_sync": sum(line.in_sync for line in feeds.lines.values()),
        }

    def _feed(self, source: FrameSource, line: Line, now_ms: int) -> dict[str, Any]:
        venue = source.assembler.venue
        feeds, writes = self._parts.feeds[venue], bool(line.token)
        gaps, resyncs = feeds.gaps[line.symbol], self._parts.resyncs.get((venue, line.symbol), 0)
        age_ms = max(0, now_ms - line.last_ms) if writes and line.last_ms else None
        if writes:
            self.minutes.add(
                (venue, line.symbol),
                line.token,
                now_ms,
                records=self._records(venue, line),
                gaps=gaps,
                resyncs=resyncs,
                reconnects=sum(source.counts.reconnects.values()),
                in_sync=line.in_sync,
                age_ms=age_ms,
            )
        return {
            "book": "unlisted" if line.closed else "in_sync" if line.in_sync else "out_of_sync",
            "token": line.token,
            "records_per_s": self._rates.per_s(("records", venue, line.symbol)) if writes else None,
            "last_record_age_ms": age_ms,
            "gaps": gaps,
            "resyncs": resyncs,
        }


class BridgeBeat:
    """Writes `Figures` to Redis, in a task of its own."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        bridge_id: str,
        figures: Figures,
        rng: random.Random | None = None,
    ) -> None:
        """Nothing is written before `start`.

        Args:
            redis: A client that answers or fails soon; closed by whoever made it.
            keys: Key names.
            bridge_id: Under which name.
            figures: What is written.
            rng: Source of the jitter.
        """
        self._redis, self._keys, self._id = redis, keys, bridge_id
        self._figures = figures
        self._rng = rng or random.Random()
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._counted = self._away = False
        self._owed: list[Point] = []

    def start(self) -> None:
        """Begin to beat."""
        self._task = asyncio.create_task(self._run(), name="bridge-beat")

    async def stop(self) -> None:
        """Say goodbye, as far as Redis answers soon; else the heartbeat expires."""
        self._over.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            self._owed += self._figures.minutes.end()
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(FAREWELL_S):
                    await self._redis.delete(self._keys.bridge(self._id))
                    await self._redis.zrem(self._keys.bridges(), self._id)
                    await self._write_minutes()

    async def _run(self) -> None:
        while not self._over.is_set():
            try:
                await self._beat()
            except FAILURES as error:
                if not self._away:
                    self._away = True
                    log.warning("beat.redis_away", error=repr(error))
            except Exception:  # readers will say that it is silent; feeds go on
                log.exception("beat.failed")
            pause_ms = BEAT_MS + self._rng.uniform(-JITTER_MS, JITTER_MS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_ms / 1000):
                    await self._over.wait()

    async def _beat(self) -> None:
        figures = self._figures
        # Looked at whether or not Redis is there: minutes go on.
        beat = figures.look()
        self._owed += figures.minutes.ended(beat["last_heartbeat"])
        if not self._counted:
            figures.restarts = await count_start(self._redis, self._keys.starts("bridge", self._id))
            self._counted, beat["restarts"] = True, figures.restarts
        now_ms = beat["last_heartbeat"]
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._keys.bridge(self._id), orjson.dumps(beat), ex=TTL_S)
            pipe.zadd(self._keys.bridges(), {self._id: now_ms})
            pipe.zremrangebyscore(self._keys.bridges(), "-inf", now_ms - REMEMBERED_MS)
            await pipe.execute()
        await self._write_minutes()
        self._away = False

    async def _write_minutes(self) -> None:
        # Were Redis away for long, the oldest are let go: no reader asks for them any more.
        del self._owed[: -KEPT_MINUTES * FEEDS_MAX]
        while self._owed:
            some = self._owed[:AT_ONCE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for point in some:
                    key = self._keys.feed_minutes(*point.feed)
                    # Two bridges that took turns in a minute have an entry each, by their tokens.
                    entry = f"{point.ts_ms}-{point.token}"
                    body: dict[Any, Any] = {FIELD: orjson.dumps(point.figures())}
                    pipe.xadd(key, body, id=entry, maxlen=KEPT_MINUTES, approximate=False)
                    pipe.expire(key, MINUTES_TTL_S)
                # An entry that is there, or behind a later one, is refused: as good as written.
                await pipe.execute(raise_on_error=False)
            del self._owed[: len(some)]
