"""Empties the outbox into the events topic: in order per partition, each record once.

aiokafka numbers an idempotent producer's batches and repeats an unanswered one under its number,
so the broker drops the copy. That holds as long as the producer lives. What its source (0.14)
leaves to us:

1. A batch whose partition has no known leader expires after ``request_timeout_ms`` even though
   batches of idempotent producers are said never to, and its number is gone: each later batch of
   the partition is out of sequence. A restarted broker has a moment without leaders. So batches
   are given no expiry here; how long to keep trying is the outbox's to say.
2. After an error that can't be retried (out of sequence, fenced, refused) the numbers of that
   partition are useless. The producer is replaced then, and what the broker has not acknowledged
   is sent again under the new one's numbers. That may write records twice, if the answer got lost
   and not the request: a reader knows them by their ``feed.seq``.
3. One batch a partition is in flight at a time, and handed over only when its predecessor was
   acknowledged: the order holds across both.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    RecordListTooLargeError,
    UnknownError,
)

from streams.feeds import OutRecord, Traced
from streams.outbox import LostLine, Outbox
from streams.topics import PartitionCountError
from tapeline.errors import TopicError
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

BATCH_BYTES: Final = 512 * 1024
"""Brokers refuse batches over 1 MB by default; a batch always takes its first record."""

LINGER_S: Final = 0.003
"""Records that come within this time share a request."""

REQUEST_TIMEOUT_MS: Final = 10_000
"""After this a connection counts as dead and another leader may be asked."""

START_TIMEOUT_S: Final = 15.0
RETRY_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
RETIRE_S: Final = 2.0
"""How long a producer that is being replaced may still bring its other batches home."""

STEADY_S: Final = 5.0
"""A producer that lived this long was a good one: the next is started without a wait."""

IDEMPOTENCE_ATTEMPTS: Final = 3

_NEVER_S: Final = 1e9
_REFUSED: Final = (MessageSizeTooLargeError, RecordListTooLargeError, CorruptRecordException)

log = get_logger("kafka_writer")

_Acknowledged = asyncio.Future[Any]


class KafkaWriter:
    """Owns the producer.

    Attributes:
        connected: Whether a producer is in use, as far as anybody can tell.
        idempotent: False on a broker that knows no producer ids (Tansu): a batch whose answer was
            lost is then written twice.
        replaced: Producers replaced, by what made them unusable.
        refused: Records given up because the broker will never take them.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        access: KafkaAccess,
        topic: str,
        partitions: int,
        client_id: str,
        on_lost: Callable[[set[LostLine], str], None],
    ) -> None:
        """Nothing is opened yet.

        Args:
            outbox: What to write.
            access: The brokers.
            topic: The events topic.
            partitions: How many it must have.
            client_id: As seen by the broker.
            on_lost: Called with lines that have lost records, and the reason.
        """
        self.connected = False
        self.idempotent = True
        self.replaced: dict[str, int] = {}
        self.refused = 0
        self._outbox = outbox
        self._access, self._topic, self._partitions = access, topic, partitions
        self._client_id = client_id
        self._on_lost = on_lost
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._session: _Session | None = None

    def wake(self) -> None:
        """There are records in the outbox."""
        self._wake.set()

    async def drained(self, to_bytes: int = 0) -> None:
        """Wait until the outbox holds at most this much."""
        while self._outbox.bytes > to_bytes:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            PartitionCountError: The topic has another number of partitions than was said.
        """
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started_s = loop.time()
            try:
                session = await self._open()
            except PartitionCountError:
                raise
            except (KafkaError, OSError, TimeoutError, TopicError) as exc:
                failures += 1
                log.warning(
                    "broker.unavailable",
                    servers=[*self._access.servers],
                    topic=self._topic,
                    error=str(exc) or type(exc).__name__,
                    attempt=failures,
                    buffered=self._outbox.depth,
                )
                if self._downgrade(exc, failures):
                    failures = 0
            else:
                log.info(
                    "broker.connected",
                    servers=[*self._access.servers],
                    idempotent=self.idempotent,
                )
                why = await self._serve(session)
                self.replaced[why] = self.replaced.get(why, 0) + 1
                failures = 0 if loop.time() - started_s > STEADY_S else failures + 1
                log.error("broker.producer_replaced", error=why, buffered=self._outbox.depth)
            ceiling_s = min(RETRY_S * 2 ** min(failures, 10), RETRY_MAX_S)
            await asyncio.sleep(random.uniform(ceiling_s / 2, ceiling_s))

    def _downgrade(self, exc: Exception, failures: int) -> bool:
        """Tansu answers the request for a producer id with an unknown error, each time."""
        refused = isinstance(exc, UnknownError) and failures >= IDEMPOTENCE_ATTEMPTS
        if refused and self.idempotent:
            self.idempotent = False
            log.warning("broker.not_idempotent", error=str(exc))
            return True
        return False

    async def _open(self) -> _Session:
        producer = _producer(self._access, self._client_id, idempotent=self.idempotent)
        session = _Session(producer)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await producer.start()
                # Of all topics: asked about one by name, some brokers create it.
                cluster = await producer.client.fetch_all_metadata()
                found = cluster.partitions_for_topic(self._topic)
                if not found:
                    raise TopicError(f"no topic {self._topic}: run `tapeline topics apply`")
                if len(found) != self._partitions:
                    raise PartitionCountError(self._topic, self._partitions, len(found))
                await producer.client.add_topic(self._topic)
        except BaseException:
            await _abandon(producer, 0)
            raise
        return session

    async def _serve(self, session: _Session) -> str:
        """Write with one producer until it can't be used any more; returns why."""
        self._session = session
        self.connected = True
        try:
            self._wake.set()
            while not session.failure:
                await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(LINGER_S)
                for partition in self._outbox.ready():
                    if not await self._send(session, partition):
                        break
            return session.failure
        finally:
            self.connected = False
            await _abandon(session.producer, RETIRE_S)
            self._session = None
            for partition in [*session.in_flight]:
                self._failed(partition)

    async def _send(self, session: _Session, partition: int) -> bool:
        batch = session.producer.create_batch()
        count = 0
        traces: list[Traced] = []
        for record in self._outbox.waiting(partition):
            traced = record.traced
            if traced is None:
                added = batch.append(key=record.key, value=record.value, timestamp=None)
            else:
                added = batch.append(
                    key=record.key, value=record.value, timestamp=None, headers=traced.headers
                )
            if added is None:
                break
            if traced is not None:
                traces.append(traced)
            count += 1
        self._outbox.taken(partition, count)
        session.in_flight.add(partition)
        try:
            future: _Acknowledged = await session.producer.send_batch(
                batch, self._topic, partition=partition
            )
        except (KafkaError, AssertionError) as exc:
            session.in_flight.discard(partition)
            self._failed(partition)
            session.fail(exc)
            return False
        future.add_done_callback(partial(self._settled, session, partition, traces))
        return True

    def _settled(
        self, session: _Session, partition: int, traces: list[Traced], future: _Acknowledged
    ) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if self._session is not session:
            return  # given up already: its records went back to the outbox
        session.in_flight.discard(partition)
        if error is None:
            self._outbox.acknowledge(partition)
            for traced in traces:
                traced.arrived()
        elif isinstance(error, _REFUSED):
            self._give_up(self._outbox.refuse(partition), error)
            session.fail(error)
        else:
            self._failed(partition)
            session.fail(error)
        self._moved.set()
        self._wake.set()

    def _failed(self, partition: int) -> None:
        lost = self._outbox.fail(partition)
        if lost:
            self._on_lost(lost, "broker_outage")
        self._moved.set()

    def _give_up(self, record: OutRecord | None, error: BaseException) -> None:
        if record is None:
            return
        self.refused += 1
        log.error(
            "record.refused",
            symbol=record.symbol,
            kind=record.kind,
            bytes=len(record.value),
            error=str(error),
        )
        self._on_lost({LostLine(record.venue, record.symbol)}, "record_refused")


