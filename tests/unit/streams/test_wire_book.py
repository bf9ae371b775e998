"""The venue's book against two plain dicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.book import WireBook

LEVELS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), max_size=12)
MESSAGES = st.lists(st.tuples(LEVELS, LEVELS), max_size=12)


def plain(side: dict[int, int], levels: list[tuple[int, int]]) -> None:
    for px, sz in levels:
        side.pop(px, None)
        if sz:
            side[px] = sz


@given(messages=MESSAGES)
def test_the_book_equals_two_plain_dicts_after_every_message(
    messages: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    """Levels, best levels, crossing and sequence."""
    book = WireBook(-2, -5)
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    for seq, (bid_levels, ask_levels) in enumerate(messages, 1):
        book.apply(bid_levels, ask_levels, seq)
        plain(bids, bid_levels)
        plain(asks, ask_levels)
        assert book.levels() == (sorted(bids.items(), reverse=True), sorted(asks.items()))
        assert book.seq == seq
        if bids and asks:
            assert book.top() == (max(bids), bids[max(bids)], min(asks), asks[min(asks)])
            assert book.crossed == (max(bids) >= min(asks))
        else:
            assert book.top() is None
            assert not book.crossed


def test_replace_forgets_what_was_there() -> None:
    book = WireBook(-2, -5)
    book.apply([(90, 1)], [(110, 1)], 3)
    book.replace([(95, 2)], [(105, 2)], 9)
    assert book.levels() == ([(95, 2)], [(105, 2)])
    assert book.seq == 9


def test_refining_keeps_every_quantity() -> None:
    book = WireBook(-2, 0, 7)
    book.apply([(90, 3)], [(110, 4)], 7)
    book.refine(-3, -2)
    assert book.levels() == ([(900, 300)], [(1100, 400)])
    assert (book.px_e, book.sz_e, book.seq) == (-3, -2, 7)


def test_refining_to_coarser_units_is_refused() -> None:
    """It could lose digits."""
    with pytest.raises(ValueError, match="coarser"):
        WireBook(-2, -5).refine(-1, -5)
