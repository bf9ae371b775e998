"""Fetched records as the broker sent them: unpacked where they are used, not where they arrive.

aiokafka unpacks record by record, into objects of eleven fields, in Faust's consumer thread. That
is more work than applying them, and while both threads want the interpreter each waits for the
other at every system call. Here the consumer thread hands over whole fetched chunks, and the
agents' thread unpacks a chunk's record batches in one go, into aiokafka's own C records.

What it leans on inside aiokafka 0.14 is checked by
``tests/unit/agents/test_transport_internals.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, dropwhile, islice
from typing import Any, Final

from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.errors import CorruptRecordException
from faust.types import TP

from agents.batches import Batch, batch_of

FETCH_PERIOD_S: Final = 0.006
"""Shortest time from one fetch to the next, of one broker. As fast as it goes, a market of 5,000
events a second makes a thousand fetches of some records each, every one of them a dozen system
calls and two changes of threads; what is late by milliseconds is late anyway while those wait for
a processor."""

PARTITION_PERIOD_S: Final = 0.0004
"""The same for each partition that a fetch brought something of: where they are many, each brings
little, and is as much work as if it had brought a lot. 25 ms with 64 of them."""


class PacedFetcher(Fetcher):
    """Asks each broker at most every `FETCH_PERIOD_S`, for what is wanted, and hands it on at once.

    Attributes:
        wanted: Partitions asked for last. aiokafka fetches all that are assigned: of a worker's,
            half are changelogs, whose new records are its own.
    """

    wanted: Collection[TP] = ()

    @classmethod
    def seat(cls, consumer: Any) -> None:
        """Have a started consumer's fetcher be of this class; aiokafka offers no place."""
        fetcher = consumer._fetcher
        if type(fetcher) is not Fetcher:
            raise TypeError(f"{type(fetcher).__name__} where Fetcher was expected")
        fetcher.__class__ = cls

    def want(self, partitions: Collection[TP]) -> None:
        """Fetch these from now on."""
        if partitions != self.wanted:
            self.wanted = frozenset(partitions)
            self._notify(self._wait_consume_future)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        return super()._get_actions_per_node(_Wanted(assignment, self.wanted))

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        began_s = time.monotonic()
        if await super()._proc_fetch_request(assignment, node_id, request):
            for waiter in self._fetch_waiters:
                self._notify(waiter)
        # The next request is made behind this pause: it asks for what is wanted then.
        period_s = max(FETCH_PERIOD_S, PARTITION_PERIOD_S * len(self._records))
        left_s = began_s + period_s - time.monotonic()
        if left_s > 0:
            await asyncio.sleep(left_s)
        # aiokafka does so a moment later, and overlooks it in between: it would wait 200 ms.
        self._in_flight.discard(node_id)
        return False


class _Wanted:
    """An assignment, reduced to what is to be fetched and what has no position yet."""

    __slots__ = ("_assignment", "tps")

    def __init__(self, assignment: Any, wanted: Collection[TP]) -> None:
        self._assignment = assignment
        self.tps = [
            tp
            for tp in assignment.tps
            if tp in wanted or not assignment.state_value(tp).has_valid_position
        ]

    def state_value(self, tp: TP) -> Any:
        return self._assignment.state_value(tp)


class Chunk:
    """What one fetch brought of one partition.

    Attributes:
        partition: Whose.
        first_offset: Asked for; a compressed batch may begin before it.
    """

    __slots__ = ("_batches", "first_offset", "partition")

    def __init__(self, partition: int, first_offset: int, batches: Sequence[Any]) -> None:
        self.partition = partition
        self.first_offset = first_offset
        self._batches = batches

    def batches(self, records_max: int) -> Iterator[Batch]:
        """The records, in batches of at most so many, each unpacked when it is asked for."""
        first_offset = self.first_offset
        records: Iterator[Any] = chain.from_iterable(self._batches)
        records = dropwhile(lambda record: record.offset < first_offset, records)
        while (batch := batch_of(self.partition, islice(records, records_max))) is not None:
            yield batch


def chunk_of(tp: TP, result: FetchResult) -> Chunk | None:
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
    result._update_position()
    result._partition_records = None
    fetched._records_iterator = None  # it and its records hold each other, and all their bytes
    return Chunk(tp.partition, first_offset, batches)


async def fetched_records(
    fetcher: PacedFetcher,
    partitions: Collection[TP],
    timeout_s: float,
    records_max: int,
    whole: Collection[str],
) -> dict[TP, Chunk | list[Any]]:
    """`Fetcher.fetched_records`, but the topics in ``whole`` come as chunks.

    Args:
        fetcher: Of the consumer.
        partitions: Those wanted; what others have is left where it is.
        timeout_s: Longest wait for something.
        records_max: Of the partitions that do not come as chunks.
        whole: Topic names.

    Raises:
        KafkaError: What the broker answered in place of records.
    """
    ends_s = time.monotonic() + timeout_s
    fetcher.want(partitions)
    while True:
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
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
    fetcher: Fetcher, partitions: Collection[TP], records_max: int, whole: Collection[str]
) -> dict[TP, Chunk | list[Any]]:
    drained: dict[TP, Chunk | list[Any]] = {}
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


def _forget(fetcher: Fetcher, tp: TP) -> None:
    """Done with what was fetched of a partition: more may be."""
    del fetcher._records[tp]
    fetcher._notify(fetcher._wait_consume_future)
