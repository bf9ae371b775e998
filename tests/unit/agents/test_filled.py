"""What a fetch brought, in events of a few batches: the chunks take turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from agents.transport import _filled


def chunk(partition: int, count: int) -> tuple[TP, Any]:
    records = [SimpleNamespace(offset=n, key=b"A", value=b"x") for n in range(count)]
    return TP("t", partition), SimpleNamespace(
        partition=partition, first_offset=0, next_offset=count, records=lambda: iter(records)
    )


def spans(sizes: list[int], records_max: int) -> list[list[tuple[int, int, int]]]:
    """(partition, first, behind the last) of each batch of each event."""
    events = _filled([chunk(n, size) for n, size in enumerate(sizes)], records_max)
    return [[(tp.partition, b.from_offset, b.to_offset) for tp, b in event] for event in events]


def test_small_chunks_share_an_event() -> None:
    assert spans([3, 4, 2], 10) == [[(0, 0, 3), (1, 0, 4), (2, 0, 2)]]


def test_large_chunks_take_turns() -> None:
    """The last one's first records do not wait for the first one's last."""
    found = spans([20, 20, 5], 10)
    assert found == [[(0, 0, 10)], [(1, 0, 10)], [(2, 0, 5)], [(0, 10, 20)], [(1, 10, 20)]]


def test_nothing_is_left_out_and_each_partition_is_in_order() -> None:
    reached: dict[int, int] = {}
    for event in spans([37, 1, 64, 0, 20], 7):
        assert sum(end - begin for _, begin, end in event) <= 7
        for partition, begin, end in event:
            assert begin == reached.get(partition, 0)
            reached[partition] = end
    assert reached == {0: 37, 1: 1, 2: 64, 4: 20}
