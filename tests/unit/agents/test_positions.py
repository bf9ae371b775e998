"""What engines have applied, compared with what the topic holds."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import OffsetAndTimestamp

from agents import positions
from tapeline.kafka_access import KafkaAccess

SERVERS = KafkaAccess(("127.0.0.1:1",))


class Record(NamedTuple):
    offset: int


class FakeConsumer:
    """A topic of partitions that each hold offsets from ``begin`` to below ``end``."""

    topic: dict[int, range]
    newer: dict[int, int]
    stopped = 0

    def __init__(self, **options: Any) -> None:
        assert options["enable_auto_commit"] is False
        self._at: dict[TopicPartition, int] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None:
        type(self).stopped += 1

    def assign(self, tps: list[TopicPartition]) -> None:
        self._at = dict.fromkeys(tps, 0)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        assert tp in self._at
        self._at[tp] = offset

    async def getmany(
        self, *tps: TopicPartition, timeout_ms: int
    ) -> dict[TopicPartition, list[Record]]:
        """As aiokafka: one error at a time, then what there is, else a wait."""
        for tp in tps:
            held, at = self.topic[tp.partition], self._at[tp]
            if at not in held and at != held.stop:
                raise OffsetOutOfRangeError({tp: at})
        found = {
            tp: [Record(self._at[tp])] for tp in tps if self._at[tp] in self.topic[tp.partition]
        }
        if not found:
            await asyncio.sleep(timeout_ms / 1000)
        return found

    async def offsets_for_times(
        self, times: dict[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        assert set(times.values()) == {10_000_000 - positions.WARM_UP_MS}
        return {
            tp: OffsetAndTimestamp(self.newer[tp.partition], 0)
            if tp.partition in self.newer
            else None
            for tp in times
        }

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.topic[tp.partition].start for tp in tps}


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> type[FakeConsumer]:
    class Consumer(FakeConsumer):
        topic = {0: range(100), 1: range(10), 2: range(50, 60), 3: range(0)}
        newer = {0: 70, 2: 55}

    monkeypatch.setattr(positions, "AIOKafkaConsumer", Consumer)
    return Consumer


@pytest.mark.parametrize(
    ("applied", "ends", "suspects"),
    [
        ({0: 99}, {0: 100}, set()),  # read to the end
        ({0: 100}, {0: 100}, {0}),
        ({0: -1, 1: 5}, {0: 0, 1: 0}, {1}),  # nothing applied, nothing to miss
        ({0: 5}, {}, set()),  # the broker did not say
    ],
)
def test_a_partition_that_ends_before_what_was_applied_is_suspected(
    applied: dict[int, int], ends: dict[int, int], suspects: set[int]
) -> None:
    """That and no other."""
    assert positions.recreated(applied, ends) == suspects


async def test_only_the_record_itself_clears_a_suspect(consumer: type[FakeConsumer]) -> None:
    """There is one at that offset; there is none; it expired; the partition is empty."""
    suspects = {0: 99, 1: 10, 2: 40, 3: 5}
    assert await positions.confirm_recreated(SERVERS, "t", suspects) == {1, 2, 3}
    assert consumer.stopped == 1


async def test_what_was_never_committed_starts_35_minutes_back(
    consumer: type[FakeConsumer],
) -> None:
    """Or at the beginning, where nothing is that new; never at the end."""
    start = await positions.warm_up_offsets(SERVERS, "t", {0, 1, 2}, 10_000_000)
    assert start == {0: 70, 1: 0, 2: 55}
    assert consumer.stopped == 1
