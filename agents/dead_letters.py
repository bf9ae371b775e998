"""Records that can't be applied are kept: raw bytes, with the error and the position beside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Final

from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError

from agents.batches import RawRecord
from agents.metrics import Metrics
from streams.topics import dead_letters_of
from tapeline.errors import RecordError
from tapeline.logging import get_logger

_MESSAGE_MAX = 500
_LOGGED_PER_BATCH = 3
RETRY_SECONDS: Final = 1.0

log = get_logger("dead_letters")


def headers_of(
    record: RawRecord, topic: str, partition: int, error: Exception
) -> list[tuple[str, bytes]]:
    """Where the record was, and why it is here."""
    code = error.code if isinstance(error, RecordError) else type(error).__name__
    fields = {
        "error": code,
        "message": str(error)[:_MESSAGE_MAX],
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
    }
    return [(name, str(value).encode()) for name, value in fields.items()]


class DeadLetters:
    """Writes to the dead-letter topic, and waits until the broker has it.

    Until then the batch is not done, so its offsets can't be committed: a record is in the
    state, in the dead-letter topic, or still ahead of the committed offset.

    Attributes:
        refused: Why records that wait are not taken; empty while none is refused.
    """

    def __init__(self, producer: Any, topic: str, metrics: Metrics, letters: str = "") -> None:
        self._producer = producer
        self._topic = topic
        self._letters = letters or dead_letters_of(topic)
        self._metrics = metrics
        self.refused = ""

    async def keep(self, partition: int, failures: Iterable[tuple[RawRecord, Exception]]) -> None:
        """Write each record as it was, under its own key; ends when the broker has them all."""
        waiting = [(r, headers_of(r, self._topic, partition, error)) for r, error in failures]
        for nth, (record, headers) in enumerate(waiting):
            told = {name: value.decode() for name, value in headers}
            self._metrics.dead_letters.labels(told["error"]).inc()
            if nth < _LOGGED_PER_BATCH:
                log.error(
                    "record.dead_letter",
                    symbol=(record.key or b"").decode("utf-8", "replace"),
                    partition=partition,
                    offset=record.offset,
                    reason=told["error"],
                    error=told["message"],
                )
        while waiting:
            answers = await asyncio.gather(
                *(self._write(record, headers) for record, headers in waiting),
                return_exceptions=True,
            )
            refused = [
                (entry, answer)
                for entry, answer in zip(waiting, answers, strict=True)
                if isinstance(answer, BaseException)
            ]
            for _, answer in refused:
                if not isinstance(answer, KafkaError | ProducerSendError):
                    raise answer
            waiting = [entry for entry, _ in refused]
            self.refused = repr(refused[0][1]) if refused else ""
            if waiting:
                log.error("dead_letters.refused", records=len(waiting), error=repr(refused[0][1]))
                await asyncio.sleep(RETRY_SECONDS)

    async def _write(self, record: RawRecord, headers: list[tuple[str, bytes]]) -> None:
        try:
            await self._send(record.key, record.value, headers)
        except (KafkaError, ProducerSendError) as error:
            if not isinstance(error.__cause__ or error, MessageSizeTooLargeError):
                raise
            # At the size limit already without our headers. They say where it is.
            await self._send(record.key, None, [*headers, ("omitted", b"value")])

    async def _send(
        self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        sent: Awaitable[Any] = await self._producer().send(
            self._letters, key, value, None, None, headers
        )
        await sent
