"""The bridge: venues in, the events topic out. One process, any number of venues.

Sources drive assemblers, feeds make records of their events, the outbox holds them until the
broker has them, the writer brings them there, leases say under which token. Everything runs in
one event loop; only the sources and the writer wait for a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from lua import Keys, Scripts
from streams.bridge_beat import BridgeBeat, Figures, Parts
from streams.bridge_health import health, unready
from streams.bridge_metrics import BridgeMetrics
from streams.bridge_telemetry import BridgeTelemetry
from streams.capture.recorder import Recorder
from streams.events import Event, FeedStatus
from streams.feed_lease import FeedKey, FeedLeases, lease_client
from streams.feeds import BROKER_OUTAGE, Feeds, OutRecord
from streams.frame_letters import FrameLetters
from streams.frame_traces import frame_traces
from streams.kafka_writer import KafkaWriter
from streams.outbox import LostLine, Outbox
from streams.record import close_recorders, recorders_of
from streams.sockets import SocketSource
from streams.sources import FrameSource, RefusedFrame
from streams.subscriptions import Subscriptions
from streams.symbols import VENUES, Listing, parse_symbols
from streams.topics import PartitionCountError
from streams.wiring import socket_sources
from tapeline.clock import Clock, SystemClock
from tapeline.config import Settings
from tapeline.errors import UnknownSymbol
from tapeline.http_probe import ProbeServer, reachable
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger
from tapeline.tasks import end_all
from tapeline.tracing import Tracing
from tapeline.tracing_metrics import register

OK: Final = 0
FAILED: Final = 1
MISCONFIGURED: Final = 2

FLUSH_S: Final = 10.0
"""How long a stop waits for the broker to take what is left."""

LETTERS_S: Final = 2.0
"""And how long for it to take frames that could not be parsed."""

LEASE_SHARE: Final = 0.75
"""Of the lease's life by the settings: a bridge waits another's out, and then writes its book, within
that life."""

COMMANDS_S: Final = 2.0
"""How long a start waits for the broker to say what commands have made of ``SYMBOLS``."""

AGAIN_S: Final = 4.0
"""Longer than a part takes to end well: what has not ended by then has lost its cancellation."""

WATCH_S: Final = 0.1
OUTAGE_SHOWN_MS: Final = 2_000
"""An outbox that has waited this long for the broker is worth a line in the log."""

ROOM_SHARE: Final = 0.25
"""Of the outbox: a source that can wait does so above it."""

log = get_logger("bridge")


class Bridge:
    """Everything between the venues and the topic.

    Attributes:
        feeds: By venue.
        outbox: What the broker has not acknowledged.
        subscriptions: What commands make of ``SYMBOLS``; None where a source is given.
        recorders: By venue, where it records what comes.
        telemetry: What operators are told.
        letters: Frames that could not be parsed, on their way to the dead-letter topic.
        probe: Serves ``/metrics`` and ``/health``.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        source: FrameSource | Sequence[FrameSource] | None = None,
        clock: Clock | None = None,
        flush_s: float = FLUSH_S,
        tracing: Tracing | None = None,
    ) -> None:
        """Build it inside a running event loop; nothing is opened before `run`.

        Args:
            settings: ``kafka_url``, ``redis_url`` and, without a source, ``symbols`` are needed.
            source: In place of the venues' sockets.
            clock: Instead of the machine's.
            flush_s: Bound of the flush at the end.
            tracing: Makes spans; stopped by whoever made it.

        Raises:
            ConfigError: A symbol or a venue that can't be followed.
        """
        self._settings = settings
        self._clock = clock or SystemClock()
        self._flush_s = flush_s
        ratio, topic = settings.trace_sample_ratio, settings.events_topic
        self._traces = frame_traces(tracing, ratio, topic)
        self._stop = asyncio.Event()
        self._granted = asyncio.Event()
        self._outage = False
        self._started_ms = self._clock.monotonic_ms()
        self._sockets: dict[str, SocketSource] = {}
        self.subscriptions: Subscriptions | None = None
        self.recorders: dict[str, Recorder] = {}
        if source is None:
            listings = parse_symbols(settings.symbols, quote_mixed=settings.quote_mixed)
            if settings.record_dir:
                self.recorders = recorders_of(
                    settings, listings, Path(settings.record_dir), venues=VENUES
                )
            sockets = socket_sources(settings, listings, self._clock, taps=self.recorders)
            self._sources: tuple[FrameSource, ...] = (*sockets,)
            self._sockets = {each.assembler.venue: each for each in sockets}
            self.subscriptions = Subscriptions(settings, listings, self, self._clock)
        else:
            self._sources = (*source,) if isinstance(source, Sequence) else (source,)
        self.feeds = {
            each.assembler.venue: Feeds(
                each.assembler,
                partitions=settings.partitions,
                alive_period_ms=settings.alive_period_ms,
                snapshot_period_ms=settings.snapshot_period_ms,
            )
            for each in self._sources
        }
        self.outbox = Outbox(
            bytes_max=settings.outage_buffer_bytes, age_max_ms=settings.outage_buffer_ms
        )
        self._room_bytes = int(settings.outage_buffer_bytes * ROOM_SHARE)
        self._writer = KafkaWriter(
            self.outbox,
            access=KafkaAccess.of(settings),
            topic=settings.events_topic,
            partitions=settings.partitions,
            client_id=f"{settings.app_id}-bridge-{settings.node_id}",
            on_lost=self._lost,
        )
        self.letters = FrameLetters(
            access=KafkaAccess.of(settings),
            topic=settings.events_topic,
            client_id=f"{settings.app_id}-bridge-letters-{settings.node_id}",
            monotonic_ms=self._clock.monotonic_ms,
        )
        self.telemetry = BridgeTelemetry(
            self._write_telemetry, node_id=settings.node_id, clock=self._clock
        )
        self._redis: Redis = lease_client(settings.redis_url, settings.lease_ttl_ms)
        keys = Keys.of(settings)
        self._leases = FeedLeases(
            Scripts(self._redis, keys),
            [
                FeedKey(venue, symbol)
                for venue, feeds in self.feeds.items()
                for symbol in feeds.lines
            ],
            self,
            node_id=settings.node_id,
            incarnation=uuid.uuid4().hex[:12],
            ttl_ms=int(settings.lease_ttl_ms * LEASE_SHARE),
        )
        metrics = BridgeMetrics(
            self._sources,
            self.feeds,
            self.outbox,
            self._writer,
            self._leases,
            self._age_s,
            letters=self.letters.queue,
            recorders=self.recorders,
            telemetry=self.telemetry.telemetry,
        )
        self.probe = ProbeServer(
            settings.bind_host,
            settings.bridge_port,
            register(metrics.registry(), tracing),
            self.health,
            unready,
        )
        parts = Parts(
            sources=self._sources,
            feeds=self.feeds,
            outbox=self.outbox,
            writer=self._writer,
            resyncs=self.telemetry.resyncs,
            outage=lambda: self._outage,
            metrics_url=lambda: f"{reachable(self.probe.url)}/metrics",
        )
        figures = Figures(settings, parts, self._clock)
        self._beat = BridgeBeat(self._redis, keys, settings.node_id, figures)

    # --- life ---

    def stop(self) -> None:
        """End `run` gracefully."""
        self._stop.set()

    async def run(self) -> int:
        """Bridge until stopped, or until all sources have ended.

        Returns:
            Exit status: 0, or 1 if something failed or records could not be flushed, or 2 if a
            setting is wrong: a partition count, or symbols that no venue lists.

        Raises:
            OSError: ``NT_BRIDGE_PORT`` can't be listened on.
        """
        supports: list[asyncio.Task[None]] = []
        sources: list[asyncio.Task[None]] = []
        try:
            await self.probe.start()
            self._beat.start()
            for recorder in self.recorders.values():
                recorder.start()
            log.info(
                "bridge.started",
                url=self.probe.url,
                symbols=[f"{v}:{s}" for v, feeds in self.feeds.items() for s in feeds.lines],
            )
            supports += [
                asyncio.create_task(self._writer.run(), name="bridge-writer"),
                asyncio.create_task(self._leases.run(), name="bridge-leases"),
                asyncio.create_task(self._watch(), name="bridge-watch"),
                asyncio.create_task(self.letters.run(), name="bridge-letters"),
            ]
            if self.subscriptions is not None:
                control = self.subscriptions.log
                supports.append(asyncio.create_task(control.run(), name="bridge-control"))
                await self._first(control.ready)
            sources += [
                asyncio.create_task(source.run(self), name=f"bridge-{source.assembler.venue}")
                for source in self._sources
            ]
            status = await self._until_over(supports, sources)
            await end_all(sources, AGAIN_S)
            if not supports[0].done():
                status = max(status, await self._flush(supports[0]))
            await self._post_letters()
        finally:
            await end_all([*sources, *supports], AGAIN_S)
            await self._beat.stop()
            await self._leases.release()
            await close_recorders(self.recorders.values())
            await self._redis.aclose()
            await self.probe.stop()
        log.info("bridge.stopped", status=status)
        return status

    async def _first(self, ready: asyncio.Event) -> None:
        """Wait a while for the commands that there are: they say what to follow.

        Where the broker is away the venues are followed all the same, as far as ``SYMBOLS`` goes.
        """
        waits = [asyncio.create_task(event.wait()) for event in (ready, self._stop)]
        try:
            await asyncio.wait(waits, timeout=COMMANDS_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_all(waits)

    async def _until_over(
        self, supports: list[asyncio.Task[None]], sources: list[asyncio.Task[None]]
    ) -> int:
        stopping = asyncio.create_task(self._stop.wait(), name="bridge-stop")
        try:
            while True:
                running = [task for task in sources if not task.done()]
                done, _ = await asyncio.wait(
                    [stopping, *supports, *running], return_when=asyncio.FIRST_COMPLETED
                )
                for task in done - {stopping}:
                    error = task.exception()
                    if error is not None:
                        return self._failed(task.get_name(), error)
                if stopping in done or all(task.done() for task in sources):
                    return MISCONFIGURED if self._nothing_listed else OK
        finally:
            stopping.cancel()

    def _failed(self, task: str, error: BaseException) -> int:
        if isinstance(error, PartitionCountError):
            log.error("topic.refused", error=str(error))
            return MISCONFIGURED
        log.error("bridge.failed", task=task, exc_info=error)
        return FAILED

    async def _flush(self, writing: asyncio.Task[None]) -> int:
        """Give the broker a bounded time to take what is left."""
        draining = asyncio.create_task(self._writer.drained(), name="bridge-flush")
        try:
            await asyncio.wait(
                [draining, writing], timeout=self._flush_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            draining.cancel()
        if self.outbox.depth:
            log.error("bridge.not_flushed", records=self.outbox.depth, bytes=self.outbox.bytes)
            return FAILED
        return OK

    async def _post_letters(self) -> None:
        """What is left of them gets a moment: nobody waits long for rubbish."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(LETTERS_S, self._flush_s)):
                await self.letters.drained()
        left = self.letters.queue.give_up()
        if left:
            log.warning("letters.not_flushed", letters=left)

    async def _watch(self) -> None:
        """What no event would tell: that the broker has taken nothing for too long."""
        while True:
            now_ms = self._clock.monotonic_ms()
            lost = self.outbox.expire(now_ms)
            if lost:
                self._lost(lost, BROKER_OUTAGE)
            age_ms = self.outbox.age_ms(now_ms)
            if (age_ms > OUTAGE_SHOWN_MS) is not self._outage:
                self._outage = not self._outage
                if self._outage:
                    self.telemetry.backpressure(self.outbox.depth, age_ms)
                else:
                    log.info("broker.recovered", buffered=self.outbox.depth)
            self.telemetry.look(self._sources, self.feeds)
            await asyncio.sleep(WATCH_S)

    # --- Sink: what sources bring ---

    def accept(self, venue: str, events: Iterable[Event]) -> None:
        """An assembler's events."""
        feeds = self.feeds[venue]
        if self._traces is None or not self._traces.sampled():
            self._put(feeds.accept(events))
        else:
            self._traces.accept(venue, events, feeds.accept, self._put)
        if self.subscriptions is not None and self.subscriptions.waiting:
            for event in events:
                if type(event) is not FeedStatus:
                    self.subscriptions.came((venue, event.symbol))
        if feeds.refused:
            for status in feeds.refused:
                log.error("symbol.refused", venue=venue, symbol=status.symbol, error=status.detail)
                self._refused(venue, status.symbol, status.detail or "the venue refused it")
            feeds.refused.clear()
        if feeds.told:
            for gap in feeds.told:
                self.telemetry.gap(gap)
            feeds.told.clear()

    def tick(self, venue: str, now_ms: int, *, live: bool) -> None:
        """Time passes for a venue."""
        self._put(self.feeds[venue].tick(now_ms, live=live, writable=self.outbox.writable))

    def unlisted(self, venue: str, symbol: str) -> None:
        """A symbol that its venue does not have: said once, and the others go on."""
        if symbol not in self.feeds[venue].lines:
            return  # followed no more
        error = str(UnknownSymbol(venue, symbol))
        log.error("symbol.unknown", venue=venue, symbol=symbol, error=error)
        if not self._refused(venue, symbol, error) and self._nothing_listed:
            log.error("symbol.none_left", error="no symbol of SYMBOLS is listed by its venue")
            self._stop.set()

    def _refused(self, venue: str, symbol: str, reason: str) -> bool:
        """A venue will not send a symbol; whether a command has asked for it, and is undone."""
        self.feeds[venue].close(symbol)
        self._leases.forget(FeedKey(venue, symbol))
        return self.subscriptions is not None and self.subscriptions.refused(
            (venue, symbol), reason
        )

    def frame_refused(self, venue: str, refused: RefusedFrame) -> None:
        """A frame is not the venue's dialect: kept beside the events topic."""
        self.letters.keep(venue, refused)

    async def ready(self, venue: str) -> None:
        """Wait until every line of a venue has a token."""
        while not all(line.token or line.closed for line in self.feeds[venue].lines.values()):
            self._granted.clear()
            await self._granted.wait()

    async def room(self) -> None:
        """Wait until the outbox is nearly empty."""
        await self._writer.drained(self._room_bytes)

    def _put(self, records: list[OutRecord]) -> None:
        if not records:
            return
        lost = self.outbox.put(records, self._clock.monotonic_ms())
        self._writer.wake()
        if lost:
            self._lost(lost, BROKER_OUTAGE)

    def _lost(self, lost: set[LostLine], reason: str) -> None:
        for line in lost:
            self.feeds[line.venue].lost(line.symbol, reason)
            self.telemetry.resync(
                line.venue, line.symbol, reason, dropped=self.outbox.dropped[line]
            )

    # --- Follower: what commands say ---

    def follow(self, listing: Listing) -> None:
        """Follow one more symbol, on the sockets that are open.

        Raises:
            ConfigError: Its venue's connection does not carry it.
        """
        venue, symbol = listing.venue, listing.symbol
        events = self._sockets[venue].add(listing)
        self.feeds[venue].add(symbol)
        self._leases.want(FeedKey(venue, symbol))
        self._record_what_is_followed(venue)
        self.accept(venue, events)

    def unfollow(self, listing: Listing) -> None:
        """Follow a symbol no longer: its readers are told, its lease is given back."""
        venue, symbol = listing.venue, listing.symbol
        if symbol in self.feeds[venue].lines:
            self.accept(venue, self._sockets[venue].remove(symbol))
            self.feeds[venue].remove(symbol)
            self._leases.forget(FeedKey(venue, symbol))
            self._record_what_is_followed(venue)

    def _record_what_is_followed(self, venue: str) -> None:
        if venue in self.recorders:
            self.recorders[venue].follows(self._sockets[venue].venue_symbols)

    def routed(self, version: int) -> None:
        """Which set of subscriptions it is from now on."""
        for feeds in self.feeds.values():
            feeds.routing_version = version

    # --- Holder: what the leases say ---

    def granted(self, key: FeedKey, token: int) -> None:
        """A feed lease is ours."""
        self._put(self.feeds[key.venue].granted(key.symbol, token, self._time_of(key.venue)))
        self._granted.set()
        self.telemetry.granted(*key, token)

    def revoked(self, key: FeedKey) -> None:
        """A feed lease is another's."""
        feeds = self.feeds[key.venue]
        self.telemetry.lease_lost(*key, feeds.lines[key.symbol].token)
        feeds.revoked(key.symbol)

    def _time_of(self, venue: str) -> int:
        """Now, in the time of a venue's source: a tape's is where the tape is."""
        return self.feeds[venue].newest_ms or self._clock.now_ms()

    # --- what operators see ---

    def _write_telemetry(self, key: bytes, value: bytes) -> None:
        if self.subscriptions is not None:
            self.subscriptions.log.write(self._settings.telemetry_topic, key, value)

    @property
    def _nothing_listed(self) -> bool:
        lines = [line for feeds in self.feeds.values() for line in feeds.lines.values()]
        return bool(lines) and all(line.closed for line in lines)

    def _age_s(self) -> float:
        return self.outbox.age_ms(self._clock.monotonic_ms()) / 1000

    def health(self) -> tuple[bool, dict[str, Any]]:
        """What ``/health`` says."""
        return health(
            self._sources,
            self.feeds,
            self.outbox,
            self._writer,
            self._leases,
            clock=self._clock,
            started_ms=self._started_ms,
            node_id=self._settings.node_id,
            outage=self._outage,
        )
