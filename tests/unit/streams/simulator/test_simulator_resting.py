"""Orders that rest: first in, first out, and a total at each price that is their sum."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.simulator.resting import ASK, BID, LEVELS_KEPT, Book, Order, Print, Side, Top


@pytest.fixture
def book() -> Book:
    """Bids 96 to 100, asks 101 to 105, ten lots each."""
    book = Book(1000, 50, 0)
    for px in range(96, 101):
        book.add(Order(BID, px, 10))
    for px in range(101, 106):
        book.add(Order(ASK, px, 10))
    book.take_news()
    book.take_touched()
    return book


def prints(book: Book) -> list[Print]:
    return [news for news in book.take_news() if isinstance(news, Print)]


def test_each_change_has_its_own_number(book: Book) -> None:
    before = book.update_id
    order = book.add(Order(BID, 99, 5))
    assert book.update_id == before + 1
    assert book.cancel(order)
    assert book.update_id == before + 2
    assert not book.cancel(order)
    assert book.update_id == before + 2
    assert book.take_touched() == ([(99, 10)], [])


def test_a_taker_eats_the_best_price_and_there_the_oldest_order(book: Book) -> None:
    young = book.add(Order(ASK, 101, 4))
    assert book.take(ASK, 12) == 12
    assert [(p.px, p.sz, p.buyer_is_maker) for p in prints(book)] == [
        (101, 10, False),
        (101, 2, False),
    ]
    assert young.sz == 2
    assert book.levels(ASK, 1) == [(101, 2)]


def test_a_seller_walks_down_and_is_printed_as_such(book: Book) -> None:
    assert book.take(BID, 15) == 15
    found = prints(book)
    assert [(p.trade_id, p.px, p.sz) for p in found] == [(51, 100, 10), (52, 99, 5)]
    assert all(p.buyer_is_maker for p in found)
    assert book.best(BID) == 99
    assert book.take_touched() == ([(100, 0), (99, 5)], [])


def test_a_price_limit_stops_the_taker(book: Book) -> None:
    assert book.take(ASK, 100, limit_px=102) == 20
    assert book.best(ASK) == 103
    assert book.take(BID, 100, limit_px=100) == 10


def test_no_side_is_ever_eaten_up(book: Book) -> None:
    assert book.take(BID, 10_000) == 20
    assert len(book.sides[BID]) == LEVELS_KEPT


def test_an_iceberg_shows_its_peak_again_until_nothing_is_hidden(book: Book) -> None:
    for order in book.orders_at(BID, 100):
        book.cancel(order)
    book.add(Order(BID, 100, 8, peak=8, hidden=12))
    shown = []
    for _ in range(4):
        book.take(BID, 5)
        shown.append(book.sides[BID].sizes.get(100, 0))
    assert shown == [8, 8, 5, 0]


def test_a_top_is_told_when_price_or_size_of_a_best_level_changes(book: Book) -> None:
    book.add(Order(BID, 97, 5))
    assert book.take_news() == []
    book.now_ms = 7
    book.add(Order(BID, 100, 5))
    assert book.take_news() == [Top(7, book.update_id, 100, 15, 101, 10)]
    assert book.spread() == 1


@given(seed=st.integers(0, 10_000))
def test_totals_are_the_sums_of_their_orders(seed: int) -> None:
    rng = random.Random(seed)
    book = Book(0, 0, 0)
    orders: list[Order] = []
    for step in range(60):
        side: Side = BID if rng.random() < 0.5 else ASK
        draw = rng.random()
        if draw < 0.6 or step < 20:
            px = 1000 - rng.randrange(10) if side == BID else 1001 + rng.randrange(10)
            orders.append(book.add(Order(side, px, rng.randrange(1, 20))))
        elif draw < 0.8:
            book.cancel(rng.choice(orders))
        else:
            book.take(side, rng.randrange(1, 60))
        for of in (BID, ASK):
            ladder = book.sides[of]
            assert all(size > 0 for size in ladder.sizes.values())
            assert ladder.sizes == {
                px: sum(order.sz for order in book.orders_at(of, px)) for px in ladder.prices
            }
            assert sum(ladder.sizes.values()) == sum(o.sz for o in orders if o.side == of)
