"""Records that can't be applied: kept as they were, and never passed by before they are safe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError

from agents import dead_letters
from agents.dead_letters import DeadLetters, headers_of
from agents.metrics import Metrics
from tapeline.errors import MalformedRecord, UnknownVersion


class Raw(NamedTuple):
    offset: int = 17
    key: bytes | None = b"BTCUSDT"
    value: bytes | None = b"\xff not json"


Fail = Callable[[bytes | None], BaseException | None]


class FakeProducer:
    """Notes what it is sent; ``fail`` says what a send, or its acknowledgement, ends in."""

    def __init__(self, fail_send: Fail | None = None, fail_ack: Fail | None = None) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self._fail_send, self._fail_ack = fail_send, fail_ack

    async def send(self, *arguments: Any) -> asyncio.Future[None]:
        value = arguments[2]
        error = self._fail_send(value) if self._fail_send else None
        if error is not None:
            raise error
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        error = self._fail_ack(value) if self._fail_ack else None
        if error is None:
            self.sent.append(arguments)
            future.set_result(None)
        else:
            future.set_exception(error)
        return future


def letters(producer: FakeProducer) -> DeadLetters:
    return DeadLetters(lambda: producer, "md.events.v1", Metrics())


def once(error: BaseException) -> Fail:
    """Fails the first time only."""
    errors = [error]
    return lambda _value: errors.pop() if errors else None


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "RETRY_SECONDS", 0)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (MalformedRecord("px: expected int"), "malformed"),
        (UnknownVersion(9), "unknown_version"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError"),
    ],
)
def test_the_headers_say_what_and_where(error: Exception, word: str) -> None:
    """One word for machines, a sentence for people, and the record's place."""
    assert dict(headers_of(Raw(), "md.events.v1", 3, error)) == {
        "error": word.encode(),
        "message": str(error).encode(),
        "topic": b"md.events.v1",
        "partition": b"3",
        "offset": b"17",
    }


def test_a_message_is_cut() -> None:
    """It may quote a value of any length."""
    headers = dict(headers_of(Raw(), "t", 3, ValueError("x" * 10_000)))
    assert len(headers["message"]) == 500


async def test_key_and_value_are_kept_as_they_were() -> None:
    """Missing ones included."""
    producer = FakeProducer()
    metrics = Metrics()
    keeper = DeadLetters(lambda: producer, "md.events.v1", metrics)
    error = MalformedRecord("no")
    await keeper.keep(3, [(Raw(), error), (Raw(offset=18, key=None, value=None), error)])
    assert [sent[:5] for sent in producer.sent] == [
        ("md.events.v1.dlq", b"BTCUSDT", b"\xff not json", None, None),
        ("md.events.v1.dlq", None, None, None, None),
    ]
    counted = metrics.registry.get_sample_value(
        "tapeline_dead_letters_total", {"reason": "malformed"}
    )
    assert counted == 2


@pytest.mark.parametrize("where", ["fail_send", "fail_ack"])
async def test_what_the_broker_did_not_take_is_sent_again(where: str) -> None:
    """And only that."""
    failing = once(KafkaConnectionError("away") if where == "fail_ack" else ProducerSendError("x"))
    producer = FakeProducer(**{where: lambda value: failing(value) if value == b"2" else None})
    error = MalformedRecord("no")
    records = [Raw(offset=n, value=str(n).encode()) for n in (1, 2, 3)]
    await letters(producer).keep(3, [(record, error) for record in records])
    assert [sent[2] for sent in producer.sent] == [b"1", b"3", b"2"]


@pytest.mark.parametrize("wrapped", [True, False])
async def test_one_at_the_size_limit_is_kept_by_its_place(wrapped: bool) -> None:
    """Its bytes do not fit beside our headers; without a way out it would stop the partition."""

    def too_large(value: bytes | None) -> BaseException | None:
        if value is None:
            return None
        cause: BaseException = MessageSizeTooLargeError()
        error: BaseException = ProducerSendError("refused")
        error.__cause__ = cause
        return error if wrapped else cause

    producer = FakeProducer(**{"fail_send" if wrapped else "fail_ack": too_large})
    await letters(producer).keep(3, [(Raw(), MalformedRecord("no"))])
    ((_, key, value, _, _, headers),) = producer.sent
    assert (key, value) == (b"BTCUSDT", None)
    assert ("omitted", b"value") in headers
    assert ("offset", b"17") in headers


async def test_what_is_not_the_brokers_doing_is_raised() -> None:
    """A mistake of ours must not be tried for ever in silence."""
    with pytest.raises(TypeError):
        await letters(FakeProducer(fail_send=once(TypeError("ours")))).keep(
            [(Raw(), MalformedRecord("no"))]
        )
