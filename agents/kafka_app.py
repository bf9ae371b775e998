"""The Faust application: its settings, its one topic, its table, its transport."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, Final

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from yarl import URL

from agents.assignor import HrwAssignor, url_of
from agents.eviction import client_id
from agents.ledger import COMMIT_PERIOD_MS, CommitLedger
from agents.store import EngineTable
from agents.transport import BatchConsumer, BatchSchema, BatchTransport
from tapeline.config import Settings
from tapeline.errors import ConfigError, TapelineError, TopicError
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger, logging_config

TABLE_NAME: Final = "engine"

HEARTBEATS_PER_SESSION: Final = 20
REBALANCE_TIMEOUT_S: Final = 10.0
KEEP_S: Final = 3.0
"""At a stop: longest wait for the last checkpoints and the last commit."""

REQUEST_TIMEOUT_S: Final = 20.0
"""At least; never below the session timeout, which Faust refuses."""

METADATA_AGE_MS: Final = 3_000
"""Between two looks at the topics there are. Stock Faust looks every five minutes: where the
events topic was deleted and created again, it would be without work for as long."""

FETCH_BYTES: Final = 384 * 1024
"""Most that one fetch brings of a partition, but for a record that is larger by itself. With more,
a worker that catches up on hundreds of partitions would come round to each of them too seldom."""

BATCH_RECORDS: Final = 2000
QUEUED_BATCHES: Final = 16
"""Batches that may wait for the agent; with 2,000 records each, some 10 MB."""

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2

log = get_logger("worker")


class _BootStrategy(faust.App.BootStrategy):
    """Never Faust's own web server: it would take port 6066 whatever ``web_enabled`` says."""

    enable_web = False


class CurrentRecovery(Recovery):
    """Recovery of which an overtaken run ends nothing of the run that overtook it.

    Faust leaves the end of a recovery running while the next one starts, and lets it say that
    recovery has ended: the next one then waits for ever for records that nobody counts.

    And one that reads on where the store's knowledge ends, not where an earlier recovery did.
    """

    def _add(self, table: Any, tp: TP, offsets: Any) -> None:
        self.tp_to_table[tp] = table
        offsets[tp] = table.persisted_offset(tp)

    async def _build_offsets(
        self, consumer: Any, tps: set[TP], destination: Any, title: str
    ) -> None:
        for tp in tps:
            known, end = destination[tp], self.active_highwaters.get(tp)
            if title == "active" and known is not None and end is not None and known > end:
                log.warning("changelog.recreated", partition=tp.partition, known=known, end=end)
                self._forget(tp)
                destination[tp] = None
        known_before = {tp: destination[tp] for tp in tps}
        await super()._build_offsets(consumer, tps, destination, title)
        for tp, known in known_before.items():
            if known is not None and destination[tp] > known:
                # What lies between is no longer there, and neither is what we hold of before.
                log.warning("changelog.cut_off", partition=tp.partition, known=known)
                self._forget(tp)

    def _forget(self, tp: TP) -> None:
        self.tp_to_table[tp].data.forget(tp.partition)

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Tables are recovered: restore what is made of them, then resume."""
        app = self.app
        if app.consumer_generation_id == generation_id:
            self.flush_buffers()
            for table, tps in self.actives_for_table.items():
                read = {tp: self.active_offsets[tp] for tp in tps}
                table.data.recovered({tp: at for tp, at in read.items() if at is not None})
                log.info(
                    "changelog.read", partitions=len(tps), records_total=table.data.records_read
                )
        # Of a generation that is past, nothing is restored: the recovery of the next one comes.
        if app.consumer_generation_id == generation_id and app.on_recovered is not None:
            await app.on_recovered()
        if app.consumer_generation_id == generation_id:
            await super().on_recovery_completed(generation_id)


class PromptTableManager(TableManager):
    """Starts recovery at once: Faust's waits 1 s, for agents that may add tables. Ours do not."""

    _recovery: CurrentRecovery | None = None

    @property
    def recovery(self) -> CurrentRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = CurrentRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Register the table's changelog, then recover."""
        await self._update_channels()
        await self.recovery.start()

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        """What the last recovery has read belongs in the store before the store forgets."""
        self.recovery.flush_buffers()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)


class TapelineWorker(faust.Worker):
    """Faust's worker, but what keeps it from starting is one line and an exit status.

    Attributes:
        exit_status: 2 where settings or topics are wrong, so that nobody restarts it in vain;
            1 for another refusal; 0 leaves it to Faust.
    """

    exit_status = 0

    async def start(self) -> None:
        """Start, and stay until stopped."""
        try:
            await super().start()
        except TapelineError as error:
            wrong = isinstance(error, ConfigError | TopicError)
            self.exit_status = EXIT_USAGE if wrong else EXIT_FAILURE
            log.error("worker.refused", reason=type(error).__name__, error=str(error))

    def carp(self, msg: str) -> None:
        """A word to the operator is a log line like all others."""
        log.info("worker.told", said=msg)

    async def _sentinel_task(self) -> None:
        """What the loop runs last, and by mode's own wish for a second.

        Everything has been stopped and awaited by then: it would only keep a rolling restart
        waiting.
        """

    def execute_from_commandline(self) -> None:
        """Run to the end, and leave the process."""
        try:
            super().execute_from_commandline()
        except SystemExit as leaving:
            raise SystemExit(self.exit_status or leaving.code) from None


