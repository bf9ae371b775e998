"""A batch holds each record once, under its key, in order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agents.batches import Kept, batch_of, batches_of
from streams.chunks import Chunk


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


@given(
    offsets=st.lists(st.integers(5, 60), min_size=1, max_size=20, unique=True).map(sorted),
    most=st.integers(1, 7),
    behind=st.integers(0, 3),
)
def test_batches_of_a_chunk_leave_no_offset_between_them(
    offsets: list[int], most: int, behind: int
) -> None:
    """Offsets without a record, before, between and behind, are some batch's, too."""
    ends = offsets[-1] + 1 + behind
    chunk = Chunk(3, 2, ends, [[Kept(at, b"A", b"") for at in offsets]])
    batches = [*batches_of(chunk, most)]
    assert [r.offset for batch in batches for r in batch.records()] == offsets
    assert batches[0].from_offset == 2
    assert all(a.to_offset == b.from_offset for a, b in pairwise(batches))
    # Nobody looks ahead: a full last batch does not know that it is the last.
    full = len(offsets) % most == 0
    assert batches[-1].to_offset == (offsets[-1] + 1 if full else ends)
