"""Books asked for anew: at once, later when often, and again when nothing comes."""

from __future__ import annotations

from streams.venues.coinbase.asks import ANSWER_WITHIN_MS, Asks
from streams.venues.requests import FREE_REPEATS, REPEAT_MS, REPEAT_WINDOW_MS


def test_one_at_a_time_in_the_order_they_were_owed() -> None:
    asks = Asks()
    for name in ("A", "B", "A"):
        asks.owe(name, 0)
    assert [asks.take(0), asks.take(0), asks.take(0)] == ["A", "B", None]


def test_what_is_owed_again_and_again_waits_twice_as_long_each_time() -> None:
    asks = Asks()
    for _ in range(FREE_REPEATS):
        asks.owe("A", 0)
        assert asks.take(0) == "A"
    for wait_ms in (REPEAT_MS, 2 * REPEAT_MS):
        asks.owe("A", 0)
        assert asks.take(wait_ms - 1) is None
        assert asks.take(wait_ms) == "A"
    asks.owe("A", REPEAT_WINDOW_MS + 1)
    assert asks.take(REPEAT_WINDOW_MS + 1) == "A"


def test_one_that_waits_holds_up_no_other() -> None:
    asks = Asks()
    for _ in range(FREE_REPEATS):
        asks.owe("A", 0)
        asks.take(0)
    asks.owe("A", 0)
    asks.owe("B", 0)
    assert asks.take(0) == "B"


def test_a_snapshot_that_does_not_come_is_overdue_once() -> None:
    asks = Asks()
    asks.owe("A", 0)
    asks.take(0)
    assert asks.overdue(ANSWER_WITHIN_MS - 1) == []
    assert asks.overdue(ANSWER_WITHIN_MS) == ["A"]
    assert asks.overdue(10 * ANSWER_WITHIN_MS) == []


def test_each_snapshot_that_comes_gives_the_others_more_time() -> None:
    asks = Asks()
    for name in ("A", "B"):
        asks.expect(name, 0)
    asks.settle("A", 10_000)
    assert asks.overdue(10_000 + ANSWER_WITHIN_MS - 1) == []
    assert asks.overdue(10_000 + ANSWER_WITHIN_MS) == ["B"]


def test_one_owed_again_is_not_waited_for_meanwhile() -> None:
    """Its answer may be among what was lost; it is late only after it has been asked for anew."""
    asks = Asks()
    asks.expect("A", 0)
    asks.owe("A", 1_000)
    assert asks.overdue(ANSWER_WITHIN_MS) == []
    assert asks.take(ANSWER_WITHIN_MS) == "A"
    assert asks.overdue(2 * ANSWER_WITHIN_MS) == ["A"]


def test_what_is_settled_dropped_or_forgotten_is_asked_for_no_more() -> None:
    asks = Asks()
    for done in (lambda: asks.settle("A", 0), lambda: asks.drop("A"), asks.forget):
        asks.owe("A", 0)
        done()
        assert asks.take(REPEAT_WINDOW_MS) is None
        asks.expect("A", 0)
        done()
        assert asks.overdue(ANSWER_WITHIN_MS) == []
