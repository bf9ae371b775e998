"""What a worker writes beside its changelog: merged windows, telemetry. Never in the way of records.

Records wait here, in order, until the broker has them. Where it is away for long the oldest are
dropped, and counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from tapeline.logging import get_logger

WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
WAITING_MAX: Final = 10_000
AT_ONCE: Final = 100
RETRY_S: Final = 1.0
FLUSH_S: Final = 1.0

log = get_logger("side_topics")


class _Waiting(NamedTuple):
    topic: str
    key: bytes
    value: bytes


class SideTopics:
    """A bounded queue, and what empties it into Kafka.

    Attributes:
        written, dropped: Records, by topic.
    """

    def __init__(self, producer: Callable[[], Any]) -> None:
        """Nothing is written before `run`; ``producer`` is the application's."""
        self.written: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._producer = producer
        self._there: Collection[str] | None = None
        self._missing: set[str] = set()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._away = False

    def known(self, topics: Collection[str]) -> None:
        """The broker has these topics: asked about another, it would be waited for, or created."""
        self._there = topics

    def put(self, topic: str, key: bytes, value: bytes) -> None:
        """Queue one record."""
        if self._there is not None and topic not in self._there:
            self.dropped[topic] += 1
            if topic not in self._missing:
                self._missing.add(topic)
                log.error("topic.missing", topic=topic, error="run: tapeline topics apply")
            return
        self._waiting.append(_Waiting(topic, key, value))
        self._bytes += len(value)
        while self._bytes > WAITING_BYTES_MAX or len(self._waiting) > WAITING_MAX:
            self.dropped[self._pop().topic] += 1
        self._wake.set()

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if not await self._write():
                    await asyncio.sleep(RETRY_S)

    async def flush(self) -> None:
        """Write what is queued, as far as the broker takes it in time: at a stop, behind `run`."""
        try:
            async with asyncio.timeout(FLUSH_S):
                while self._waiting and await self._write():
                    pass
        except TimeoutError:
            pass
        if self._waiting:
            log.warning("side_topics.not_written", records=len(self._waiting))

    def _pop(self) -> _Waiting:
        record = self._waiting.popleft()
        self._bytes -= len(record.value)
        return record

    async def _write(self) -> bool:
        """The oldest ones, together; those that are refused stay, and what is behind them."""
        batch = [self._waiting[n] for n in range(min(AT_ONCE, len(self._waiting)))]
        try:
            sent = [await self._producer().send(*record, None, None, None) for record in batch]
            await asyncio.gather(*sent)
        except (KafkaError, ProducerSendError, OSError) as error:
            if not self._away:
                self._away = True
                log.warning(
                    "side_topics.not_written", records=len(self._waiting), error=repr(error)
                )
            return False
        self._away = False
        for record in batch:
            # Others may have been dropped meanwhile.
            if self._waiting and self._waiting[0] is record:
                self._pop()
            self.written[record.topic] += 1
        return True
