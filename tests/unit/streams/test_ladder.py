"""One side of a book: three ways to change it, one result."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.ladder import Ladder

LEVELS = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 9)), max_size=40)


@given(start=LEVELS, levels=LEVELS, growth=st.integers(1, 12), watched=st.sets(st.integers(1, 20)))
def test_a_change_is_an_update_that_tells(
    start: list[tuple[int, int]], levels: list[tuple[int, int]], growth: int, watched: set[int]
) -> None:
    """What stands, what grew by much, and what is watched by either."""
    updated, changed = Ladder(dict(start).items()), Ladder(dict(start).items())
    model = dict(updated.sizes)
    first, second = {px for px in watched if px % 2}, {px for px in watched if not px % 2}
    standing: list[int] = []
    noted = changed.change(levels, standing.append, growth, first, second)
    updated.update(levels)
    expected = []
    for px, sz in levels:
        before = model.get(px, 0)
        model[px] = sz
        if sz - before >= growth or px in watched:
            expected.append((px, before, sz))
    assert noted == expected
    assert standing == [sz for _, sz in levels if sz]
    assert changed.sizes == updated.sizes == {px: sz for px, sz in model.items() if sz}
    assert changed.prices == updated.prices == sorted(changed.sizes)
