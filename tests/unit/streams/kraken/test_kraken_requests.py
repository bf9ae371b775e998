"""What is asked again: once at a time, ever more seldom, and not only once."""

from __future__ import annotations

from streams.venues.kraken.requests import (
    ANSWER_WITHIN_MS,
    BACKOFF_MAX_MS,
    FREE_REPEATS,
    NEVER_MS,
    REPEAT_MS,
    REPEAT_WINDOW_MS,
    Resubscriptions,
)

BTC, ETH = ("book", "BTC/USD"), ("book", "ETH/USD")


def test_what_is_owed_is_taken_once_and_not_owed_again_before_its_answer() -> None:
    asks = Resubscriptions()
    asks.owe(BTC, 1_000)
    asks.owe(BTC, 1_000)
    assert asks.next_ms == 1_000
    assert asks.take(1_000) == ([BTC], [])
    asks.owe(BTC, 1_500)
    assert asks.take(1_500) == ([], [])
    asks.settle(BTC)
    asks.owe(BTC, 2_000)
    assert asks.take(2_000) == ([BTC], [])


def test_an_answer_that_does_not_come_is_overdue_once() -> None:
    asks = Resubscriptions()
    asks.expect(BTC, 1_000)
    asks.owe(ETH, 1_000)
    asks.take(1_000)
    assert asks.next_ms == 1_000 + ANSWER_WITHIN_MS
    assert asks.take(1_000 + ANSWER_WITHIN_MS) == ([], [BTC, ETH])
    assert asks.take(2_000 + ANSWER_WITHIN_MS) == ([], [])
    assert asks.next_ms == NEVER_MS


def test_a_failing_one_waits_twice_as_long_each_time_and_no_other_does() -> None:
    asks, now_ms, waits = Resubscriptions(), 1_000, []
    for _ in range(FREE_REPEATS + 5):
        asks.owe(BTC, now_ms)
        waits.append(asks.next_ms - now_ms)
        now_ms = asks.next_ms
        asks.take(now_ms)
        asks.settle(BTC)
    assert waits == [0] * FREE_REPEATS + [REPEAT_MS << n for n in range(5)]
    asks.owe(ETH, now_ms)
    assert asks.next_ms == now_ms


def test_the_wait_has_an_end_and_is_forgotten_after_calm() -> None:
    asks = Resubscriptions()
    for _ in range(40):
        asks.owe(BTC, 1_000)
        asks.settle(BTC)
    asks.owe(BTC, 1_000)
    assert asks.next_ms == 1_000 + BACKOFF_MAX_MS
    asks.settle(BTC)
    calm_ms = 1_001 + BACKOFF_MAX_MS + REPEAT_WINDOW_MS
    asks.owe(BTC, calm_ms)
    assert asks.next_ms == calm_ms


def test_a_wait_that_is_asked_for_is_kept() -> None:
    asks = Resubscriptions()
    asks.owe(BTC, 1_000, 700)
    assert asks.take(1_699) == ([], [])
    assert asks.take(1_700) == ([BTC], [])


def test_without_a_socket_nothing_is_owed_but_how_often_is_remembered() -> None:
    asks = Resubscriptions()
    for _ in range(FREE_REPEATS):
        asks.owe(BTC, 1_000)
        asks.take(1_000)
        asks.forget()
    assert asks.next_ms == NEVER_MS
    asks.owe(BTC, 1_000)
    assert asks.next_ms == 1_000 + REPEAT_MS
