"""Which partitions are kept warm, from where they are fed, and when they are let go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Any

import pytest

from agents import standby as module
from agents.batches import Kept
from agents.ledger import CommitLedger
from agents.shards import Shards
from agents.standby import Standby
from agents.stored import Stored
from streams.symbols import parse_symbols
from streams.topics import partition_of
from tables.parameters import Parameters
from tapeline.clock import ManualClock
from tapeline.errors import SnapshotError, TopicError
from tests.support.batches import batch
from tests.support.tape import random_tape

SYMBOL = "BTCUSDT"
PARTITIONS = 64
HOME = partition_of(SYMBOL, PARTITIONS)


class FakeTail:
    """Remembers what it is to read, and from where."""

    def __init__(self) -> None:
        self.next: dict[int, int] = {}
        self.current: set[int] = set()

    def feed(self, starts: Mapping[int, int]) -> None:
        self.next = {**starts, **self.next}

    def drop(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self.next.pop(partition, None)
            self.current.discard(partition)

    def fed(self) -> set[int]:
        return set(self.next)

    def position(self, partition: int) -> int | None:
        return self.next.get(partition)

    def is_current(self, partition: int) -> bool:
        return partition in self.current


class Bench:
    """A standby over real shards, with a broker that answers as told.

    Attributes:
        committed, far_back: Offsets by partition.
        stored: What the changelog holds.
        failures: How many loads fail first.
        loads: Partitions of each load.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shards = Shards(
            parse_symbols(f"binance:{SYMBOL}"), PARTITIONS, Parameters(), CommitLedger()
        )
        self.tail = FakeTail()
        self.held: set[int] = set()
        self.committed: dict[int, int | None] = {}
        self.far_back: dict[int, int] = {}
        self.stored = Stored()
        self.failures = 0
        self.loads: list[set[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

        async def committed(_group: Any, _topic: str, partitions: Collection[int]) -> Any:
            self.loads.append(set(partitions))
            await self.gate.wait()
            if self.failures:
                self.failures -= 1
                raise TopicError("no broker")
            return {p: self.committed.get(p) for p in partitions}

        async def changelog(*_args: Any) -> Stored:
            return self.stored

        async def far_back(_servers: Any, _topic: str, partitions: set[int], _now: int) -> Any:
            return {p: self.far_back.get(p, 0) for p in partitions}

        monkeypatch.setattr(module, "committed_offsets", committed)
        monkeypatch.setattr(module, "read_changelog", changelog)
        monkeypatch.setattr(module, "warm_up_offsets", far_back)
        monkeypatch.setattr(module, "RETRY_S", 0)
        self.standby = Standby(
            [],
            None,  # type: ignore[arg-type]
            "events",
            "changelog",
            self.shards,
            self.tail,  # type: ignore[arg-type]
            self.held.__contains__,
            ManualClock(),
        )

    async def settled(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    made = Bench(monkeypatch)
    yield made
    await made.standby.stop()


async def test_a_copy_is_fed_from_the_committed_offset(bench: Bench) -> None:
    """What is committed, the changelog that is read after it covers."""
    bench.committed = {HOME: 40}
    bench.standby.assigned([], [HOME])
    await bench.settled()
    assert bench.tail.next == {HOME: 40}
    assert bench.shards.engine(SYMBOL) is not None
    assert bench.standby.ready() == []  # not before it has reached the end
    assert bench.standby.warming() == [SYMBOL]
    bench.tail.current = {HOME}
    assert bench.standby.ready() == [SYMBOL]
    assert bench.standby.warming() == []


async def test_where_nothing_is_committed_it_begins_as_far_back_as_a_state_reaches(
    bench: Bench,
) -> None:
    bench.far_back = {HOME: 7}
    bench.standby.assigned([], [HOME])
    await bench.settled()
    assert bench.tail.next == {HOME: 7}


async def test_a_state_that_is_of_no_use_is_rebuilt_from_as_far_back(bench: Bench) -> None:
    """Behind the committed offset there would be a hole."""
    bench.committed, bench.far_back = {HOME: 40}, {HOME: 7}
    bench.stored.unreadable[SYMBOL] = SnapshotError("another version")
    bench.standby.assigned([], [HOME])
    await bench.settled()
    assert bench.tail.next == {HOME: 7}


async def test_a_broker_that_is_away_is_asked_again(bench: Bench) -> None:
    bench.failures = 3
    bench.standby.assigned([], [HOME])
    await bench.settled()
    assert len(bench.loads) == 4
    assert bench.tail.fed() == {HOME}


async def test_our_own_go_on_from_where_the_flow_stopped_until_it_is_as_far(bench: Bench) -> None:
    """Both readers are contiguous; the one that is behind skips."""
    bench.shards.assign({HOME, HOME + 1}, [])
    bench.standby.pause({HOME: 100})
    bench.standby.assigned([HOME], [])
    bench.tail.next[HOME] = 120
    bench.standby.flowing(HOME, 119)
    bench.standby.flowing(HOME + 1, 500)
    assert bench.tail.fed() == {HOME}
    bench.standby.flowing(HOME, 120)
    assert bench.tail.fed() == set()
    assert bench.loads == []


async def test_what_is_given_away_is_kept_until_another_writes_it(bench: Bench) -> None:
    """Its reports go on here for as long as the lease is ours."""
    bench.shards.assign({HOME}, [])
    bench.standby.pause({HOME: 100})
    bench.held.add(HOME)
    bench.shards.assign(set(), [])
    bench.standby.assigned([], [])
    assert bench.tail.fed() == {HOME}
    bench.held.clear()
    bench.standby.review()
    assert bench.tail.fed() == set()
    assert bench.shards.engine(SYMBOL) is None


async def test_what_is_given_away_and_to_be_kept_warm_is_not_loaded_again(bench: Bench) -> None:
    """It is as far on as it can be."""
    bench.shards.assign({HOME}, [])
    records = [Kept(at, SYMBOL.encode(), value) for at, value in random_tape(5, 30).records]
    bench.shards.apply(batch(HOME, records))
    live = bench.shards.engine(SYMBOL)
    bench.standby.pause({HOME: 30})
    bench.shards.assign(set(), [])
    bench.standby.assigned([], [HOME])
    await bench.settled()
    assert bench.loads == []
    assert bench.shards.engine(SYMBOL) is live


async def test_a_new_assignment_ends_a_load_that_is_under_way(bench: Bench) -> None:
    """Its engines would stand without anything that feeds them."""
    bench.gate.clear()
    bench.standby.assigned([], [HOME])
    await bench.settled()
    bench.standby.assigned([], [HOME + 1])
    bench.gate.set()
    await bench.settled()
    assert bench.loads == [{HOME}, {HOME + 1}]
    assert bench.tail.fed() == {HOME + 1}
    assert bench.shards.engine(SYMBOL) is None


async def test_a_copy_that_lost_its_place_begins_again(bench: Bench) -> None:
    """From the changelog, with an engine of then; also while another load is under way."""
    bench.committed = {HOME: 40, HOME + 1: 4}
    bench.standby.assigned([], [HOME, HOME + 1])
    await bench.settled()
    before = bench.shards.engine(SYMBOL)
    bench.committed = {HOME: 2}
    bench.standby.lost([HOME])
    assert bench.tail.fed() == {HOME + 1}
    assert bench.shards.engine(SYMBOL) is None
    await bench.settled()
    assert bench.loads[-1] == {HOME}
    assert bench.tail.next[HOME] == 2
    assert bench.shards.engine(SYMBOL) is not before


async def test_engines_that_stepped_back_are_fed_by_the_flow_alone(bench: Bench) -> None:
    """What the tail would give next lies behind a hole."""
    bench.shards.assign({HOME}, [])
    bench.standby.pause({HOME: 100})
    bench.standby.restart({HOME})
    assert bench.tail.fed() == set()
