"""The buffer before the broker: nothing dropped inside its limits, everything told beyond."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.feeds import OutRecord
from streams.outbox import BATCH_RECORDS_MAX, LostLine, Outbox

AGE_MS, BYTES = 30_000, 10_000


def outbox() -> Outbox:
    return Outbox(bytes_max=BYTES, age_max_ms=AGE_MS)


def record(partition: int = 1, n: int = 0, *, symbol: str = "", size: int = 10) -> OutRecord:
    symbol = symbol or f"S{partition}"
    value = str(n).encode().rjust(size, b"0")
    return OutRecord(partition, "fake", symbol, b"", value, "trade")


def take(box: Outbox, partition: int = 1, count: int = BATCH_RECORDS_MAX) -> list[bytes]:
    batch = [r.value for r in box.waiting(partition)][:count]
    box.taken(partition, len(batch))
    return batch


def test_records_leave_in_order_when_they_are_acknowledged() -> None:
    box = outbox()
    box.put([record(n=n) for n in range(3)], 0)
    assert take(box, count=2) == [record(n=0).value, record(n=1).value]
    assert box.ready() == []
    box.acknowledge(1)
    assert (box.depth, box.bytes, box.acknowledged) == (1, 10, 2)
    assert box.ready() == [1]
    assert take(box) == [record(n=2).value]
    box.acknowledge(1)
    assert (box.depth, box.bytes, box.ready()) == (0, 0, [])


def test_what_did_not_arrive_goes_again_before_what_came_later() -> None:
    box = outbox()
    box.put([record(n=0)], 0)
    take(box)
    box.put([record(n=1)], 1)
    assert box.fail(1) == set()
    assert take(box) == [record(n=0).value, record(n=1).value]


def test_partitions_do_not_wait_for_each_other() -> None:
    box = outbox()
    box.put([record(1), record(2)], 0)
    take(box, 1)
    assert box.ready() == [2]


def test_nothing_is_dropped_at_the_limits() -> None:
    box = outbox()
    assert box.put([record(size=BYTES)], 0) == set()
    assert box.expire(AGE_MS) == set()
    assert box.depth == 1


def test_beyond_the_age_the_lane_is_emptied_and_its_symbols_are_named() -> None:
    box = outbox()
    box.put([record(1, symbol="A"), record(1, symbol="B"), record(2)], 0)
    take(box, 2)
    box.acknowledge(2)
    box.put([record(2)], AGE_MS)
    assert box.expire(AGE_MS + 1) == {LostLine("fake", "A"), LostLine("fake", "B")}
    assert box.depth == 1
    assert box.dropped == {LostLine("fake", "A"): 1, LostLine("fake", "B"): 1}
    assert box.ready() == [2]
    assert box.writable(1)


def test_beyond_the_bytes_everything_is_dropped() -> None:
    box = outbox()
    box.put([record(1, size=BYTES // 2), record(2, size=BYTES // 2)], 0)
    assert box.put([record(3)], 1) == {LostLine("fake", f"S{n}") for n in (1, 2, 3)}
    assert (box.depth, box.bytes, box.ready()) == (0, 0, [])


def test_an_emptied_lane_waits_for_what_is_in_flight() -> None:
    box = outbox()
    box.put([record(n=0)], 0)
    take(box)
    box.put([record(n=1)], 1)
    assert box.expire(AGE_MS + 1) == {LostLine("fake", "S1")}
    assert not box.writable(1)
    assert box.expire(2 * AGE_MS) == set(), "told once"
    box.acknowledge(1)
    assert box.writable(1)
    assert box.acknowledged == 1


def test_a_lane_with_nothing_behind_what_is_in_flight_has_lost_nothing_yet() -> None:
    box = outbox()
    box.put([record(n=0)], 0)
    take(box)
    assert box.expire(AGE_MS + 1) == set()
    assert box.writable(1)
    box.put([record(n=1)], AGE_MS + 2)
    assert box.expire(AGE_MS + 3) == {LostLine("fake", "S1")}
    assert not box.writable(1)


def test_what_is_in_flight_is_dropped_too_once_it_has_failed() -> None:
    box = outbox()
    box.put([record(n=0)], 0)
    take(box)
    box.put([record(n=1)], 1)
    box.expire(AGE_MS + 1)
    assert box.fail(1) == {LostLine("fake", "S1")}
    assert (box.depth, box.ready(), box.writable(1)) == (0, [], True)


def test_a_refused_batch_is_halved_until_the_one_record_is_found() -> None:
    box = outbox()
    box.put([record(n=n) for n in range(5)], 0)
    take(box)
    sizes = []
    refused = None
    while refused is None:
        refused = box.refuse(1)
        if refused is None:
            sizes.append(len(take(box)))
    assert sizes == [2, 1]
    assert refused.value == record(n=0).value
    assert box.dropped == {LostLine("fake", "S1"): 1}
    assert len(take(box)) == 1, "one at a time until one has arrived"
    box.acknowledge(1)
    assert len(take(box)) == 2
    box.acknowledge(1)
    assert len(take(box)) == 1


def test_a_partition_never_seen_is_writable_and_nothing_is_old_in_an_empty_box() -> None:
    box = outbox()
    assert box.writable(5)
    assert box.age_ms(1_000) == 0
    box.put([record()], 1_000)
    assert box.age_ms(1_500) == 500


ops = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 3)),
        st.tuples(st.sampled_from(["ack", "fail", "refuse"]), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("wait"), st.just(0), st.integers(0, 15_000)),
    ),
    max_size=80,
)


@settings(max_examples=120)
@given(ops=ops, bytes_max=st.sampled_from([60, 10**9]))
def test_each_record_arrives_in_order_or_is_named_as_lost(
    ops: list[tuple[str, int, int]], bytes_max: int
) -> None:
    """Against a model: per partition, arrived + dropped + held is what was put, in order."""
    box = Outbox(bytes_max=bytes_max, age_max_ms=AGE_MS)
    made = dict.fromkeys(range(3), 0)
    arrived: dict[int, list[int]] = {p: [] for p in range(3)}
    flying: dict[int, list[int]] = {}
    last_lost: set[LostLine] = set()
    now_ms = 0
    for what, partition, amount in ops:
        dropped_before = box.dropped.total()
        lost: set[LostLine] = set()
        if what == "put":
            records = [record(partition, made[partition] + n) for n in range(amount)]
            made[partition] += amount
            lost = box.put(records, now_ms)
            if box.dropped.total() > dropped_before:
                assert bytes_max == 60, "the age is looked at by expire alone"
        elif what == "wait":
            now_ms += amount
            oldest = box.age_ms(now_ms)
            lost = box.expire(now_ms)
            assert bool(lost) <= (oldest > AGE_MS)
        elif what == "take" and partition in box.ready():
            flying[partition] = [int(v) for v in take(box, partition, amount)]
        elif what == "ack" and partition in flying:
            arrived[partition] += flying.pop(partition)
            box.acknowledge(partition)
        elif what == "fail" and partition in flying:
            del flying[partition]
            lost = box.fail(partition)
        elif what == "refuse" and partition in flying:
            del flying[partition]
            one = box.refuse(partition)
            lost = {LostLine(one.venue, one.symbol)} if one else set()
        last_lost |= lost
        if box.dropped.total() > dropped_before:
            assert lost, "nothing is dropped without being named"
    held = sum(made.values()) - box.dropped.total() - sum(len(a) for a in arrived.values())
    assert box.depth == held
    assert box.bytes == 10 * held
    for partition, numbers in arrived.items():
        assert numbers == sorted(set(numbers))
        if LostLine("fake", f"S{partition}") not in last_lost:
            assert numbers == [*range(len(numbers))]
            rest = [int(r.value) for r in box.waiting(partition)] if made[partition] else []
            assert numbers + rest == [*range(len(numbers) + len(rest))]


@pytest.mark.parametrize("end", ["acknowledge", "fail"])
def test_a_full_box_with_a_batch_in_flight_keeps_only_that(end: str) -> None:
    box = outbox()
    box.put([record(n=0, size=5_000)], 0)
    take(box)
    assert box.put([record(n=1, size=6_000)], 1)
    assert box.depth == 1
    getattr(box, end)(1)
    assert box.depth == 0
