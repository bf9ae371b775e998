"""One worker: the Faust application and everything that lives beside it.

`Worker` wires the parts; ``agents/__init__.py`` gives the application to
``faust -A agents worker``. The order of a start: settings, probe server, Redis, heartbeat,
the topic's shape, eviction of a dead predecessor; then Faust joins the group and recovers the
table; then engines are restored, leases taken, cycles run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from faust.types import TP

from agents.assignment import Assignments
from agents.assignor import HrwAssignor
from agents.batches import Batch
from agents.broker_look import BrokerLook
from agents.checkpoints import Checkpointer
from agents.cycles import Cycles
from agents.dead_letters import DeadLetters
from agents.eviction import Group, Predecessor, client_id
from agents.following import Followed, Following
from agents.insight import Insight
from agents.kafka_app import REBALANCE_TIMEOUT_S, create_kafka_app
from agents.ledger import CommitLedger
from agents.merging import Merging
from agents.metrics import Metrics
from agents.node_stats import NodeFigures, NodeStats
from agents.oversight import Oversight
from agents.ownership import Ownership
from agents.parameters import parameters_of
from agents.raw_streams import RawStreams
from agents.readiness import unready
from agents.retirement import Retirement
from agents.shards import BatchOutcome, Shards
from agents.side_metrics import SideMetrics
from agents.side_topics import SideTopics
from agents.standby import Standby
from agents.tail import Tail
from agents.topics_ready import topics_ready
from agents.vitals import Vitals
from agents.watchdog import Watchdog
from streams.symbols import parse_symbols
from streams.telemetry import Telemetry
from streams.topics import changelog_of, letters_of, partition_of
from tables.report import encode_tick
from tapeline.clock import Clock, SystemClock
from tapeline.collector import relax
from tapeline.config import Settings
from tapeline.errors import ConfigError
from tapeline.http_probe import ProbeServer, reachable
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger
from tapeline.tasks import end_all

ASSIGN_ANEW_S: Final = 0.1

log = get_logger("worker")


class Worker:
    """Everything of one worker process but Faust itself.

    Attributes:
        app: The Faust application.
        symbols: How many listed symbols each partition has.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.ledger = CommitLedger()
        listings = parse_symbols(settings.symbols, quote_mixed=settings.quote_mixed)
        self.shards = Shards(
            listings,
            settings.partitions,
            parameters_of(settings),
            self.ledger,
        )
        self.metrics.symbols_known.set_function(lambda: len(self.shards.partition_of))
        self.symbols = Counter(self.shards.partition_of.values())
        self.app, self.topic, self.table = create_kafka_app(settings, self.ledger, self.symbols)
        self.following = Following(settings, listings, self._follow)
        self.app.on_prelude = self.prelude
        self.app.on_leaving = self.leave
        self.app.on_draining = self.drain
        self.app.on_closing = self.close
        access = KafkaAccess.of(settings)
        group_id = settings.suffixed(settings.app_id)
        group = Group(access, group_id, client_id(settings.node_id))
        self.predecessor = Predecessor(group, settings.node_id)
        self.tail = Tail(
            access,
            f"{client_id(settings.node_id)}-tail",
            settings.events_topic,
            self._take_warm,
            self._lost_track,
            self.ledger.pace,
        )
        self.standby = Standby(
            access,
            group,
            settings.events_topic,
            changelog_of(group_id),
            self.shards,
            self.tail,
            self._holds_any,
            self.clock,
        )
        self.ownership = Ownership(
            settings,
            self.shards,
            self.metrics,
            self.clock,
            self.fail,
            warm=self.standby.ready,
            seated=self._seat_is_certain,
            on_change=self._on_lease,
            group=group,
        )
        self.cycles = Cycles(
            settings, self.shards, self.ownership, self.ownership.wanted, self.metrics, self.clock
        )
        self.insight = Insight(
            settings, self.shards, self.ownership, self.cycles, self.tail, self.metrics.registry,
            self.clock,
        )  # fmt: skip
        self.dead_letters = DeadLetters(
            lambda: self.app.producer, settings.events_topic, self.metrics, letters_of(settings)
        )
        self.side_topics = SideTopics(lambda: self.app.producer)
        self.telemetry = Telemetry(
            partial(self.side_topics.put, settings.suffixed(settings.telemetry_topic)),
            component="worker",
            node_id=settings.node_id,
            clock=self.clock,
        )
        self.merging = Merging(
            self.ownership,
            partial(self.side_topics.put, settings.suffixed(settings.merged_topic)),
            self.telemetry,
            self.clock,
            lambda: self.shards.epoch,
            # As the fetch that brought the records has found it.
            lambda p: self.app.monitor.tp_end_offsets.get(TP(settings.events_topic, p), 0),
            self._copy_merged,
        )
        self.metrics.registry.register(
            SideMetrics(self.merging, self.telemetry, self.side_topics, self.ownership)
        )
        self.checkpointer = Checkpointer(
            self.shards,
            self._send_changelog,
            self.ownership.token,
            self.metrics,
            self.clock,
            settings.checkpoint_period_ms,
            self._seat_is_certain,
            self.ownership.may_keep,
        )
        self.retirement = Retirement(
            self.ownership,
            self._send_changelog,
            lambda symbol: partition_of(symbol, settings.partitions),
        )
        self.oversight = Oversight(
            self.app,
            settings,
            self.shards,
            self.ownership,
            self.metrics,
            self.clock,
            self.symbols,
        )
        self.assignments = Assignments(
            self.app,
            self.table,
            settings,
            self.shards,
            self.ledger,
            self.ownership,
            self.standby,
            self.checkpointer,
            self.cycles,
            self.metrics,
            self.clock,
            self.retirement,
        )
        self.app.on_flow_stopping = self.assignments.flow_stops
        self.app.on_seated = self.assignments.seated
        self.app.on_recovered = self.assignments.restore
        self.probe = ProbeServer(
            settings.bind_host, settings.metrics_port, self.metrics.registry, self.health, unready
        )
        self.vitals = Vitals(
            self.app,
            settings.events_topic,
            self.ledger,
            self.ownership,
            self.dead_letters,
            self.clock,
            lambda: self.assignments.complete,
            self.fail,
        )
        self.watchdog = Watchdog(
            self.vitals,
            BrokerLook(
                access,
                client_id(settings.node_id),
                group_id,
                settings.events_topic,
                changelog_of(group_id),
            ),
            self.metrics,
            settings.stall_ms,
            # The group waits this long for its slowest, or its dead, member.
            settings.session_timeout_ms + int(REBALANCE_TIMEOUT_S * 1000) + settings.stall_ms,
        )
        self.stats = NodeStats(
            settings.node_id,
            NodeFigures(self.health, self.ledger.positions, lambda: self.metrics.ends, self.clock),
        )
        self.streams: RawStreams | None = None
        self._started_ms = self.clock.now_ms()
        self._tasks: list[asyncio.Task[None]] = []
        self._failing: asyncio.Task[None] | None = None
        self.app.on_committed = self._on_committed
        self.app.on_agent_failed = self.fail
        self.app.agent(self.topic, name="ingest")(self.ingest)

    # --- life ----------------------------------------------------------------------------------

    async def prelude(self) -> None:
        """What must be true before the group is joined."""
        settings = self.settings
        relax()
        await self.insight.start()
        missing = self.metrics.missing()
        if missing:
            log.warning("metrics.missing", names=missing)
        await self._start_probe()
        metrics_url = f"{reachable(self.probe.url)}/metrics"
        log.info("worker.starting", metrics_url=metrics_url)
        await self.ownership.start(metrics_url)
        if settings.enable_kv_reports:
            self._spawn(self.stats.run(self.ownership.redis, self.ownership.keys))
        if settings.enable_streams:
            self.streams = RawStreams(
                self.ownership.redis, settings.streams_maxlen, self.metrics, self.ownership.keys
            )
            self._spawn(self.streams.run())
        self.side_topics.known(await topics_ready(settings))
        followed = await self.following.load()
        self.shards.relist(followed.listings)
        self.merging.follow(followed.merges)
        self._count_symbols()
        await self.predecessor.look()
        for run in (
            self.predecessor.evict, self.tail.run, self.following.run, self.merging.run,
            self.side_topics.run, self.oversight.run, self.retirement.run, self.checkpointer.run,
            self.cycles.run, self.watchdog.run,
        ):  # fmt: skip
            self._spawn(run())

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

    async def leave(self) -> None:
        """At a stop, while everything runs: others write what we wrote before we are gone."""
        if self._failing is not None:
            return
        log.info("worker.leaving")
        HrwAssignor.weight = 0.0
        await self.ownership.hand_over()

    async def drain(self) -> None:
        """At a stop: nothing more is applied, so keep and publish what there is.

        Not after a failure: the records are read again from what was kept before it.
        """
        if self._failing is not None:
            return
        log.info("worker.draining")
        await self.checkpointer.save_all()
        await self.side_topics.flush()

    async def close(self) -> None:
        """After Faust has stopped: leases, heartbeat, probe."""
        await end_all(self._tasks)
        self._tasks.clear()
        self.watchdog.stop()
        await self.standby.stop()
        if self.streams is not None:
            await self.streams.flush()
        await self.ownership.stop()
        await self.insight.stop()
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

    # --- which symbols ---------------------------------------------------------------------------

    def _count_symbols(self) -> None:
        """Assignor and oversight share this."""
        self.symbols.clear()
        self.symbols.update(self.shards.partition_of.values())

    def _follow(self, followed: Followed) -> None:
        """Bridges follow these: have the group assign anew, which serves those we did not know."""
        self.merging.follow(followed.merges)
        new = self.shards.follow(followed.listings)
        if not new:
            return
        log.info("symbols.followed", symbols=new)
        self._count_symbols()
        self.assignments.follow_late(new)
        self.standby.lost(
            self.shards.warm_partitions() & {self.shards.partition_of[s] for s in new}
        )
        self._spawn(self._assign_anew())

    async def _assign_anew(self) -> None:
        while not self.assignments.complete:  # noqa: ASYNC110
            await asyncio.sleep(ASSIGN_ANEW_S)
        self.app.consumer.request_rejoin()

    def _seat_is_certain(self) -> bool:
        """Whether what we were assigned is at work, and ours for all that can be known."""
        return self.assignments.complete and bool(self.app.consumer.seat_is_certain())

    # --- leases ----------------------------------------------------------------------------------

    def _holds_any(self, partition: int) -> bool:
        return any(self.ownership.holds(s) for s in self.shards.symbols_of((partition,)))

    def _on_lease(self, symbol: str, gained: bool) -> None:
        event = "ownership.gained" if gained else "ownership.lost"
        ids = self.telemetry.tell(event, symbol=symbol, token=self.ownership.token(symbol))
        log.info(event, symbol=symbol, **ids._asdict())
        if gained:
            # What waits may be of long ago, and behind what another has written since.
            self._tick(symbol)
            self.cycles.now(symbol)
            return
        self.merging.lost(symbol)
        self.insight.lost(symbol)
        if self.shards.partition_of[symbol] not in self.ledger.partitions():
            self.cycles.refresh()
            self.metrics.drop_symbols((symbol,))
            self.standby.review()

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
        if await self.assignments.read_again(partition, batch):
            return
        outcome = self.insight.apply(batch)
        together.add(outcome)
        together.touched |= outcome.touched
        if outcome.failures:
            await self.dead_letters.keep(partition, outcome.failures)
            if self.ledger.generation != generation:
                return
            self.shards.release(partition)
        self.ledger.advance(partition, batch.to_offset)
        if self.assignments.complete:  # else it is the last of a flow that has stopped
            self.standby.flowing(partition, batch.to_offset)
        self.metrics.position[partition].set(batch.to_offset)
        self.merging.take(batch)
        if self.streams is not None:
            self._copy(self.streams, batch)

    async def _take_warm(self, batch: Batch) -> None:
        """Records beside the group's flow: of a warm partition, or of ours while that stands still."""
        partition = batch.partition
        outcome = self.insight.apply(batch)
        self.merging.take(batch)
        if partition not in self.ledger.partitions():
            # What is refused of another's partition is that node's to keep.
            self.metrics.warm(outcome)
        else:
            self.metrics.batch(outcome)
            if outcome.failures and self.assignments.complete:
                # The flow will skip them. Between two assignments it will not: whoever is given
                # the partition reads them again (`Shards.assign`).
                generation = self.ledger.generation
                await self.dead_letters.keep(partition, outcome.failures)
                if self.ledger.generation == generation:
                    self.shards.release(partition)
        for symbol in outcome.touched:
            if self.ownership.holds(symbol):
                self._tick(symbol)
            else:
                self.ownership.came_on(symbol)

    def _lost_track(self, partitions: Collection[int]) -> None:
        self.standby.lost(partitions)

    def _on_committed(self, offsets: Mapping[TP, int]) -> None:
        for tp, offset in offsets.items():
            # The last commit of a partition may come when it is another's already.
            if tp.partition in self.ledger.partitions():
                self.metrics.committed_offset[tp.partition].set(offset)
            self.vitals.committed(tp.partition, offset)

    def _copy(self, streams: RawStreams, batch: Batch) -> None:
        """Queue the listed symbols' events for their streams."""
        for key, values in batch.by_key.items():
            symbol = (key or b"").decode("ascii", "replace")
            if self.shards.partition_of.get(symbol) == batch.partition:
                for offset, value in values:
                    if value:
                        streams.put(symbol, self.shards.epoch, offset, value)

    def _copy_merged(self, symbol: str, token: int, value: bytes) -> None:
        if self.streams is not None:
            self.streams.put_merged(symbol, token, value)

    def _tick(self, symbol: str) -> None:
        engine = self.shards.engine(symbol)
        if engine is not None and engine.applied >= 0:
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
            "assigned": self.assignments.complete,
            "partitions": sorted(self.ledger.partitions()),
            "differences": self.oversight.found.by_kind(),
            "assigned_symbols": self.shards.symbols(),
            "warm_symbols": self.standby.ready(),
            "warming_symbols": self.standby.warming(),
            **watched,
        }
        return well, body
