"""Frames that can't be parsed: what is kept of them, how many, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from hypothesis import given
from hypothesis import strategies as st

from streams import frame_letters
from streams.frame_letters import (
    RAW_BYTES_MAX,
    Allowance,
    FrameLetters,
    LetterQueue,
    letter_of,
)
from streams.sources import RefusedFrame
from tapeline.errors import FrameError
from tapeline.kafka_access import KafkaAccess
from tests.support.bridge import until

TOPIC = "md.events.v1"
NOW_MS = 1_800_000_000_000


def refused(raw: str | bytes = "{rubbish", frame: int = 7) -> RefusedFrame:
    return RefusedFrame(raw, FrameError("not my dialect"), NOW_MS, "c2", frame)


def headers(raw: str | bytes) -> dict[str, str]:
    letter = letter_of("kraken", TOPIC, refused(raw))
    return {name: value.decode() for name, value in letter.headers}


def test_a_letter_says_what_was_wrong_and_where_it_came() -> None:
    assert headers("{rubbish") == {
        "error": "FrameError",
        "message": "not my dialect",
        "topic": TOPIC,
        "venue": "kraken",
        "ts_recv_ms": str(NOW_MS),
        "conn": "c2",
        "frame": "7",
    }


def test_a_rest_reply_is_told_by_its_path() -> None:
    reply = RefusedFrame(b"<html>", FrameError("no JSON"), NOW_MS, path="/depth?symbol=X")
    told = dict(letter_of("kraken", TOPIC, reply).headers)
    assert told["path"] == b"/depth?symbol=X"
    assert not told.keys() & {"conn", "frame"}


@pytest.mark.parametrize("raw", [b"\xff\x00\x1b[2J", "\x1b[2J\u20ac", "", b""])
def test_bytes_are_kept_as_they_came(raw: str | bytes) -> None:
    value = letter_of("kraken", TOPIC, refused(raw)).value
    assert value == (raw if isinstance(raw, bytes) else raw.encode())
    assert "truncated" not in headers(raw)


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        ("x" * RAW_BYTES_MAX, 0),
        ("x" * (RAW_BYTES_MAX + 1), RAW_BYTES_MAX + 1),
        (b"x" * (RAW_BYTES_MAX + 5), RAW_BYTES_MAX + 5),
        ("\u20ac" * RAW_BYTES_MAX, 3 * RAW_BYTES_MAX),
    ],
)
def test_a_long_frame_keeps_its_beginning_and_its_length(raw: str | bytes, length: int) -> None:
    letter = letter_of("kraken", TOPIC, refused(raw))
    whole = raw if isinstance(raw, bytes) else raw.encode()
    assert letter.value == whole[:RAW_BYTES_MAX]
    assert headers(raw).get("truncated", "0") == str(length)


@given(st.lists(st.integers(0, 2_000), max_size=200))
def test_an_allowance_is_never_exceeded(steps_ms: list[int]) -> None:
    """In no stretch of time pass more than the burst and what was earned meanwhile."""
    allowance, now_ms, passed = Allowance(5.0, 10), 0, []
    for step_ms in steps_ms:
        now_ms += step_ms
        if allowance.spend(now_ms):
            passed.append(now_ms)
    for n, begin_ms in enumerate(passed):
        for m, end_ms in enumerate(passed[n:], 1):
            assert m <= 10 + (end_ms - begin_ms) / 1_000 * 5.0 + 1e-6


def test_one_venues_rubbish_takes_nothing_of_anothers_share() -> None:
    queue = LetterQueue(TOPIC, per_second=1, burst=3)
    assert [queue.put("kraken", refused(), 0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert queue.put("binance", refused(), 0)
    assert queue.put("kraken", refused(), 1_000)
    assert queue.dropped == {("kraken", "rate"): 2}


def test_what_does_not_fit_is_counted() -> None:
    by_number = LetterQueue(TOPIC, letters_max=2)
    assert [by_number.put("kraken", refused(), 0) for _ in range(3)] == [True, True, False]
    by_bytes = LetterQueue(TOPIC, bytes_max=20)
    assert [by_bytes.put("kraken", refused("0123456789"), 0) for _ in range(3)] == [
        True,
        True,
        False,
    ]
    assert by_number.dropped == by_bytes.dropped == {("kraken", "full"): 1}
    by_bytes.written([True])
    assert by_bytes.put("kraken", refused("0123456789"), 0)


def test_what_is_given_up_is_counted() -> None:
    queue = LetterQueue(TOPIC)
    queue.put("kraken", refused(), 0)
    queue.put("kraken", refused(), 0)
    queue.written([True])
    assert queue.give_up() == 1
    assert (queue.kept, queue.dropped) == ({"kraken": 1}, {("kraken", "shutdown"): 1})
    assert (len(queue), queue.bytes) == (0, 0)


# --- to the broker -------------------------------------------------------------------------------


class FakeProducer:
    """Keeps what it is sent; fails or hangs on demand.

    Attributes:
        start_errors: Raised by the next starts.
        send_errors: Raised in place of the next acknowledgements; None for none.
        known: Whether the broker has the topic.
        hang: No answer comes.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, dict[str, str]]] = []
        self.start_errors: list[Exception] = []
        self.send_errors: list[Exception | None] = []
        self.known = True
        self.hang = False
        self.starts = 0
        self.client = self

    async def start(self) -> None:
        self.starts += 1
        if self.start_errors:
            raise self.start_errors.pop(0)

    async def stop(self) -> None: ...

    async def fetch_all_metadata(self) -> FakeProducer:
        return self

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0} if self.known else None

    async def send(
        self, topic: str, value: bytes, *, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.hang:
            return future
        error = self.send_errors.pop(0) if self.send_errors else None
        if error is not None:
            future.set_exception(error)
            return future
        self.sent.append((topic, value, {name: text.decode() for name, text in headers}))
        future.set_result(None)
        return future


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    made = FakeProducer()
    monkeypatch.setattr(frame_letters, "_producer", lambda *_: made)
    monkeypatch.setattr(
        frame_letters, "_PATIENCE", frame_letters.Timing(backoff=0.01, backoff_max=0.02)
    )
    return made


@asynccontextmanager
async def writing() -> AsyncIterator[FrameLetters]:
    letters = FrameLetters(
        access=KafkaAccess(("x:1",)), topic=TOPIC, client_id="t", monotonic_ms=lambda: 0
    )
    task = asyncio.create_task(letters.run())
    try:
        yield letters
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_letters_reach_the_topic_beside_the_events(producer: FakeProducer) -> None:
    async with writing() as letters:
        await asyncio.sleep(0)
        assert producer.starts == 0, "nothing is opened before there is a letter"
        for n in range(3):
            letters.keep("kraken", refused(f"rubbish {n}", n))
        await letters.drained()
        letters.keep("kraken", refused("more"))
        await letters.drained()
    assert [(topic, value) for topic, value, _ in producer.sent] == [
        (f"{TOPIC}.dlq", b"rubbish 0"),
        (f"{TOPIC}.dlq", b"rubbish 1"),
        (f"{TOPIC}.dlq", b"rubbish 2"),
        (f"{TOPIC}.dlq", b"more"),
    ]
    assert letters.queue.kept == {"kraken": 4}
    assert producer.starts == 1


async def test_an_outage_is_waited_out(producer: FakeProducer) -> None:
    producer.start_errors = [KafkaConnectionError("away"), AssertionError("a fault of theirs")]
    producer.send_errors = [KafkaConnectionError("away again")]
    async with writing() as letters:
        letters.keep("kraken", refused())
        async with asyncio.timeout(3):
            await letters.drained()
    assert len(producer.sent) == 1
    assert producer.starts == 4


async def test_a_missing_topic_is_never_created_by_the_way(producer: FakeProducer) -> None:
    producer.known = False
    async with writing() as letters:
        letters.keep("kraken", refused())
        await until(lambda: producer.starts > 2)
        assert (producer.sent, len(letters.queue)) == ([], 1)
        producer.known = True
        await letters.drained()


async def test_one_that_the_broker_refuses_does_not_hold_up_the_others(
    producer: FakeProducer,
) -> None:
    producer.send_errors = [MessageSizeTooLargeError(), None]
    async with writing() as letters:
        letters.keep("kraken", refused("too large"))
        letters.keep("kraken", refused("fine"))
        await letters.drained()
    assert [value for _, value, _ in producer.sent] == [b"fine"]
    assert letters.queue.dropped == {("kraken", "refused"): 1}


async def test_a_broker_that_hangs_costs_letters_only(producer: FakeProducer) -> None:
    """Whoever brings a frame never waits: all of it is over before the loop turns once."""
    producer.hang = True
    async with writing() as letters:
        for _ in range(2_000):
            letters.keep("kraken", refused())
        queue = letters.queue
        assert len(queue) == frame_letters.BURST
        assert queue.dropped["kraken", "rate"] == 2_000 - frame_letters.BURST
