"""What happens when the group assigns: engines become what they were, and go on in the right place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from faust.types import TP

from agents import positions
from agents.batches import Batch
from agents.checkpoints import Checkpointer
from agents.cycles import Cycles
from agents.ledger import CommitLedger
from agents.metrics import Metrics
from agents.ownership import Ownership
from agents.retirement import Retirement
from agents.shards import Shards
from agents.standby import Standby
from agents.stored import stored_of
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

LATE_MS: Final = 30_000
"""How far back a symbol is looked for that has come to be followed: further than the time between a
command and our knowing of it."""

log = get_logger("worker")


class Assignments:
    """Serves one assignment after another.

    Args:
        app: The Faust application.
        table: Where checkpoints are kept.
        settings: Of the worker.
        shards, ledger, ownership, standby, checkpointer, cycles, metrics, clock, retirement: Its
            parts.

    Attributes:
        complete: Whether what was assigned last is at work.
    """

    def __init__(
        self,
        app: Any,
        table: Any,
        settings: Settings,
        shards: Shards,
        ledger: CommitLedger,
        ownership: Ownership,
        standby: Standby,
        checkpointer: Checkpointer,
        cycles: Cycles,
        metrics: Metrics,
        clock: Clock,
        retirement: Retirement,
    ) -> None:
        self._app, self._table, self._settings = app, table, settings
        self._shards, self._ledger, self._ownership = shards, ledger, ownership
        self._standby, self._checkpointer, self._cycles = standby, checkpointer, cycles
        self._metrics, self._clock, self._retirement = metrics, clock, retirement
        self._access = KafkaAccess.of(settings)
        self._one_at_a_time = asyncio.Lock()
        self._starting_over = False
        self._starts: dict[int, int] = {}
        self._late: set[str] = set()
        self._expected: dict[int, int] = {}  # partitions sought again, and from where
        self._stops = self._seated = 0
        self.complete = False

    def flow_stops(self) -> None:
        """The group assigns anew: what is ours is fed beside it until it flows again.

        Also while the assignment before is still being restored, or waits for it. That one may not
        call itself complete then: states would be kept, under tokens that the next owner does not
        know of, of partitions that are that one's already, and its commits would go beyond them.
        """
        self._stops += 1
        self.complete = False
        positions_of = {p: self._position(p) for p in self._ledger.partitions()}
        self._standby.pause({p: at for p, at in positions_of.items() if at is not None})

    def seated(self) -> None:
        """The group has assigned: what is restored from now on is of this."""
        self._seated = self._stops

    def _position(self, partition: int) -> int | None:
        """Next offset that the group's flow would have given us."""
        position = self._ledger.position(partition)
        return self._starts.get(partition) if position is None else position

    async def restore(self) -> None:
        """Tables are recovered, and nothing flows yet: make the engines what they were.

        One at a time: an assignment may come while the one before it still looks at the topic,
        and both would find it recreated.
        """
        async with self._one_at_a_time:
            await self._restore()

    async def _restore(self) -> None:
        topic, shards, seated = self._settings.events_topic, self._shards, self._seated
        before = set(shards.symbols())
        assigned = {tp.partition for tp in self._app.consumer.assignment() if tp.topic == topic}
        stored = stored_of(self._table.data.data.items(), shards.partition_of)
        await self._ownership.load_epoch(topic)
        # A Redis that was wiped has forgotten the epoch; the checkpoints have not.
        shards.epoch = max(shards.epoch, stored.epoch())
        outcome = shards.assign(assigned, stored.newest())
        self._expected.clear()
        self._standby.restart(outcome.replaced)
        refused = stored.unreadable | outcome.refused
        for symbol, error in refused.items():
            log.warning("snapshot.discarded", symbol=symbol, error=str(error))
        rebuilt = {shards.partition_of[s] for s in refused if not self._has_state(s)}
        await self._check_positions(topic, assigned, rebuilt & assigned)
        await self._look_back(topic, assigned - rebuilt)
        self._starting_over = False
        self._checkpointer.set_symbols(stored.tokens)
        self._retirement.assigned(stored.unlisted)
        await self._ownership.assigned({s: max(t) for s, t in stored.tokens.items()})
        if not self._stops == self._seated == seated:
            log.info("assignment.superseded", partitions=len(assigned))
            return
        standbys = self._app.assignor.standbys
        self._standby.assigned(assigned, standbys)
        self._metrics.warm_partitions.set(len(standbys))
        self._cycles.refresh()
        self._metrics.hrw_rebalances.inc()
        # What is held on to until another has taken it is told of until then.
        self._metrics.assigned(assigned, {*shards.symbols(), *self._ownership.owned()})
        self.complete = True
        log.info("rebalance_triggered", partitions=len(assigned), symbols=shards.symbols())
        self._log_changes(before, set(shards.symbols()))

    def _log_changes(self, before: set[str], after: set[str]) -> None:
        """One line a symbol that came or went; a lag is how far its state is behind now."""
        now_ms = self._clock.now_ms()
        for symbol in sorted(after - before):
            engine = self._shards.engine(symbol)
            newest_ms = engine.newest_ms if engine is not None else 0
            log.info(
                "symbol_assigned", symbol=symbol, lag_ms=now_ms - newest_ms if newest_ms else None
            )
        for symbol in sorted(before - after):
            log.info("symbol_dropped", symbol=symbol, lag_ms=None)

    def _has_state(self, symbol: str) -> bool:
        engine = self._shards.engine(symbol)
        return engine is not None and engine.applied >= 0

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
        consumer = self._app.consumer
        tps = {TP(topic, partition) for partition in assigned}
        # Before the ends: they may be fed on meanwhile.
        applied = {p: self._applied(p) for p in assigned}
        ends = {tp.partition: at for tp, at in (await consumer.highwaters(*tps)).items()}
        suspects = positions.recreated(applied, ends)
        gone: set[int] = set()
        if suspects:
            gone = await positions.confirm_recreated(
                self._access, topic, {p: applied[p] for p in suspects}
            )
            if gone:
                await self._topic_recreated(topic, gone)
        committed = await consumer.seek_to_committed()
        self._starts = {tp.partition: at for tp, at in committed.items() if at}
        # seek_to_committed answers None or 0 where nothing is committed, and stays where it is: in
        # a rebalance that is behind records which were fetched and thrown away.
        fresh = {p for p in assigned if not committed.get(TP(topic, p))}
        if gone:
            # A commit of the old offsets may have come after the deletion, which removed them.
            fresh = assigned
        # Most of a topic's partitions may never have had a record: there is nothing to look up.
        empty = {p for p in fresh if ends.get(p) == 0 and applied[p] < 0} - rebuilt
        if empty:
            await consumer.seek_wait({TP(topic, p): 0 for p in empty})
        fresh -= empty
        if fresh or rebuilt:
            start = await positions.warm_up_offsets(
                self._access, topic, fresh | rebuilt, self._clock.now_ms()
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
                self._starts |= {tp.partition: at for tp, at in offsets.items()}

    def follow_late(self, symbols: Iterable[str]) -> None:
        """Symbols have come to be followed: at the next assignment, what has been read of their
        partitions without them is read again.
        """
        self._late |= set(symbols)

    async def _look_back(self, topic: str, assigned: set[int]) -> None:
        """Read again what came just before we knew of a symbol. Other symbols skip it."""
        late = {s for s in self._late if not self._has_state(s)}
        partitions = {self._shards.partition_of[s] for s in late} & assigned
        self._late.clear()
        if not partitions:
            return
        since_ms = self._clock.now_ms() - LATE_MS
        found = await positions.offsets_since(self._access, topic, partitions, since_ms)
        consumer = self._app.consumer
        offsets: dict[TP, int] = {}
        for partition, offset in found.items():
            tp = TP(topic, partition)
            if offset < (await consumer.position(tp) or 0):
                offsets[tp] = offset
        if offsets:
            await consumer._commit(offsets)
            await consumer.seek_wait(offsets)
            self._starts |= {tp.partition: at for tp, at in offsets.items()}

    def _applied(self, partition: int) -> int:
        """Highest offset that any engine of the partition has applied."""
        engines = (self._shards.engine(s) for s in self._shards.symbols_of((partition,)))
        return max((engine.applied for engine in engines if engine is not None), default=-1)

    async def _topic_recreated(self, topic: str, partitions: set[int]) -> None:
        """Offsets have started over: states and watermarks of before mean nothing now."""
        epoch = await self._ownership.raise_epoch(topic)
        log.error("topic.recreated", topic=topic, partitions=sorted(partitions), epoch=epoch)
        self._standby.restart(self._ledger.partitions())
        self._standby.lost(self._shards.warm_partitions())
        for symbol in self._shards.symbols():
            self._shards.discard(symbol)
        self._metrics.engine_events.labels("topic_recreated").inc()

    # --- between assignments -----------------------------------------------------------------------

    async def read_again(self, partition: int, batch: Batch) -> bool:
        """Whether a batch is to be left: all of it is read again.

        Records before it were read and not given, or the topic was created anew under us: deleted
        and created between two looks at its metadata, it has caused no rebalance; so one is asked
        for, which sees to it.
        """
        if self._starting_over:
            return True
        position = self._position(partition)
        if position is None:
            return False
        if batch.from_offset > position:
            return await self._skipped(partition, position, batch.from_offset)
        self._expected.pop(partition, None)
        position = self._ledger.position(partition)
        offset = batch.first_offset
        if position is None or offset >= position:
            return False
        topic = self._settings.events_topic
        gone = await positions.confirm_recreated(self._access, topic, {partition: position - 1})
        if gone:
            log.warning("offsets.stepped_back", partition=partition, offset=offset, was=position)
            self._starting_over = True
            self._app.consumer.request_rejoin()
        return bool(gone)

    async def _skipped(self, partition: int, position: int, offset: int) -> bool:
        """Whether the flow is sought back to ``position``: it goes on at ``offset``, and the records
        in between are still there. Then what comes until it is back is left.
        """
        if partition in self._expected:
            return offset > self._expected[partition]
        tp = TP(self._settings.events_topic, partition)
        consumer, generation = self._app.consumer, self._ledger.generation
        begins = (await consumer.earliest_offsets(tp)).get(tp) or 0
        if offset <= begins:
            return False  # what is missing has expired
        log.error("records.skipped", partition=partition, expected=position, got=offset)
        self._metrics.engine_events.labels("sought_again").inc()
        if self._ledger.generation == generation:
            self._expected[partition] = max(position, begins)
            await consumer.seek_wait({tp: self._expected[partition]})
        return True