class TapelineApp(faust.App):
    """A Faust application whose consumer delivers batches.

    Attributes:
        ledger: Decides which offsets are committed.
        on_prelude: Awaited at the start, before the group is joined.
        on_recovered: Awaited at each assignment after tables are recovered, before records flow.
        on_flow_stopping: Told before partitions are given up, at each assignment.
        on_seated: Told when partitions are given, before they are recovered.
        on_leaving: Awaited at a stop while everything still runs.
        on_draining: Awaited at a stop after the flow has ended, before offsets are committed.
        on_closing: Awaited at a stop after offsets are committed.
        on_committed: Told of offsets committed.
        on_agent_failed: Told of an exception that an agent did not catch.
    """

    BootStrategy = _BootStrategy

    ledger: CommitLedger
    on_prelude: Any = None
    on_recovered: Any = None
    on_flow_stopping: Any = None
    on_seated: Any = None
    on_leaving: Any = None
    on_draining: Any = None
    on_closing: Any = None
    on_committed: Any = None
    on_agent_failed: Any = None

    def _new_transport(self) -> Any:
        return BatchTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """None: state is in memory and in the changelog, never in a working folder."""

    async def on_start(self) -> None:
        """Before any service of Faust's starts."""
        if self.on_prelude is not None:
            await self.on_prelude()
        await super().on_start()

    async def stop(self) -> None:
        """Others take over first; then Faust stops."""
        if (
            self.on_leaving is not None
            and not self._stopped.is_set()
            and not self._crashed.is_set()
        ):
            leaving, self.on_leaving = self.on_leaving, None
            await leaving()
        await super().stop()

    async def on_stop(self) -> None:
        """Faust drains and commits; then what lives beside it may go.

        Without a broker neither ends: what was not kept is then read again by the next start.
        """
        try:
            async with asyncio.timeout(KEEP_S):
                await super().on_stop()
        except TimeoutError:
            log.warning("worker.stop_cut_short", seconds=KEEP_S)
        if self.on_closing is not None:
            await self.on_closing()

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        # Faust would commit, and start the agent anew behind the batch that failed.
        if self.on_agent_failed is not None:
            self.on_agent_failed(exc)

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        if self.should_stop and self.on_draining is not None:
            await self.on_draining()
        await super()._consumer_wait_empty(consumer, logger)


def credentials_of(access: KafkaAccess) -> Any:
    """What Faust makes its own clients with; None for plain text and no user."""
    context = access.tls()
    if access.sasl:
        return faust.SASLCredentials(
            username=access.username,
            password=access.password.get_secret_value(),
            mechanism=access.mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def create_kafka_app(
    settings: Settings, ledger: CommitLedger, symbols: Counter[int]
) -> tuple[TapelineApp, Any, Any]:
    """The application, its events topic and its table.

    Args:
        settings: Of the worker.
        ledger: Decides which offsets are committed.
        symbols: How many listed symbols each partition has.
    """
    access = KafkaAccess.of(settings)
    BatchConsumer.batch_topics = frozenset({settings.events_topic})
    BatchConsumer.ledger = ledger
    HrwAssignor.node_id = settings.node_id
    HrwAssignor.weight = settings.node_weight
    HrwAssignor.started_ms = time.time_ns() // 1_000_000
    HrwAssignor.sticky_pct = settings.hrw_sticky_pct
    HrwAssignor.symbols = symbols
    HrwAssignor.events_topic = settings.events_topic
    app = TapelineApp(
        settings.suffixed(settings.app_id),
        broker=[URL(f"kafka://{server}") for server in access.servers],
        broker_credentials=credentials_of(access),
        store="memory://",
        origin="agents",
        autodiscover=False,
        version=1,
        web_enabled=False,
        # Never opened: members are told apart by it.
        canonical_url=URL(url_of(settings.node_id)),
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=settings.partitions,
        broker_client_id=client_id(settings.node_id),
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 1000 / HEARTBEATS_PER_SESSION,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
        broker_request_timeout=max(REQUEST_TIMEOUT_S, settings.session_timeout_ms / 1000),
        broker_commit_interval=COMMIT_PERIOD_MS / 1000,
        broker_max_poll_records=BATCH_RECORDS,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
        consumer_connections_max_idle_ms=540_000,
        consumer_metadata_max_age_ms=METADATA_AGE_MS,
        producer_acks=-1,
        producer_max_request_size=1_000_000,
        producer_linger_ms=5,
        stream_buffer_maxsize=QUEUED_BATCHES,
        stream_wait_empty=True,
        stream_recovery_delay=0.0,
        table_standby_replicas=0,
        Table=EngineTable,
        PartitionAssignor=HrwAssignor,
        TableManager=PromptTableManager,
        Worker=TapelineWorker,
        logging_config=logging_config(settings.log_level),
        worker_redirect_stdouts=False,
    )
    app.ledger = ledger
    topic = app.topic(
        settings.events_topic,
        schema=BatchSchema(),
        partitions=settings.partitions,
        internal=True,
    )
    table = app.Table(
        TABLE_NAME,
        key_type=bytes,
        value_type=bytes,
        partitions=settings.partitions,
        recovery_buffer_size=64,
        standby_buffer_size=1,
        help="Newest checkpoint of each symbol's engine",
    )
    return app, topic, table
