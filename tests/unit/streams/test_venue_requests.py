"""Requests owed: each once, later after a refusal, never a flood."""

from __future__ import annotations

from streams.venues.base import HttpRequest
from streams.venues.requests import (
    BACKOFF_MAX_MS,
    BACKOFF_MS,
    FREE_REPEATS,
    REPEAT_MS,
    REPEAT_WINDOW_MS,
    RequestQueue,
)

BTC = HttpRequest("snapshot", "/depth?symbol=BTCUSDT", "BTCUSDT", 50)
ETH = HttpRequest("snapshot", "/depth?symbol=ETHUSDT", "ETHUSDT", 50)


def waits(queue: RequestQueue) -> list[int]:
    return [request.not_before_ms for request in queue.take()]


def test_a_request_is_returned_once() -> None:
    queue = RequestQueue()
    queue.owe(BTC, 1_000)
    assert queue.take() == [BTC]
    assert queue.take() == []


def test_the_same_question_is_not_asked_twice_at_a_time() -> None:
    """Neither while it is owed nor while the answer is on its way."""
    queue = RequestQueue()
    queue.owe(BTC, 1_000)
    queue.owe(BTC, 1_000)
    assert len(queue.take()) == 1
    queue.owe(BTC, 2_000)
    assert queue.take() == []
    assert queue.settle(BTC)
    queue.owe(BTC, 3_000)
    assert len(queue.take()) == 1


def test_an_answer_nobody_waits_for_is_told_so() -> None:
    queue = RequestQueue()
    assert not queue.settle(BTC)
    queue.owe(BTC, 1_000)
    queue.take()
    queue.forget()
    assert not queue.settle(BTC)


def test_failures_in_a_row_wait_twice_as_long_up_to_a_minute() -> None:
    queue = RequestQueue()
    queue.owe(BTC, 0)
    queue.take()
    expected = [min(BACKOFF_MS * 2**n, BACKOFF_MAX_MS) for n in range(10)]
    seen = []
    for _ in expected:
        assert queue.settle(BTC)
        queue.fail(BTC, 0)
        seen += waits(queue)
    assert seen == expected
    queue.settle(BTC)
    queue.succeed(BTC)
    queue.fail(BTC, 0)
    assert waits(queue) == [BACKOFF_MS]


def test_retry_after_is_heeded_where_it_is_longer() -> None:
    queue = RequestQueue()
    queue.fail(BTC, 5_000, 30)
    assert waits(queue) == [35_000]
    queue.fail(ETH, 5_000, 0.1)
    assert waits(queue) == [6_000]


def test_a_ban_holds_back_every_request() -> None:
    """The venue counts by address, not by symbol."""
    queue = RequestQueue()
    queue.owe(ETH, 0)
    queue.fail(BTC, 0, 120, barred=True)
    assert waits(queue) == [120_000, 120_000]
    queue.forget()
    queue.owe(ETH, 1_000)
    assert waits(queue) == [120_000]


def test_a_question_asked_again_and_again_is_slowed_down() -> None:
    """A book that can't be synced must not eat the budget of the others."""
    queue = RequestQueue()
    now_ms, delays = 0, []
    for _ in range(FREE_REPEATS + 4):
        queue.owe(BTC, now_ms)
        (request,) = queue.take()
        delays.append(max(0, request.not_before_ms - now_ms))
        queue.settle(request)
    assert delays == [0] * FREE_REPEATS + [REPEAT_MS * 2**n for n in range(4)]
    queue.owe(BTC, now_ms + REPEAT_WINDOW_MS + 1)
    assert waits(queue) == [0]