class _Session:
    """One producer's life.

    Attributes:
        in_flight: Partitions with a batch that is not settled.
        failure: Why the producer can't be used any more; empty while it can.
    """

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.in_flight: set[int] = set()
        self.failure = ""

    def fail(self, error: BaseException) -> None:
        # A producer that is being closed fails what it still holds: that is not the reason.
        if not self.failure and not isinstance(error, ProducerClosed):
            self.failure = type(error).__name__


def _producer(access: KafkaAccess, client_id: str, *, idempotent: bool) -> Any:
    producer = AIOKafkaProducer(
        **access.arguments(),
        client_id=client_id,
        acks="all",
        enable_idempotence=idempotent,
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        retry_backoff_ms=100,
    )
    # There is no argument for it: the constructor uses request_timeout_ms for both.
    producer._message_accumulator._batch_ttl = _NEVER_S
    return producer


async def _abandon(producer: Any, grace_s: float) -> None:
    """Close a producer in bounded time, whatever state the broker is in.

    `AIOKafkaProducer.stop` waits until the last batch was delivered, which on a dead broker is for
    ever. So what is left after ``grace_s`` is failed, and the connections are closed under it.
    """
    stopping = asyncio.ensure_future(producer.stop())
    try:
        if grace_s:
            await asyncio.wait([stopping], timeout=grace_s)
    finally:
        if not stopping.done():
            producer._message_accumulator.fail_all(ProducerClosed())
            with contextlib.suppress(Exception):
                await producer.client.close()
            await asyncio.wait([stopping], timeout=1.0)
        if not stopping.done():
            stopping.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await stopping
