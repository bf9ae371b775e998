"""Reading a range of the events topic: no group, nothing committed, bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.chunks import Chunk, fetched_records
from streams.topics import admin_of, partition_counts
from tapeline.errors import TopicError
from tapeline.kafka_access import KafkaAccess, Where

FETCH_MS: Final = 500
STALL_S: Final = 30.0
"""Without any record, though there should be some."""

PARTITION_BYTES: Final = 262_144
"""Fetched ahead of one partition: what memory is bounded by."""


class OutOfRange(TopicError):
    """The topic does not hold what was to be read: not any more, or not yet."""


class Span(NamedTuple):
    """Offsets of one partition, from ``begin`` up to but without ``end``."""

    begin: int
    end: int


class TopicReader:
    """A consumer of given partitions; an async context manager.

    Attributes:
        topic: Which topic.
        partitions: How many it has.
        left: Partitions of `open` that are not read to their end yet.
    """

    def __init__(self, where: Where, topic: str) -> None:
        self.topic = topic
        self.partitions = 0
        self.left: set[int] = set()
        self._access = KafkaAccess.of(where)
        self._spans: dict[int, Span] = {}
        self._stalled_s = 0.0
        self._consumer = AIOKafkaConsumer(
            **self._access.arguments(),
            enable_auto_commit=False,
            # What retention has removed meanwhile must be said, not skipped.
            auto_offset_reset="none",
            max_partition_fetch_bytes=PARTITION_BYTES,
        )

    async def __aenter__(self) -> Self:
        """Raises TopicError where no broker answers, or it has no such topic."""
        try:
            async with admin_of(self._access) as admin:
                counts = await partition_counts(admin)
            if self.topic not in counts:
                raise TopicError(f"the broker has no topic {self.topic} (NT_EVENTS_TOPIC)")
            self.partitions = counts[self.topic]
            await self._consumer.start()
        except KafkaError as error:
            await self._consumer.stop()
            raise TopicError(f"broker of {self.topic} does not answer: {error}") from error
        except BaseException:
            await self._consumer.stop()  # made, though never started: it would complain at its end
            raise
        # A consumer stopped before its tasks have begun would raise their cancellation.
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._consumer.stop()

    async def held(self, partitions: Iterable[int]) -> dict[int, Span]:
        """What the topic holds now."""
        tps = self._tps(partitions)
        begins = await self._consumer.beginning_offsets(tps)
        ends = await self._consumer.end_offsets(tps)
        return {tp.partition: Span(begins[tp], ends[tp]) for tp in tps}

    async def first_since(self, partitions: Iterable[int], time_ms: int) -> dict[int, int | None]:
        """First offset whose record was written at ``time_ms`` or later; None without one.

        By Kafka's own times, which are those of writing: no record received at ``time_ms`` or
        later lies before it.
        """
        tps = self._tps(partitions)
        found = await self._consumer.offsets_for_times(dict.fromkeys(tps, max(0, time_ms)))
        return {tp.partition: at.offset if (at := found.get(tp)) else None for tp in tps}

    async def first_from(
        self, partition: int, span: Span, patience_s: float = STALL_S
    ) -> Any | None:
        """The first record of a span; None where none is there or comes. Ends any reading."""
        self.open({partition: span})
        try:
            async with asyncio.timeout(patience_s):
                while self.left:
                    for records in (await self.read()).values():
                        return records[0]
        except (TimeoutError, OutOfRange):
            pass
        return None

    def open(self, spans: Mapping[int, Span]) -> None:
        """Begin to read; whatever was being read is given up."""
        self._spans = {p: span for p, span in spans.items() if span.begin < span.end}
        self.left = set(self._spans)
        self._consumer.assign(self._tps(self._spans))
        for partition, span in self._spans.items():
            self._consumer.seek(TopicPartition(self.topic, partition), span.begin)
        self._stalled_s = 0.0

    def drop(self, partition: int) -> None:
        """No more is wanted of a partition."""
        self.left.discard(partition)

    async def read(self, partitions: Collection[int] | None = None) -> dict[int, list[Any]]:
        """The next records, by partition, of those named or of all that are left; maybe none yet.

        Each has ``offset``, ``key``, ``value`` and ``timestamp``; of a partition they are as many
        as one fetch brings (`PARTITION_BYTES`).

        Raises:
            OutOfRange: Retention has overtaken the reading.
            TopicError: Nothing comes any more.
        """
        wanted = self.left if partitions is None else self.left.intersection(partitions)
        began_s = asyncio.get_running_loop().time()
        try:
            answer = await fetched_records(
                self._consumer._fetcher, self._tps(wanted), FETCH_MS / 1000, 0, (self.topic,)
            )
        except OffsetOutOfRangeError as error:
            raise OutOfRange(
                f"{self.topic} no longer holds what was to be read: retention has removed it "
                f"({', '.join(f'{tp.partition}@{at}' for tp, at in error.args[0].items())})"
            ) from None
        except KafkaError as error:
            raise TopicError(f"reading {self.topic}: {error!r}") from error
        found: dict[int, list[Any]] = {}
        for tp, chunk in answer.items():
            end = self._spans[tp.partition].end
            records = list(chunk.records()) if isinstance(chunk, Chunk) else chunk
            while records and records[-1].offset >= end:
                records.pop()
            if records:
                found[tp.partition] = records
        await self._settle(wanted)
        # Only the time spent asking counts: whoever reads may pause for as long as it likes.
        now_s = asyncio.get_running_loop().time()
        self._stalled_s = 0.0 if answer or not self.left else self._stalled_s + now_s - began_s
        if self._stalled_s > STALL_S:
            raise TopicError(
                f"no record of {self.topic} within {STALL_S:g} s; does the broker live?"
            )
        return found

    async def _settle(self, wanted: Collection[int]) -> None:
        for partition in list(wanted):
            # Not by the last record: offsets may end in one that no consumer is given.
            position = await self._consumer.position(TopicPartition(self.topic, partition))
            if position >= self._spans[partition].end:
                self.left.discard(partition)

    def _tps(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self.topic, partition) for partition in partitions]
