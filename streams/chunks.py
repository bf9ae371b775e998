"""Fetched records as the broker sent them: unpacked where they are used, not where they arrive.

aiokafka unpacks record by record, into objects of eleven fields. That is more work than applying
them. Here a fetch comes as whole chunks, whose records are unpacked as they are asked for, into
aiokafka's own C records of the four fields that matter.

What it leans on inside aiokafka 0.14 is checked by
``tests/unit/agents/test_transport_internals.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, dropwhile
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.errors import CorruptRecordException


class Chunk:
    """What one fetch brought of one partition.

    Attributes:
        partition: Whose.
        first_offset: Asked for; a compressed batch may begin before it.
        next_offset: Behind all of it, what holds no record included: where the next one begins.
    """

    __slots__ = ("_batches", "first_offset", "next_offset", "partition")

    def __init__(
        self, partition: int, first_offset: int, next_offset: int, batches: Sequence[Any]
    ) -> None:
        self.partition = partition
        self.first_offset, self.next_offset = first_offset, next_offset
        self._batches = batches

    def records(self) -> Iterator[Any]:
        """The records, each unpacked when it is asked for: offset, key, value, timestamp."""
        first_offset = self.first_offset
        records = chain.from_iterable(self._batches)
        return dropwhile(lambda record: record.offset < first_offset, records)


def chunk_of(tp: TopicPartition, result: FetchResult) -> Chunk | None:
    """What a fetch result holds, as far as its checksums are right; its position moves behind it.

    Raises:
        CorruptRecordException: The first checksum is wrong already.
    """
    if not result.check_assignment(tp) or not result.has_more():
        return None
    fetched = result._partition_records
    first_offset = fetched.next_fetch_offset
    raw = fetched._records
    batches: list[Any] = []
    while raw.has_next():
        batch = raw.next_batch()
        if fetched._check_crcs and not batch.validate_crc():
            if not batches:
                raise CorruptRecordException(f"Invalid CRC - {tp} at {first_offset}")
            break  # what is left is fetched again, and it is the first then
        if not batch.is_control_batch:
            batches.append(batch)
        # Behind the batch's last record even where compaction has removed that.
        fetched.next_fetch_offset = batch.next_offset
    next_offset = fetched.next_fetch_offset
    result._update_position()
    result._partition_records = None
    fetched._records_iterator = None  # it and its records hold each other, and all their bytes
    return Chunk(tp.partition, first_offset, next_offset, batches)


async def fetched_records(
    fetcher: Fetcher,
    partitions: Collection[TopicPartition],
    timeout_s: float,
    records_max: int,
    whole: Collection[str],
    still_wanted: Callable[[], bool] | None = None,
) -> dict[TopicPartition, Chunk | list[Any]]:
    """`Fetcher.fetched_records`, but the topics in ``whole`` come as chunks.

    Args:
        fetcher: Of the consumer.
        partitions: Those wanted; what others have is left where it is.
        timeout_s: Longest wait for something.
        records_max: Of the partitions that do not come as chunks.
        whole: Topic names.
        still_wanted: Asked before anything is taken; when not, it stays where it is.

    Raises:
        KafkaError: What the broker answered in place of records.
    """
    ends_s = time.monotonic() + timeout_s
    while True:
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        if still_wanted is not None and not still_wanted():
            return {}
        drained = _drained(fetcher, partitions, records_max, whole)
        left_s = ends_s - time.monotonic()
        if drained or left_s <= 0:
            return drained
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=left_s)
        if not done or fetcher._closed:
            waiter.cancel()
            return {}
        waiter.result()


def _drained(
    fetcher: Fetcher,
    partitions: Collection[TopicPartition],
    records_max: int,
    whole: Collection[str],
) -> dict[TopicPartition, Chunk | list[Any]]:
    drained: dict[TopicPartition, Chunk | list[Any]] = {}
    for tp in list(fetcher._records):
        if tp not in partitions:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if type(result) is not FetchResult:
            if drained:
                return drained  # the error comes at the next call
            _forget(fetcher, tp)
            result.check_raise()
            continue
        records: Chunk | list[Any] | None
        one_by_one: list[Any]
        if tp.topic in whole:
            try:
                records = chunk_of(tp, result)
            except CorruptRecordException:
                _forget(fetcher, tp)
                if drained:
                    return drained  # fetched again, it is as corrupt as now, or right
                raise
        elif records_max > 0:
            records = one_by_one = result.getall(records_max)
            records_max -= len(one_by_one)
        else:
            continue
        if not result.has_more():
            _forget(fetcher, tp)
        if records:
            drained[tp] = records
    return drained


def _forget(fetcher: Fetcher, tp: TopicPartition) -> None:
    """Done with what was fetched of a partition: more may be."""
    del fetcher._records[tp]
    fetcher._notify(fetcher._wait_consume_future)
