"""One worker: the Faust application and everything that lives beside it.

`build_worker` wires the parts; ``agents/__init__.py`` gives the application to
``faust -A agents worker``. The order of a start: settings, probe server, Redis, heartbeat,
the topic's shape, eviction of a dead predecessor; then Faust joins the group and recovers the
table; then engines are restored, leases taken, cycles run.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from typing import Any

from faust.types import TP

from agents import positions
from agents.batches import Batch
from agents.broker_look import BrokerLook
from agents.checkpoints import Checkpointer
from agents.collector import relax
from agents.cycles import Cycles
from agents.dead_letters import DeadLetters
from agents.eviction import Eviction, client_id
from agents.kafka_app import REBALANCE_TIMEOUT_S, TapelineApp, create_kafka_app
from agents.ledger import CommitLedger
from agents.metrics import Metrics
from agents.ownership import Ownership
from agents.parameters import parameters_of
from agents.raw_streams import RawStreams
from agents.shards import BatchOutcome, Shards
from agents.vitals import Vitals
from agents.watchdog import Watchdog
from streams.symbols import parse_symbols
from streams.topics import (
    PartitionCountError,
    admin_of,
    bootstrap_servers,
    changelog_of,
    dead_letters_of,
    partition_counts,
)
from tables.changelog import Checkpoint, decode_checkpoint, newest, symbol_and_token
from tables.report import encode_tick
from tapeline.clock import Clock, SystemClock
from tapeline.config import Settings
from tapeline.errors import ConfigError, SnapshotError, TapelineError, TopicError
from tapeline.http_probe import ProbeServer
from tapeline.logging import get_logger

RETRY_SECONDS = 1.0

log = get_logger("worker")


class Worker:
    """Everything of one worker process but Faust itself.

    Attributes:
        app: The Faust application.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.ledger = CommitLedger()
        self.shards = Shards(
            parse_symbols(settings.symbols),
            settings.partitions,
            parameters_of(settings),
            self.ledger,
        )
        self.app, self.topic, self.table = create_kafka_app(settings, self.ledger)
        self.app.on_prelude = self.prelude
        self.app.on_recovered = self.restore
        self.app.on_draining = self.drain
        self.app.on_closing = self.close
        self.ownership = Ownership(settings, self.shards, self.metrics, self.clock, self.fail)
        self.cycles = Cycles(
            settings, self.shards, self.ownership, self.ownership.wanted, self.metrics, self.clock
        )
        self.dead_letters = DeadLetters(
            lambda: self.app.producer, settings.events_topic, self.metrics
        )
        self.checkpointer = Checkpointer(
            self.shards,
            self._send_changelog,
            self.ownership.token,
            self.metrics,
            self.clock,
            settings.checkpoint_period_ms,
        )
        self.probe = ProbeServer(
            settings.bind_host, settings.metrics_port, self.metrics.registry, self.health
        )
        self.vitals = Vitals(
            self.app,
            settings.events_topic,
            self.ledger,
            self.ownership,
            self.dead_letters,
            self.clock,
            lambda: self._ready,
            self.fail,
        )
        self.watchdog = Watchdog(
            self.vitals,
            BrokerLook(
                bootstrap_servers(settings.kafka_url),
                client_id(settings.node_id),
                settings.app_id,
                settings.events_topic,
                changelog_of(settings.app_id),
            ),
            self.metrics,
            settings.stall_ms,
            # The group waits this long for its slowest, or its dead, member.
            settings.session_timeout_ms + int(REBALANCE_TIMEOUT_S * 1000) + settings.stall_ms,
        )
        self.streams: RawStreams | None = None
        self._started_ms = self.clock.now_ms()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = False
        self._assigning = asyncio.Lock()
        self._starting_over = False
        self._failing: asyncio.Task[None] | None = None
        self.app.on_committed = self._on_committed
        self.app.on_agent_failed = self.fail
        self.app.agent(self.topic, name="ingest")(self.ingest)
        self.app.on_partitions_revoked.connect(self._on_revoked)

    # --- life ----------------------------------------------------------------------------------

    async def prelude(self) -> None:
        """What must be true before the group is joined."""
        settings = self.settings
        relax()
        missing = self.metrics.missing()
        if missing:
            log.warning("metrics.missing", names=missing)
        await self._start_probe()
        log.info("worker.starting", metrics_url=f"{self.probe.url}/metrics")
        await self.ownership.start(f"{self.probe.url}/metrics")
        if settings.enable_streams:
            self.streams = RawStreams(
                self.ownership.redis, settings.streams_maxlen, self.metrics, self.ownership.keys
            )
            self._spawn(self.streams.run())
        await self._broker_ready()
        eviction = Eviction(
            bootstrap_servers(settings.kafka_url), settings.app_id, client_id(settings.node_id)
        )
        await eviction.look()
        self._spawn(eviction.evict())
        self._spawn(self.checkpointer.run())
        self._spawn(self.cycles.run())
        self._spawn(self.watchdog.run())

    async def _start_probe(self) -> None:
        """Listen for operators.

        Raises:
            ConfigError: The port is taken, or not ours to take.
        """
        try:
            await self.probe.start()
        except OSError as error:
            wanted = f"a port free to listen on at {self.settings.bind_host}: {error.strerror}"
            raise ConfigError("NT_METRICS_PORT", self.settings.metrics_port, wanted) from error

    async def _broker_ready(self) -> None:
        """Wait for the broker, and for topics of the shape that was planned.

        Raises:
            TopicError: A topic is missing or has another number of partitions.
        """
        wanted = self.settings.partitions
        partitioned = (self.settings.events_topic, changelog_of(self.settings.app_id))
        while True:
            try:
                async with admin_of(self.settings.kafka_url) as admin:
                    counts = await partition_counts(admin)
                break
            except TopicError as error:
                log.error("broker.unavailable", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
        for topic in (*partitioned, dead_letters_of(self.settings.events_topic)):
            if topic not in counts:
                raise TopicError(f"topic {topic} does not exist; run: tapeline topics apply")
            if topic in partitioned and counts[topic] != wanted:
                raise PartitionCountError(topic, wanted, counts[topic])

    async def drain(self) -> None:
        """At a stop: nothing more is applied, so keep and publish what there is.

        Not after a failure: the records are read again from what was kept before it.
        """
        if self._failing is not None:
            return
        log.info("worker.draining")
        await self.checkpointer.save_all()

    async def close(self) -> None:
        """After Faust has stopped: leases, heartbeat, probe."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.watchdog.stop()
        if self.streams is not None:
            await self.streams.flush()
        await self.ownership.stop()
        await self.probe.stop()
        log.info("worker.stopped")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("task.died", task=task.get_name(), exc_info=task.exception())
            self.fail(task.exception())

    def fail(self, error: BaseException | None) -> None:
        """End the process: what went wrong can't be gone on from."""
        if self._failing is None:
            self._failing = asyncio.get_running_loop().create_task(self.app.crash(error))

    # --- assignment ------------------------------------------------------------------------------

    async def _on_revoked(self, _app: Any, revoked: set[TP], **_kwargs: Any) -> None:
        self._ready = False

    async def restore(self) -> None:
        """Tables are recovered, and nothing flows yet: make the engines what they were.

        One at a time: an assignment may come while the one before it still looks at the topic,
        and both would find it recreated.
        """
        async with self._assigning:
            await self._restore()

    async def _restore(self) -> None:
        topic = self.settings.events_topic
        before = set(self.shards.symbols())
        assigned = {tp.partition for tp in self.app.consumer.assignment() if tp.topic == topic}
        checkpoints, tokens, unreadable = self._stored_checkpoints()
        await self.ownership.load_epoch(topic)
        # A Redis that was wiped has forgotten the epoch; the checkpoints have not.
        self.shards.epoch = max([self.shards.epoch, *(one.epoch for one in checkpoints)])
        best = newest(checkpoints)
        refused = unreadable | self.shards.assign(assigned, best.values())
        for symbol, error in refused.items():
            log.warning("snapshot.discarded", symbol=symbol, error=str(error))
        rebuilt = {self.shards.partition_of[s] for s in refused if not self._has_state(s)}
        await self._check_positions(topic, assigned, rebuilt & assigned)
        self._starting_over = False
        self.checkpointer.set_symbols(tokens)
        await self.ownership.assigned({s: max(t) for s, t in tokens.items()})
        self.cycles.refresh()
        self.metrics.hrw_rebalances.inc()
        self._ready = True
        log.info("rebalance_triggered", partitions=len(assigned), symbols=self.shards.symbols())
        self._log_changes(before, set(self.shards.symbols()))

    def _log_changes(self, before: set[str], after: set[str]) -> None:
        """One line a symbol that came or went; a lag is how far its state is behind now."""
        now_ms = self.clock.now_ms()
        for symbol in sorted(after - before):
            engine = self.shards.engine(symbol)
            newest_ms = engine.newest_ms if engine is not None else 0
            log.info(
                "symbol_assigned", symbol=symbol, lag_ms=now_ms - newest_ms if newest_ms else None
            )
        for symbol in sorted(before - after):
            log.info("symbol_dropped", symbol=symbol, lag_ms=None)
        self.metrics.drop_symbols(before - after)

    def _has_state(self, symbol: str) -> bool:
        engine = self.shards.engine(symbol)
        return engine is not None and engine.applied >= 0

    def _stored_checkpoints(
        self,
    ) -> tuple[list[Checkpoint], dict[str, set[int]], dict[str, SnapshotError]]:
        """What the changelog holds of our partitions.

        Returns:
            Checkpoints; tokens they are stored under by symbol; listed symbols with one that
            can't be read.
        """
        found: list[Checkpoint] = []
        unreadable: dict[str, SnapshotError] = {}
        tokens: dict[str, set[int]] = defaultdict(set)
        for key, value in self.table.data.data.items():
            try:
                checkpoint = decode_checkpoint(value)
            except SnapshotError as error:
                symbol, token = symbol_and_token(key)
                if symbol in self.shards.partition_of:
                    unreadable[symbol] = error
                    tokens[symbol].add(token)  # to be tombstoned under the next one
                continue
            found.append(checkpoint)
            tokens[checkpoint.symbol].add(checkpoint.token)
        return found, tokens, unreadable

    async def _check_positions(self, topic: str, assigned: set[int], rebuilt: set[int]) -> None:
        """Find out a recreated topic, and where to start what was never committed.

        Args:
            topic: The events topic.
            assigned: Its partitions that are ours.
            rebuilt: Those with a symbol whose stored state is of no use: they are read again
                from as far back as a state reaches. Other symbols skip what they have applied.
        """
        if not assigned:
            return
        consumer = self.app.consumer
        tps = {TP(topic, partition) for partition in assigned}
        servers = bootstrap_servers(self.settings.kafka_url)
        ends = {tp.partition: at for tp, at in (await consumer.highwaters(*tps)).items()}
        applied = {p: self._applied(p) for p in assigned}
        suspects = positions.recreated(applied, ends)
        gone: set[int] = set()
        if suspects:
            gone = await positions.confirm_recreated(
                servers, topic, {p: applied[p] for p in suspects}
            )
            if gone:
                await self._topic_recreated(topic, gone)
        committed = await consumer.seek_to_committed()
        # seek_to_committed answers None or 0 where nothing is committed, and stays where it is: in
        # a rebalance that is behind records which were fetched and thrown away.
        fresh = {p for p in assigned if not committed.get(TP(topic, p))}
        if gone:
            # A commit of the old offsets may have come after the deletion, which removed them.
            fresh = assigned
        if fresh or rebuilt:
            start = await positions.warm_up_offsets(
                servers, topic, fresh | rebuilt, self.clock.now_ms()
            )
            offsets = {
                TP(topic, p): offset
                for p, offset in start.items()
                if p in fresh or offset < (committed.get(TP(topic, p)) or 0)
            }
            if offsets:
                await consumer._commit(offsets)
                # Faust takes a committed 0 for nothing, and would stay where it is.
                await consumer.seek_wait(offsets)

    def _applied(self, partition: int) -> int:
        """Highest offset that any engine of the partition has applied."""
        engines = (
            self.shards.engine(symbol)
            for symbol, home in self.shards.partition_of.items()
            if home == partition
        )
        return max((engine.applied for engine in engines if engine is not None), default=-1)

    async def _topic_recreated(self, topic: str, partitions: set[int]) -> None:
        """Offsets have started over: states and watermarks of before mean nothing now."""
        epoch = await self.ownership.raise_epoch(topic)
        log.error("topic.recreated", topic=topic, partitions=sorted(partitions), epoch=epoch)
        for symbol in self.shards.symbols():
            self.shards.discard(symbol)
        self.metrics.engine_events.labels("topic_recreated").inc()

    # --- records ---------------------------------------------------------------------------------

    async def ingest(self, stream: Any) -> None:
        """Apply batches to engines; what fails goes to the dead-letter topic.

        In: what a fetch brought, batches of one partition's records each, at least once. State:
        the shards' engines, kept by the checkpointer. Out: none; the cycles read the engines.
        """
        async for batches in stream:
            generation = self.ledger.generation
            together = BatchOutcome()
            for batch in batches:
                await self._take(batch, generation, together)
                if self.ledger.generation != generation:
                    break  # assigned anew meanwhile: all of it is read again
            self.metrics.batch(together)
            for symbol in together.touched:
                self._tick(symbol)
            # Batches that wait come without a pause: cycles and heartbeats get their turn here.
            await asyncio.sleep(0)

    async def _take(self, batch: Batch, generation: int, together: BatchOutcome) -> None:
        partition = batch.partition
        if partition not in self.ledger.partitions():
            return
        if self._starting_over or await self._stepped_back(partition, batch.first_offset):
            return  # all of it is read again, from the beginning
        outcome = self.shards.apply(batch)
        together.add(outcome)
        together.touched |= outcome.touched
        if outcome.failures:
            await self.dead_letters.keep(partition, outcome.failures)
            if self.ledger.generation != generation:
                return
            self.shards.release()
        self.ledger.advance(partition, batch.last_offset + 1)
        self.metrics.position[partition].set(batch.last_offset + 1)
        if self.streams is not None:
            self._copy(self.streams, batch)

    def _on_committed(self, offsets: Mapping[TP, int]) -> None:
        for tp, offset in offsets.items():
            self.metrics.committed_offset.labels(tp.partition).set(offset)
            self.vitals.committed(tp.partition, offset)

    async def _stepped_back(self, partition: int, offset: int) -> bool:
        """Whether the topic was created anew under us, which the next assignment sees to.

        Deleted and created between two looks at its metadata, it has caused no rebalance.
        """
        position = self.ledger.position(partition)
        if position is None or offset >= position:
            return False
        gone = await positions.confirm_recreated(
            bootstrap_servers(self.settings.kafka_url),
            self.settings.events_topic,
            {partition: position - 1},
        )
        if gone:
            log.warning("offsets.stepped_back", partition=partition, offset=offset, was=position)
            self._starting_over = True
            self.app.consumer.request_rejoin()
        return bool(gone)

    def _copy(self, streams: RawStreams, batch: Batch) -> None:
        """Queue the listed symbols' events for their streams."""
        for key, values in batch.by_key.items():
            symbol = (key or b"").decode("ascii", "replace")
            if self.shards.partition_of.get(symbol) == batch.partition:
                for offset, value in values:
                    if value:
                        streams.put(symbol, self.shards.epoch, offset, value)

    def _tick(self, symbol: str) -> None:
        engine = self.shards.engine(symbol)
        if engine is not None:
            self.ownership.put_tick(
                symbol,
                self.shards.watermark(engine),
                lambda token, seq: encode_tick(engine.tick(token, seq)),
            )

    def _send_changelog(self, partition: int, key: bytes, value: bytes | None) -> Any:
        return self.table.send_changelog(partition, key, value)

    # --- health ----------------------------------------------------------------------------------

    def health(self) -> tuple[bool, dict[str, Any]]:
        """What ``/health`` says."""
        well, watched = self.watchdog.health()
        body = {
            "node_id": self.settings.node_id,
            "uptime": (self.clock.now_ms() - self._started_ms) / 1000,
            "owned_symbols": self.ownership.owned(),
            "last_heartbeat_ts": self.ownership.last_heartbeat_ms(),
            "assigned": self._ready,
            **watched,
        }
        return well, body


def build_worker(settings: Settings) -> Worker:
    """A worker ready for ``faust worker``.

    Raises:
        TapelineError: A setting that can't be right.
    """
    return Worker(settings)


__all__ = ["TapelineApp", "TapelineError", "Worker", "build_worker"]
