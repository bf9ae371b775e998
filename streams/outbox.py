"""The buffer between feeds and broker: bounded in bytes and age, honest when it overflows. Pure.

One lane a partition, because order matters within a partition only. A lane's head may be in
flight; it leaves the lane when the broker has acknowledged it and goes again when it has not, so
an outage inside the limits loses nothing and keeps the order. Beyond them the lane is emptied and
the symbols affected are named: a hole that is told and followed by a whole book is better than
data that is half a minute old.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from streams.feeds import OutRecord

BATCH_RECORDS_MAX: Final = 10_000


class LostLine(NamedTuple):
    """A line of which records were dropped."""

    venue: str
    symbol: str


class _Lane:
    """Records of one partition, oldest first, each with the time it came."""

    __slots__ = ("batch_max", "blocked", "in_flight", "records")

    def __init__(self) -> None:
        self.records: deque[tuple[int, OutRecord]] = deque()
        self.in_flight = 0
        self.blocked = False
        self.batch_max = BATCH_RECORDS_MAX


class Outbox:
    """Records that the broker has not acknowledged.

    Attributes:
        depth: Records held, those in flight included.
        bytes: Of their keys and values.
        dropped: Records dropped so far, by line.
        acknowledged: Records acknowledged so far.
    """

    def __init__(self, *, bytes_max: int, age_max_ms: int) -> None:
        """Nothing is dropped while both limits hold."""
        self.depth = self.bytes = self.acknowledged = 0
        self.dropped: Counter[LostLine] = Counter()
        self._bytes_max, self._age_max_ms = bytes_max, age_max_ms
        self._lanes: dict[int, _Lane] = {}
        self._ready: set[int] = set()

    # --- the feeds' side ---

    def put(self, records: Iterable[OutRecord], now_ms: int) -> set[LostLine]:
        """Take records in; ``now_ms`` on a clock that never steps back.

        Returns:
            Lines that have lost records, because all of it would not fit.
        """
        lanes = self._lanes
        for record in records:
            lane = lanes.get(record.partition)
            if lane is None:
                lane = lanes[record.partition] = _Lane()
            lane.records.append((now_ms, record))
            self.depth += 1
            self.bytes += len(record.key) + len(record.value)
            if not lane.in_flight:
                self._ready.add(record.partition)
        if self.bytes <= self._bytes_max:
            return set()
        lost: set[LostLine] = set()
        for partition in lanes:
            lost |= self._drop(partition)
        return lost

    def expire(self, now_ms: int) -> set[LostLine]:
        """Empty the lanes that have waited too long for the broker.

        Returns:
            Lines that have lost records.
        """
        lost: set[LostLine] = set()
        for partition, lane in self._lanes.items():
            behind = len(lane.records) > lane.in_flight
            if behind and self._age_ms(lane, now_ms) > self._age_max_ms:
                lost |= self._drop(partition)
        return lost

    def writable(self, partition: int) -> bool:
        """Whether a lane that was emptied takes records again: its last batch has arrived."""
        lane = self._lanes.get(partition)
        return lane is None or not lane.blocked

    def age_ms(self, now_ms: int) -> int:
        """Age of the oldest record held; 0 without any."""
        return max((self._age_ms(lane, now_ms) for lane in self._lanes.values()), default=0)

    # --- the broker's side ---

    def ready(self) -> list[int]:
        """Partitions with records to send and nothing in flight."""
        return [*self._ready]

    def waiting(self, partition: int) -> Iterator[OutRecord]:
        """What the next batch of a partition may hold, in order."""
        lane = self._lanes[partition]
        return (record for _, record in islice(lane.records, lane.batch_max))

    def taken(self, partition: int, count: int) -> None:
        """The first ``count`` records are in flight."""
        self._lanes[partition].in_flight = count
        self._ready.discard(partition)

    def acknowledge(self, partition: int) -> None:
        """What is in flight has arrived."""
        lane = self._lanes[partition]
        count = lane.in_flight
        for _ in range(count):
            self._release(lane.records.popleft()[1])
        self.acknowledged += count
        lane.batch_max = min(2 * lane.batch_max, BATCH_RECORDS_MAX)
        self._landed(partition, lane)

    def fail(self, partition: int) -> set[LostLine]:
        """What is in flight has not arrived, or nobody knows: it goes again.

        Returns:
            Lines that have lost records: the lane was emptied meanwhile, and now that nothing of
            it is in flight the rest is as old.
        """
        lane = self._lanes[partition]
        lane.in_flight = 0
        lost = self._drop(partition) if lane.blocked else set()
        self._landed(partition, lane)
        return lost

    def refuse(self, partition: int) -> OutRecord | None:
        """The broker will never take what is in flight: try half of it, or give up on one record.

        Returns:
            The record given up, if there was just one.
        """
        lane = self._lanes[partition]
        count = lane.in_flight
        refused: OutRecord | None = None
        if count > 1:
            lane.batch_max = count // 2
        elif count:
            refused = lane.records.popleft()[1]
            self._release(refused)
            self._count_dropped(refused)
        lane.in_flight = 0
        self._landed(partition, lane)
        return refused

    # --- inside ---

    def _landed(self, partition: int, lane: _Lane) -> None:
        lane.in_flight = 0
        lane.blocked = False
        if lane.records:
            self._ready.add(partition)
        else:
            self._ready.discard(partition)

    def _age_ms(self, lane: _Lane, now_ms: int) -> int:
        return now_ms - lane.records[0][0] if lane.records else 0

    def _drop(self, partition: int) -> set[LostLine]:
        """Empty a lane, but for what is in flight: that can't be called back."""
        lane = self._lanes[partition]
        lost: set[LostLine] = set()
        while len(lane.records) > lane.in_flight:
            record = lane.records.pop()[1]
            self._release(record)
            self._count_dropped(record)
            lost.add(LostLine(record.venue, record.symbol))
        lane.blocked = lane.in_flight > 0
        if not lane.records:
            self._ready.discard(partition)
        return lost

    def _release(self, record: OutRecord) -> None:
        self.depth -= 1
        self.bytes -= len(record.key) + len(record.value)

    def _count_dropped(self, record: OutRecord) -> None:
        self.dropped[LostLine(record.venue, record.symbol)] += 1
