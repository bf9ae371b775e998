"""Records in batches: Faust's consumer, but what a fetch brought comes as one event.

Stock Faust makes four asyncio tasks a record. Here the conductor, the stream and the agent see
one event for all that a fetch brought, a batch for each partition, and everything else stays
Faust's: assignor, changelogs, recovery, flow control, commits.

What it leans on inside faust-streaming 0.15 and aiokafka 0.14 is checked by
``tests/unit/agents/test_transport_internals.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from aiokafka.errors import ConsumerStoppedError
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.utils.futures import notify

from agents import pace
from agents.batches import Batch, batches_of
from agents.fetching import PacedFetcher, fetched_chunks
from agents.group import SeatedCoordinator
from agents.ledger import CommitLedger
from streams.chunks import Chunk

FETCH_WAIT_MS = 50
"""How long the broker may hold a fetch that finds nothing. Stock Faust says 1500: partitions
just resumed would stay silent for as long, as the fetch under way does not ask for them."""

STOP_SECONDS = 1.5
"""At a stop: longest wait for a broker, for the commit and for what is still to be sent."""

SEEKING_SECONDS = 0.05
"""Longest a fetch may last while partitions wait for their seek: it does not ask for them."""

RECORDS_MAX = pace.RECORDS_MAX
"""Records in one event, unless they are slow (`agents.pace`): applying them keeps everything else
waiting, some 8 ms at most."""

IDLE_SECONDS = 0.02
"""Pause while no partition is active. Stock Faust sleeps 1 s, in every rebalance."""


class BatchSchema(Schema):
    """Hands a batch through as it is: nothing is decoded before the engine looks at it."""

    def compile(self, app: Any, **_kwargs: Any) -> Any:
        """A decode function that decodes nothing."""

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with a short fetch wait, and chunks for the batch topics."""

    async def on_start(self) -> None:
        """Before it subscribes to anything, and so before it joins."""
        await super().on_start()
        consumer = self._ensure_consumer()
        SeatedCoordinator.seat(consumer)
        PacedFetcher.seat(consumer)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        if not self.consumer.flow_active or not active_partitions:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        asked = self.consumer.asked_generation

        def still_wanted() -> bool:
            # An assignment since then has sought, or will: what is taken behind its seek by a
            # call from before it would be delivered to nobody, and never again.
            now: int = self.consumer.app.consumer_generation_id
            return now == asked and bool(self.consumer.flow_active)

        with fetcher._subscriptions.fetch_context():
            return await fetched_chunks(
                fetcher,
                active_partitions,
                timeout or 0.0,
                max_records or RECORDS_MAX,
                self.consumer.batch_topics,
                still_wanted,
            )

    async def on_thread_stop(self) -> None:
        """Stop, also without a broker."""
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError:
            # aiokafka's fetcher cancels its own fetches and then awaits them; one that waits to
            # reconnect ends so. Let through, nobody would be told that the thread has ended.
            await self._ensure_consumer()._client.close()


class BatchProducer(driver.Producer):
    """Faust's producer, but it waits for nothing that need not be waited for."""

    async def flush(self) -> None:
        """Wait for what has been given to the broker's client by now; before each commit.

        Faust waits until nothing is left to be sent. Where hundreds of symbols are checkpointed
        that may be never, and no offset would be committed. It need not: the ledger lets only
        what acknowledged checkpoints cover be committed.
        """
        if self._producer is not None:
            await self._producer.flush()

    async def on_stop(self) -> None:
        """Send what waits, as far as the broker takes it in time."""
        producer = self._producer
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await super().on_stop()
        except TimeoutError:
            await producer._sender.close()
            await producer.client.close()


