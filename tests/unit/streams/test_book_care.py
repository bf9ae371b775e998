"""Which books are asked for although nothing says that they are wrong."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.book_care import APART_MS, BookCare, CareTimes

TIMES = CareTimes(stale_ms=300_000, refresh_min_ms=120_000, refresh_max_ms=200_000)
NOW_MS = 1_000_000


def lively(
    care: BookCare, symbols: list[str], until_ms: int, step_ms: int = 1_000
) -> list[tuple[int, str, str]]:
    """What is due while all of these books move each step."""
    found = []
    for now_ms in range(NOW_MS, until_ms, step_ms):
        for symbol in symbols:
            care.moved(symbol, now_ms)
        found += [(now_ms, *due) for due in care.due(symbols, now_ms, live=True)]
    return found


def test_a_book_that_moves_is_refreshed_at_times_between_the_limits() -> None:
    found = lively(BookCare(TIMES), ["A"], NOW_MS + 2_000_000)
    times = [NOW_MS, *(ms for ms, _, _ in found)]
    assert {reason for _, _, reason in found} == {"refresh"}
    waits = [after - before for before, after in pairwise(times)]
    assert all(120_000 <= wait <= 201_000 for wait in waits)
    assert len(set(waits)) > 3


def test_books_are_not_all_due_at_once() -> None:
    symbols = [f"S{n}" for n in range(100)]
    found = lively(BookCare(TIMES), symbols, NOW_MS + 400_000, step_ms=250)
    assert {symbol for _, symbol, _ in found} == {*symbols}
    assert all(after - before >= APART_MS for (before, *_), (after, *_) in pairwise(found))


def test_a_book_that_stands_still_is_stale_once_a_time() -> None:
    care = BookCare(CareTimes(stale_ms=300_000, refresh_min_ms=10**9, refresh_max_ms=10**9))
    care.moved("A", NOW_MS)
    assert care.due(["A"], NOW_MS + 299_999, live=True) == []
    assert care.due(["A"], NOW_MS + 300_000, live=True) == [("A", "stale")]
    assert care.due(["A"], NOW_MS + 300_001, live=True) == []
    assert care.due(["A"], NOW_MS + 600_000, live=True) == [("A", "stale")]


def test_silence_without_a_sign_of_life_says_nothing() -> None:
    care = BookCare(TIMES)
    care.moved("A", NOW_MS)
    assert care.due(["A"], NOW_MS + 400_000, live=False) == []
    assert care.due(["A"], NOW_MS + 400_000, live=True) == [("A", "stale")]


def test_a_book_that_was_never_there_is_not_due() -> None:
    care = BookCare(TIMES)
    assert care.due(["A"], NOW_MS, live=True) == []
    care.moved("A", NOW_MS)
    care.forget("A")
    assert care.due(["A"], NOW_MS + 400_000, live=True) == []


def test_a_clock_that_was_set_back_asks_once() -> None:
    care = BookCare(TIMES)
    care.moved("A", NOW_MS)
    assert care.due(["A"], NOW_MS - 500_000, live=True) == [("A", "stale")]
    assert care.due(["A"], NOW_MS - 499_000, live=True) == []


@given(st.lists(st.integers(0, 400_000), max_size=30))
def test_no_book_waits_longer_than_it_may(steps: list[int]) -> None:
    care, now_ms, asked_ms = BookCare(TIMES), NOW_MS, NOW_MS
    care.moved("A", now_ms)
    for step in steps:
        now_ms += step
        if care.due(["A"], now_ms, live=True):
            asked_ms = now_ms
        assert now_ms - asked_ms < 200_000
