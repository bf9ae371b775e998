"""Chunks hold what aiokafka itself would have unpacked, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException, TopicAuthorizationFailedError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from agents.batches import batches_of
from agents.fetching import FETCH_PERIOD_S, PacedFetcher, period_s
from streams.chunks import Chunk, chunk_of, fetched_records

A, B, OTHER = TP("events", 0), TP("events", 1), TP("changelog", 0)


def batch(base: int, values: list[bytes], *, gzip: bool = False) -> bytes:
    """Record batch v2 as a broker stores it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=1 if gzip else 0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10**9,
    )
    for nth, value in enumerate(values):
        builder.append(nth, 1_700_000_000_000 + nth, b"K", value, [])
    raw = bytearray(builder.build())
    raw[:8] = base.to_bytes(8, "big")
    return bytes(raw)


class State:
    """Of one assigned partition, as aiokafka keeps it."""

    def __init__(self, position: int, *, paused: bool = False) -> None:
        self.position, self.paused = position, paused

    def consumed_to(self, position: int) -> None:
        self.position = position


class Assignment:
    active = True

    def __init__(self, state: State) -> None:
        self.state = state

    def state_value(self, _tp: TP) -> State:
        return self.state


def result(
    raw: bytes, offset: int, *, tp: TP = A, paused: bool = False
) -> tuple[FetchResult, State]:
    state = State(offset, paused=paused)
    fetched = PartitionRecords(tp, MemoryRecords(raw), [], offset, None, None, True, 0)
    return (
        FetchResult(tp, partition_records=fetched, assignment=Assignment(state), backoff=0.0),
        state,
    )


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=6),
    skip=st.integers(0, 8),
    most=st.integers(1, 20),
)
def test_a_chunk_holds_what_aiokafka_unpacks(
    sizes: list[tuple[int, bool]], skip: int, most: int
) -> None:
    """From the offset asked for on, in pieces no longer than wanted, and the same next offset."""
    raw, base = b"", 100
    for count, gzip in sizes:
        raw += batch(base, [b"%d" % (base + n) for n in range(count)], gzip=gzip)
        base += count
    offset = 100 + skip % sizes[0][0]  # a broker begins with the batch that holds it
    theirs, their_state = result(raw, offset)
    expected = [(r.offset, r.key, r.value) for r in theirs.getall()]
    ours, state = result(raw, offset)
    chunk = chunk_of(A, ours)
    assert chunk is not None
    batches = list(batches_of(chunk, most))
    assert [tuple(record) for one in batches for record in one.records()] == expected
    assert all(0 < len(one) <= most for one in batches)
    assert all(one.first_offset <= one.last_offset for one in batches)
    assert state.position == their_state.position == base
    assert not ours.has_more()


def test_a_wrong_checksum_is_an_error() -> None:
    raw = bytearray(batch(0, [b"value"]))
    raw[-2] ^= 1
    with pytest.raises(CorruptRecordException, match="CRC"):
        chunk_of(A, result(bytes(raw), 0)[0])


def test_what_is_right_before_a_wrong_checksum_is_taken_first() -> None:
    """What is wrong is asked for again, and then nothing stands before it."""
    damaged = bytearray(batch(3, [b"3"]))
    damaged[-2] ^= 1
    both, state = result(batch(0, [b"0", b"1", b"2"]) + bytes(damaged) + batch(4, [b"4"]), 0)
    chunk = chunk_of(A, both)
    assert chunk is not None
    assert [r.value for one in batches_of(chunk, 9) for r in one.records()] == [b"0", b"1", b"2"]
    assert state.position == 3
    assert not both.has_more()


def test_paused_or_moved_away_nothing_is_taken() -> None:
    """As after a rebalance, or a seek while the fetch was under way."""
    raw = batch(0, [b"value"])
    assert chunk_of(A, result(raw, 0, paused=True)[0]) is None
    moved, state = result(raw, 0)
    state.position = 7
    assert chunk_of(A, moved) is None
    assert state.position == 7


