"""The order book against a model so plain that it can't be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tables.book import OrderBook

PRICES = st.integers(1, 60)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["bid", "ask"]), PRICES, st.integers(0, 5)), max_size=120
)


class PlainBook:
    """Two dicts, sorted whenever asked."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}

    def change(self, side: str, px: int, sz: int) -> None:
        self.sides[side].pop(px, None)
        if sz:
            self.sides[side][px] = sz

    def best(self, side: str, count: int) -> list[tuple[int, int]]:
        return sorted(self.sides[side].items(), reverse=side == "bid")[:count]


@given(changes=CHANGES, count=st.integers(0, 10))
def test_the_book_equals_the_plain_model(changes: list[tuple[str, int, int]], count: int) -> None:
    """After every change: levels, the best ones."""
    book, plain = OrderBook(), PlainBook()
    for side, px, sz in changes:
        ladder = book.bids if side == "bid" else book.asks
        assert ladder.set(px, sz) == plain.sides[side].get(px, 0)
        plain.change(side, px, sz)
        assert book.bids.highest(count) == plain.best("bid", count)
        assert book.asks.lowest(count) == plain.best("ask", count)
        bids, asks = plain.best("bid", 1), plain.best("ask", 1)
        assert book.best_bid() == (bids[0] if bids else None)
        assert book.best_ask() == (asks[0] if asks else None)
        assert len(ladder) == len(plain.sides[side])
    restored = OrderBook()
    restored.restore(book.snapshot())
    assert restored.snapshot() == book.snapshot()


def test_the_states_lead_only_where_they_may() -> None:
    """A muted book is not held, and only a snapshot makes it ok."""
    book = OrderBook()
    book.hold("gap")
    book.mute("lost")
    assert book.state == "none"
    assert not book.shown
    book.replace([(1, 1)], [(2, 1)], 0, 0, 5)
    assert book.state == "ok"
    assert book.shown
    assert book.reason == ""
    book.hold("sequence")
    assert book.state == "gap"
    assert book.shown
    assert book.reason == "sequence"
    book.mute("lost")
    assert book.state == "muted"
    assert not book.shown
    book.hold("sequence")
    assert book.state == "muted"
    assert book.reason == "lost"
    book.replace([(1, 1)], [(2, 1)], 0, 0, 6)
    assert book.state == "ok"
    assert book.seq == 6


def test_finer_units_keep_the_levels() -> None:
    """Each price and size times its power of ten."""
    book = OrderBook()
    book.replace([(10, 1), (9, 2)], [(11, 3)], -2, -1, None)
    book.refine(-3, -3)
    assert book.bids.highest(5) == [(100, 100), (90, 200)]
    assert book.asks.lowest(5) == [(110, 300)]
    assert (book.px_e, book.sz_e) == (-3, -3)