class BatchConsumer(driver.Consumer):
    """Delivers whole batches of some topics, and commits what the ledger allows.

    Attributes:
        batch_topics: Topics delivered in batches; others are delivered as Faust does.
        ledger: Decides the offsets to commit for them.
        traced: Whether batches tell which of their records are of sampled frames.
        asked_generation: The generation in which records were asked for last.
        busy_assigning: Partitions are being given up, or are assigned and not yet at work: what
            is in between is up to the group.
    """

    batch_topics: ClassVar[frozenset[str]] = frozenset()
    ledger: ClassVar[CommitLedger]
    traced: ClassVar[bool] = False
    busy_assigning = False
    asked_generation = 0
    _sought = False

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Before each assignment and at a stop."""
        tps = set(tps)
        super().pause_partitions(tps)
        if any(tp.topic in self.batch_topics for tp in tps):
            self._sought = False

    async def perform_seek(self) -> None:
        """To the committed offsets, at the end of each assignment."""
        await super().perform_seek()
        self._sought = True

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP]]:
        active = set(self._get_active_partitions())
        if not self._sought:
            # Recovery resumes partitions before it seeks: what is fetched in between would be
            # delivered once more behind the seek.
            active = {tp for tp in active if tp.topic not in self.batch_topics}
            timeout = SEEKING_SECONDS
        if not active:
            await self.sleep(IDLE_SECONDS)
            return {}, active
        return await self._getmany(active_partitions=active, timeout=timeout), active

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                # A rebalance from here on makes what comes back another generation's. It is
                # thrown away: recovery seeks to the committed offsets before the flow resumes.
                generation = self.asked_generation = self.app.consumer_generation_id
                records, active = await self._wait_next_records(timeout=1.0)
                await asyncio.sleep(0)
                for reached, message in self._messages(records or {}, active):
                    if not self.flow_active or self.app.consumer_generation_id != generation:
                        break
                    await self.wait_first(self.callback(message), self.suspend_flow.wait())
                    if self.flow_active:
                        self._read_offset.update(reached)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.transport.app.should_stop:
                raise

    def _messages(
        self, records: dict[TP, Any], active: set[TP]
    ) -> Iterator[tuple[dict[TP, int], Any]]:
        """Messages, each with the offsets it reaches."""
        chunks: list[tuple[TP, Chunk]] = []
        for tp, fetched in records.items():
            if not fetched or (tp not in active and tp not in self._buffered_partitions):
                continue
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if tp.topic in self.batch_topics:
                chunks.append((tp, fetched))
                continue
            for record in fetched:
                read = self._read_offset[tp]
                if read is None or record.offset >= read:
                    yield {tp: record.offset}, self._to_message(tp, record)
        for batches in _filled(chunks, self.ledger.pace.records_max, traced=self.traced):
            reached = {tp: batch.last_offset for tp, batch in batches}
            yield reached, self._batch_message(reached, [batch for _, batch in batches])

    def _batch_message(self, reached: dict[TP, int], batches: list[Batch]) -> Any:
        # To Faust it is a message of its last partition. The ledger knows of all of them.
        tp, offset = next(reversed(reached.items()))
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            offset,
            0.0,
            0,
            (),
            None,
            batches,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        batched = {TP(t, p) for t in self.batch_topics for p in self.ledger.partitions()}
        wanted: Iterable[TP] = batched | {tp for tp in self._acked if tp not in batched}
        return (tp for tp in wanted if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self.batch_topics:
            offset: int | None = super()._new_offset(tp)
            return offset
        # The compiled stream iterator adds each batch's last offset here; it is of no use, as
        # being through a batch says nothing about its being safe.
        self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        return self.ledger.committable(tp.partition)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        done: bool = await super()._commit(offsets)
        if done and self.app.on_committed is not None:
            self.app.on_committed(offsets)
        return done

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own complaints, of partitions that it can judge.

        It goes by times that batches do not keep, and by the last fetch: a table's changelog is
        read by nobody once it is recovered. From the fifth minute on it would write an error for
        each of them, every 2.5 s. `agents.watchdog` looks at what flows, and ends what stands.
        """
        if tp.topic not in self.batch_topics | self.app.tables.changelog_topics:
            super().verify_event_path(now, tp)

    def seat_is_certain(self) -> bool:
        """Whether the group has said lately that we are in it."""
        thread: Any = self._thread
        coordinator = getattr(getattr(thread, "_consumer", None), "_coordinator", None)
        return isinstance(coordinator, SeatedCoordinator) and coordinator.is_certain()

    def request_rejoin(self) -> None:
        """Have the group assign partitions anew."""
        thread: Any = self._thread
        coordinator = thread._ensure_consumer()._coordinator
        thread.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)

    async def wait_empty(self) -> None:
        """Nothing to wait for: what is not checkpointed is not committed, and is read again."""
        self._unacked_messages.clear()
        notify(self._waiting_for_ack)
        # Not asyncio.timeout: Faust's commit swallows a cancellation, and goes on.
        commit = asyncio.ensure_future(self.commit_and_end_transactions())
        done, _ = await asyncio.wait({commit}, timeout=STOP_SECONDS)
        if done:
            await commit
        else:
            commit.cancel()
            self.log.warning("No commit within %s s: it will be read again", STOP_SECONDS)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit first: Faust forgets its acks before it lets anybody commit them."""
        self.busy_assigning = True
        if self.app.on_flow_stopping is not None:
            self.app.on_flow_stopping()
        await self.commit()
        await super().on_partitions_revoked(revoked)
        self.busy_assigning = False

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Recovery follows, and ends in records that flow."""
        self.busy_assigning = True
        if self.app.on_seated is not None:
            self.app.on_seated()
        await super().on_partitions_assigned(assigned, generation_id)


def _filled(
    chunks: Iterable[tuple[TP, Chunk]], records_max: int, *, traced: bool = False
) -> Iterator[list[tuple[TP, Batch]]]:
    """Batches of at most so many records together, each unpacked when it is asked for.

    The chunks take turns: where records are slow, the last of many would wait for seconds, and its
    partition would seem to stand still.
    """
    filled: list[tuple[TP, Batch]] = []
    count = 0
    waiting = deque((tp, batches_of(chunk, records_max, traced=traced)) for tp, chunk in chunks)
    while waiting:
        tp, batches = waiting.popleft()
        batch = next(batches, None)
        if batch is None:
            continue
        if filled and count + len(batch) > records_max:
            yield filled
            filled, count = [], 0
        filled.append((tp, batch))
        count += len(batch)
        waiting.append((tp, batches))
    if filled:
        yield filled


class BatchTransport(driver.Transport):
    """The transport of a Tapeline worker."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer
    Producer: ClassVar[type[BatchProducer]] = BatchProducer
