"""The rebuilt top against the venue's quote, whichever comes first."""

from __future__ import annotations

from streams.topcheck import PENDING_QUOTES, RECENT_TOPS, TopCheck

TOP = (100, 5, 101, 6)
OTHER = (100, 5, 102, 6)


def test_a_quote_that_comes_first_waits_for_the_book() -> None:
    tops = TopCheck()
    assert tops.quote(7, TOP) is None
    assert tops.book(6, OTHER) is None
    assert tops.book(7, TOP) is True


def test_a_quote_that_comes_late_finds_the_book_as_it_was() -> None:
    tops = TopCheck()
    assert tops.book(7, TOP) is None
    assert tops.book(8, OTHER) is None
    assert tops.quote(7, TOP) is True


def test_a_difference_is_told_in_both_orders() -> None:
    tops = TopCheck()
    tops.quote(7, TOP)
    assert tops.book(7, OTHER) is False
    assert tops.quote(8, TOP) is None
    tops.reset()
    tops.book(9, TOP)
    assert tops.quote(9, OTHER) is False


def test_quotes_the_book_has_passed_are_never_compared() -> None:
    """Ids 5 and 6 lie inside a message that ends at 7."""
    tops = TopCheck()
    tops.quote(5, OTHER)
    tops.quote(6, OTHER)
    tops.quote(7, TOP)
    assert tops.book(7, TOP) is True
    assert tops.book(8, TOP) is None


def test_a_book_with_an_empty_side_has_no_top_to_compare() -> None:
    tops = TopCheck()
    tops.quote(7, TOP)
    assert tops.book(7, None) is None


def test_a_distrusted_book_is_forgotten_but_quotes_wait_on() -> None:
    tops = TopCheck()
    tops.book(6, OTHER)
    tops.quote(9, TOP)
    tops.forget_book()
    assert tops.quote(6, TOP) is None  # nothing to compare it with any more
    tops = TopCheck()
    tops.quote(9, TOP)
    tops.forget_book()
    assert tops.book(9, TOP) is True


def test_waiting_quotes_are_bounded_and_the_oldest_go() -> None:
    tops = TopCheck()
    for seq in range(PENDING_QUOTES + 1):
        tops.quote(seq, TOP)
    assert tops.book(0, OTHER) is None
    assert tops.book(PENDING_QUOTES, TOP) is True


def test_remembered_tops_are_bounded_and_the_oldest_go() -> None:
    tops = TopCheck()
    for seq in range(RECENT_TOPS + 1):
        tops.book(seq, TOP)
    assert tops.quote(0, TOP) is None
    tops.reset()
    for seq in range(RECENT_TOPS + 1):
        tops.book(seq, TOP)
    assert tops.quote(1, TOP) is True
