"""A batch holds each record once, under its key, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.batches import Kept, batch_of


@given(
    keys=st.lists(st.sampled_from([b"A", b"B", None]), min_size=1, max_size=30),
    holes=st.lists(st.integers(1, 3), min_size=30, max_size=30),
)
def test_a_batch_holds_what_it_is_made_of(keys: list[bytes | None], holes: list[int]) -> None:
    offsets = [sum(holes[: n + 1]) for n in range(len(keys))]
    records = [Kept(at, key, b"%d" % at) for at, key in zip(offsets, keys, strict=True)]
    batch = batch_of(3, records)
    assert batch is not None
    assert (batch.partition, batch.first_offset, batch.last_offset) == (3, offsets[0], offsets[-1])
    assert len(batch) == len(records)
    assert sorted(batch.records()) == sorted(records)
    for key, values in batch.by_key.items():
        assert values == [(r.offset, r.value) for r in records if r.key == key]


def test_of_nothing_there_is_none() -> None:
    assert batch_of(0, iter(())) is None
