"""The events topic read beside the group: what keeps engines going while the group does not.

A consumer group stops everybody whenever it assigns anew, and gives a partition to one member
only. So a second consumer, of no group, reads the partitions that this node keeps warm for another,
and, while the group assigns, those of its own. Both readers are contiguous, and an engine skips
what it has applied: whichever is ahead feeds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from agents.batches import Batch, batches_of
from agents.fetching import PacedFetcher, fetched_chunks
from agents.kafka_app import FETCH_BYTES
from agents.pace import Pace
from agents.transport import FETCH_WAIT_MS
from streams.chunks import Chunk
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

READ_S: Final = 0.2
RETRY_S: Final = 0.2

log = get_logger("tail")


class Tail:
    """Reads some partitions from given offsets on, for as long as they are wanted.

    Args:
        access: The brokers.
        client_id: What the broker knows the consumer by.
        topic: The events topic.
        take: Given each batch, in the order of its partition.
        lost: Told of partitions whose next record the broker no longer has; they are dropped.
        pace: How many records make one batch; known by what applies them.

    Attributes:
        traced: Whether batches tell which of their records are of sampled frames.
    """

    traced = False

    def __init__(
        self,
        access: KafkaAccess,
        client_id: str,
        topic: str,
        take: Callable[[Batch], Awaitable[None]],
        lost: Callable[[Collection[int]], None],
        pace: Pace,
    ) -> None:
        self._topic, self._take, self._lost, self._pace = topic, take, lost, pace
        self._make: Callable[[], Any] = lambda: AIOKafkaConsumer(
            **access.arguments(),
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._consumer: Any = None
        self._next: dict[int, int] = {}
        self._current: set[int] = set()
        self._changed = asyncio.Event()

    # --- what to read ----------------------------------------------------------------------------

    def feed(self, starts: Mapping[int, int]) -> None:
        """Read these partitions too, each from its offset; one that is read already goes on."""
        new = {p: offset for p, offset in starts.items() if p not in self._next}
        if new:
            self._next |= new
            self._change()

    def drop(self, partitions: Iterable[int]) -> None:
        """Read these no more; nothing of them is given from this call on."""
        gone = self._next.keys() & set(partitions)
        for partition in gone:
            del self._next[partition]
            self._current.discard(partition)
        if gone:
            self._change()

    def _change(self) -> None:
        """Have the reader look at what is wanted, at once: it may be waiting for records."""
        self._changed.set()
        if self._consumer is not None:
            fetcher = self._consumer._fetcher
            for waiter in list(fetcher._fetch_waiters):
                fetcher._notify(waiter)

    def fed(self) -> set[int]:
        """The partitions being read."""
        return set(self._next)

    def position(self, partition: int) -> int | None:
        """Next offset to be given; None of a partition that is not read."""
        return self._next.get(partition)

    def is_current(self, partition: int) -> bool:
        """Whether it has reached the partition's end since it began to read it."""
        return partition in self._current

    # --- reading ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read until cancelled; a broker that is away is waited for."""
        try:
            while True:
                try:
                    await self._run()
                except (KafkaError, OSError) as error:
                    log.warning("tail.broker_away", error=repr(error))
                    self._changed.set()  # what was read and not given is sought again
                    await asyncio.sleep(RETRY_S)
        finally:
            await self._close()

    async def _run(self) -> None:
        if self._consumer is None:
            consumer = self._make()
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            PacedFetcher.seat(consumer)
            self._consumer = consumer
            self._changed.set()
        while True:
            if self._changed.is_set():
                self._changed.clear()
                self._seek()
            if not self._next:
                await self._changed.wait()
                continue
            await self._read()

    def _seek(self) -> None:
        """Have the consumer read what is wanted, from where it is wanted."""
        consumer = self._consumer
        if not self._next:
            consumer._fetcher.want(frozenset())
            consumer.unsubscribe()
            return
        consumer.assign(self._tps(self._next))
        for partition, offset in self._next.items():
            consumer.seek(TopicPartition(self._topic, partition), offset)

    async def _read(self) -> None:
        tps = frozenset(self._tps(self._next))
        try:
            found = await fetched_chunks(
                self._consumer._fetcher,
                tps,
                READ_S,
                0,
                (self._topic,),
                lambda: not self._changed.is_set(),
            )
        except OffsetOutOfRangeError as error:
            gone = {tp.partition for tp in error.args[0]} & self._next.keys()
            log.warning("tail.out_of_range", partitions=sorted(gone))
            self.drop(gone)
            self._lost(gone)
            return
        for tp, chunk in found.items():
            if not isinstance(chunk, Chunk):
                continue
            for batch in batches_of(chunk, self._pace.records_max, traced=self.traced):
                # It may have been dropped, or begun anew elsewhere, while we were away.
                if self._next.get(tp.partition, batch.last_offset + 1) > batch.last_offset:
                    continue
                expected = self._next[tp.partition]
                if batch.from_offset > expected:
                    self._skipped(tp.partition, expected, batch.from_offset)
                    break
                await self._take(batch)
                if self._next.get(tp.partition) == expected:  # and not begun anew meanwhile
                    self._next[tp.partition] = batch.to_offset
                await asyncio.sleep(0)
        self._note_current(tps)

    def _skipped(self, partition: int, expected: int, got: int) -> None:
        """Records in between were read and not given: by a reading from before a change, mostly."""
        if not self._changed.is_set():
            log.warning("tail.skipped", partition=partition, expected=expected, got=got)
        self._changed.set()

    def _note_current(self, tps: Iterable[TopicPartition]) -> None:
        for tp in tps:
            position, end = self._next.get(tp.partition), self._consumer.highwater(tp)
            if position is not None and end is not None and position >= end:
                self._current.add(tp.partition)

    def _tps(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()
