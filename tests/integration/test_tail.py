"""The reader beside the group, on a real broker: what it gives, in order, from where it is told to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from agents import tail
from agents.batches import Batch
from agents.pace import Pace
from agents.tail import Tail
from tapeline.kafka_access import KafkaAccess
from tests.support.worker import Installation, eventually


class Reading:
    """A tail at work, and what it has given.

    Attributes:
        given: Offsets by partition, in the order they came in.
        largest: Records of the largest batch.
        lost: Partitions it could not go on with.
    """

    def __init__(self, one: Installation) -> None:
        self.given: dict[int, list[int]] = defaultdict(list)
        self.largest = 0
        self.lost: set[int] = set()
        access = KafkaAccess.of(one.kafka_url)
        self.pace = Pace()
        self.tail = Tail(access, "tests", one.topic, self._take, self._lost, self.pace)
        self.task = asyncio.create_task(self.tail.run())

    async def _take(self, batch: Batch) -> None:
        self.given[batch.partition] += sorted(record.offset for record in batch.records())
        self.largest = max(self.largest, len(batch))

    def _lost(self, partitions: Collection[int]) -> None:
        self.lost |= set(partitions)

    async def has(self, partition: int, offsets: list[int]) -> None:
        """Until exactly these have been given of a partition."""

        async def there() -> bool:
            return self.given[partition] == offsets

        await eventually(there, what=f"{offsets} of {partition}, not {self.given[partition]}")


@pytest.fixture
async def reading(one: Installation) -> AsyncIterator[Reading]:
    made = Reading(one)
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def write(one: Installation, partition: int, count: int) -> None:
    await one.write(((b"key", b"value") for _ in range(count)), partition=partition)


async def test_partitions_are_read_from_their_offsets_on_as_they_are_wanted(
    one: Installation, reading: Reading
) -> None:
    """One more joins, one is dropped: the others go on without a repetition or a hole."""
    for partition in range(3):
        await write(one, partition, 10)
    reading.tail.feed({0: 3})
    await reading.has(0, list(range(3, 10)))
    reading.tail.feed({1: 9, 0: 0})  # it goes on where it is
    await reading.has(1, [9])
    await write(one, 0, 2)
    await reading.has(0, list(range(3, 12)))
    assert reading.tail.fed() == {0, 1}
    assert reading.tail.position(0) == 12
    assert reading.tail.is_current(0)
    reading.tail.drop([0])
    assert reading.tail.position(0) is None
    await write(one, 0, 2)
    await write(one, 1, 2)
    await reading.has(1, [9, 10, 11])
    assert reading.given[0] == list(range(3, 12))


async def test_records_that_cost_much_come_few_at_a_time(
    one: Installation, reading: Reading
) -> None:
    """A standby with slow calculators must not stand still either."""
    reading.pace.took(records=1000, seconds=0.2)
    await write(one, 0, 1000)
    reading.tail.feed({0: 0})
    await reading.has(0, list(range(1000)))
    assert reading.largest == 100


async def test_a_partition_begins_anew_where_it_is_told_to(
    one: Installation, reading: Reading
) -> None:
    """Further back, too: nothing of the first reading comes in between."""
    await write(one, 2, 500)
    reading.tail.feed({2: 400})
    await reading.has(2, list(range(400, 500)))
    reading.tail.drop([2])
    reading.given.clear()
    reading.tail.feed({2: 100})
    await reading.has(2, list(range(100, 500)))
    assert reading.lost == set()


async def test_offsets_that_the_topic_does_not_have_are_told_of(
    one: Installation, reading: Reading
) -> None:
    """The others are read on."""
    await write(one, 1, 5)
    reading.tail.feed({0: 1000, 1: 0})

    async def told() -> bool:
        return reading.lost == {0}

    await eventually(told, what="the partition without that offset")
    assert reading.tail.fed() == {1}
    await reading.has(1, [0, 1, 2, 3, 4])


async def test_what_a_reading_lost_is_read_again(
    one: Installation, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lost it: nothing is given before it."""
    fetched, lost = tail.fetched_chunks, [False]

    async def lose_one(*args: Any) -> Any:
        found = await fetched(*args)
        if found and not lost[0] and reading.given[0]:
            lost[0] = True
            return {}
        return found

    monkeypatch.setattr(tail, "fetched_chunks", lose_one)
    await write(one, 0, 3)
    reading.tail.feed({0: 0})
    await reading.has(0, [0, 1, 2])
    for _ in range(3):
        await write(one, 0, 3)
        await asyncio.sleep(0.05)
    await reading.has(0, list(range(12)))
    assert lost == [True]