class Subscriptions:
    reassignment_in_progress = False
    assigned = (A, B, OTHER)

    def is_assigned(self, tp: TP) -> bool:
        return tp in self.assigned


class FakeFetcher:
    """The part of aiokafka's fetcher that is drained."""

    def __init__(self, **records: Any) -> None:
        self._records: dict[TP, Any] = {}
        self._subscriptions = Subscriptions()
        self._closed = False
        self._wait_consume_future = None
        self.notified = 0
        self.waiter: asyncio.Future[None] | None = None

    def _notify(self, _future: object) -> None:
        self.notified += 1

    def _create_fetch_waiter(self) -> asyncio.Future[None]:
        self.waiter = asyncio.get_running_loop().create_future()
        return self.waiter


async def drained(fetcher: FakeFetcher, *partitions: TP, timeout_s: float = 0.0) -> dict[TP, Any]:
    return await fetched_records(fetcher, set(partitions), timeout_s, 2, {"events"})  # type: ignore[arg-type]


async def test_whole_topics_come_as_chunks_and_others_record_by_record() -> None:
    """What is not asked for stays; what is not assigned any more goes."""
    fetcher = FakeFetcher()
    for tp in (A, B, OTHER):
        fetcher._records[tp] = result(batch(0, [b"1", b"2", b"3"]), 0, tp=tp)[0]
    fetcher._records[TP("gone", 0)] = object()
    found = await drained(fetcher, A, OTHER)
    assert isinstance(found[A], Chunk)
    assert [r.value for r in found[OTHER]] == [b"1", b"2"]
    assert set(fetcher._records) == {B, OTHER}
    assert [r.value for r in (await drained(fetcher, OTHER))[OTHER]] == [b"3"]
    assert set(fetcher._records) == {B}
    assert fetcher.notified == 2  # one for each partition that may be fetched again


async def test_an_error_waits_until_what_came_before_it_is_taken() -> None:
    fetcher = FakeFetcher()
    fetcher._records[A] = result(batch(0, [b"1"]), 0)[0]
    fetcher._records[B] = FetchError(error=TopicAuthorizationFailedError("events"), backoff=0.0)
    assert set(await drained(fetcher, A, B)) == {A}
    with pytest.raises(TopicAuthorizationFailedError):
        await drained(fetcher, A, B)
    assert not fetcher._records


async def test_a_damaged_batch_takes_no_other_partition_s_records_with_it() -> None:
    """It is forgotten, to be fetched again; alone it is an error."""
    damaged = bytearray(batch(0, [b"1"]))
    damaged[-2] ^= 1
    fetcher = FakeFetcher()
    fetcher._records[A] = result(batch(0, [b"1"]), 0)[0]
    fetcher._records[B], state = result(bytes(damaged), 0, tp=B)
    assert set(await drained(fetcher, A, B)) == {A}
    assert not fetcher._records
    assert state.position == 0
    fetcher._records[B] = result(bytes(damaged), 0, tp=B)[0]
    with pytest.raises(CorruptRecordException):
        await drained(fetcher, A, B)


async def test_what_is_not_wanted_any_more_stays_where_it_is() -> None:
    """Also where it comes while somebody waits: an assignment was in between, and has sought."""
    fetcher = FakeFetcher()
    wanted = True
    call = fetched_records(fetcher, {A}, 5.0, 2, {"events"}, lambda: wanted)  # type: ignore[arg-type]
    waiting = asyncio.create_task(call)
    await asyncio.sleep(0.01)
    fetcher._records[A] = result(batch(0, [b"1"]), 0)[0]
    wanted = False
    assert fetcher.waiter is not None
    fetcher.waiter.set_result(None)
    assert await waiting == {}
    assert set(fetcher._records) == {A}


async def test_it_waits_for_something_and_no_longer_than_asked() -> None:
    fetcher = FakeFetcher()
    assert await drained(fetcher, A, timeout_s=0.01) == {}
    assert fetcher.waiter is not None
    assert fetcher.waiter.cancelled()
    waiting = asyncio.create_task(drained(fetcher, A, timeout_s=5.0))
    await asyncio.sleep(0.01)
    fetcher._records[A] = result(batch(0, [b"1"]), 0)[0]
    fetcher.waiter.set_result(None)
    assert set(await waiting) == {A}


def test_nothing_holds_a_chunk_s_bytes_once_it_is_unpacked() -> None:
    """aiokafka's iterator and its records hold each other, and only the collector parts them."""
    fetched, _ = result(batch(0, [b"value"]), 0)
    records = weakref.ref(fetched._partition_records)
    gc.disable()
    try:
        chunk = chunk_of(A, fetched)
        assert chunk is not None
        assert records() is None
    finally:
        gc.enable()


class Node:
    """A fetcher whose base class is asked what it was asked for, and brings what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, brings: list[TP]) -> None:
        self.asked: list[list[TP]] = []
        fetcher: Any = object.__new__(Fetcher)
        fetcher._records = {}
        fetcher._in_flight = {1}
        fetcher._fetch_waiters = set()
        fetcher._wait_consume_future = asyncio.get_running_loop().create_future()
        PacedFetcher.seat(SimpleNamespace(_fetcher=fetcher))
        self.fetcher: PacedFetcher = fetcher

        async def proc(one: Any, _assignment: Any, _node: int, _request: Any) -> bool:
            one._records.update(dict.fromkeys(brings))
            return bool(brings)

        def actions(_one: Any, assignment: Any) -> None:
            self.asked.append(assignment.tps)

        monkeypatch.setattr(Fetcher, "_proc_fetch_request", proc)
        monkeypatch.setattr(Fetcher, "_get_actions_per_node", actions)


async def test_what_came_is_handed_on_before_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """And behind it the node is free again, which aiokafka would overlook."""
    node = Node(monkeypatch, [A])
    waiter = asyncio.get_running_loop().create_future()
    node.fetcher._fetch_waiters.add(waiter)
    fetching = asyncio.create_task(node.fetcher._proc_fetch_request(None, 1, None))
    await asyncio.sleep(0)
    assert waiter.done()
    assert not fetching.done()
    assert node.fetcher._in_flight == {1}
    await fetching
    assert node.fetcher._in_flight == set()


@pytest.mark.parametrize("brought", [0, 15, 64])
async def test_the_more_partitions_bring_something_the_longer_the_pause(
    monkeypatch: pytest.MonkeyPatch, brought: int
) -> None:
    """Timed by the loop's own clock, and never shorter."""
    node = Node(monkeypatch, [TP("events", n) for n in range(brought)])
    began_s = asyncio.get_running_loop().time()
    await node.fetcher._proc_fetch_request(None, 1, None)
    assert asyncio.get_running_loop().time() - began_s >= period_s(brought) * 0.95


async def test_only_what_is_wanted_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """But what has no position yet gets one."""
    node = Node(monkeypatch, [])

    class Assigned:
        tps = (A, B, OTHER)

        def state_value(self, tp: TP) -> Any:
            return SimpleNamespace(has_valid_position=tp != B)

    node.fetcher._get_actions_per_node(Assigned())
    assert node.asked == [[B]]
    node.fetcher.want({A})
    assert node.fetcher._wait_consume_future.done()  # it looks again at once
    node.fetcher._get_actions_per_node(Assigned())
    assert node.asked[-1] == [A, B]
    again = node.fetcher._wait_consume_future = asyncio.get_running_loop().create_future()
    node.fetcher.want({A})
    assert not again.done()


def test_another_class_of_fetcher_is_refused() -> None:
    with pytest.raises(TypeError, match="FakeFetcher where Fetcher was expected"):
        PacedFetcher.seat(SimpleNamespace(_fetcher=FakeFetcher()))


def test_few_partitions_are_no_reason_to_wait_longer() -> None:
    assert period_s(0) == period_s(15) == FETCH_PERIOD_S
    assert FETCH_PERIOD_S < period_s(32) < period_s(64) < 0.025
