"""The control topics as a bridge has them: commands in, answers and the set of subscriptions out.

No consumer group: every bridge reads every command, from where the set that is kept on the broker
ends. A broker without these topics has no commands to read, and the bridge follows ``SYMBOLS``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.commands import RoutingState, decode_state
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

FETCH_WAIT_MS: Final = 100
"""Kafka answers at once whatever this is; Tansu after half of it."""

POLL_MS: Final = 500
RETRY_S: Final = 1.0
MISSING_S: Final = 5.0
"""Between two looks for topics that are not there."""

WAITING_MAX: Final = 10_000
"""Records to be written that are kept while the broker is away; beyond, the oldest are dropped."""

CLOSE_S: Final = 1.0

log = get_logger("control")

Headers = tuple[tuple[str, bytes], ...]


class Record(NamedTuple):
    """A command as it came."""

    offset: int
    key: bytes | None
    value: bytes | None


class ControlSink(Protocol):
    """Who acts on commands."""

    @property
    def applied(self) -> int:
        """Offset of the newest command that was taken; -1 before any."""
        ...

    def restored(self, state: RoutingState) -> None:
        """The set as it was kept, before any command is read."""
        ...

    def commands(self, records: Sequence[Record]) -> None:
        """Commands, in order."""
        ...


class _Owed(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class ControlLog:
    """Reads the command topic, writes what there is to say.

    Attributes:
        ready: Set when all commands that there were at the start have been taken, or there is no
            such topic.
        lost: Records that could not be written.
    """

    def __init__(
        self,
        sink: ControlSink,
        *,
        access: KafkaAccess,
        commands: str,
        routing: str,
        client_id: str,
    ) -> None:
        """Nothing is opened yet.

        Args:
            sink: Told of the set as it was kept, then of commands.
            access: The brokers.
            commands: The topic of commands, of one partition.
            routing: The topic where the set is kept.
            client_id: As seen by the broker.
        """
        self.ready = asyncio.Event()
        self.lost = 0
        self._sink = sink
        self._access, self._client_id = access, client_id
        self._commands, self._routing = commands, routing
        self._restored = False
        self._told = ""
        self._there: set[str] = set()
        self._owed: deque[_Owed] = deque()
        self._wake = asyncio.Event()

    def write(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        """Write a record as soon as that can be done."""
        if len(self._owed) >= WAITING_MAX:
            self._owed.popleft()
            self.lost += 1
        self._owed.append(_Owed(topic, key, value, headers))
        self._wake.set()

    async def run(self) -> None:
        """Follow the commands until cancelled."""
        while True:
            try:
                await self._session()
            except* (KafkaError, OSError, TimeoutError) as group:
                error = group.exceptions[0]
                self._tell("control.unavailable", str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _session(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._access.arguments(),
            client_id=f"{self._client_id}-control",
            enable_auto_commit=False,
            # Commands that retention has removed, or a topic made anew: begin with what there is.
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            # Of all topics: asked about one by name, some brokers create it.
            self._there = set(await consumer.topics())
            if self._commands not in self._there:
                self._tell("control.no_topic", f"no topic {self._commands}")
                self.ready.set()
                await asyncio.sleep(MISSING_S)
                return
            await self._restore(consumer)
            self._tell("", "")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(consumer), name="control-read")
                group.create_task(self._write(), name="control-write")
        finally:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await consumer.stop()

    def _tell(self, event: str, error: str) -> None:
        if event and event != self._told:
            log.warning(event, servers=[*self._access.servers], error=error)
        elif not event and self._told:
            log.info("control.available")
        self._told = event

    async def _restore(self, consumer: Any) -> None:
        """The newest set that was kept, once: later on, ours is as new as any."""
        if self._restored:
            return
        newest: RoutingState | None = None
        if self._routing in self._there:
            tp = TopicPartition(self._routing, 0)
            async for records in self._to_the_end(consumer, tp, 0):
                newest = next(
                    (s for r in reversed(records) if (s := decode_state(r.value))), newest
                )
        if newest is not None:
            self._sink.restored(newest)
        self._restored = True

    async def _read(self, consumer: Any) -> None:
        tp = TopicPartition(self._commands, 0)
        async for records in self._to_the_end(consumer, tp, self._sink.applied + 1):
            self._take(records)
        self.ready.set()
        while True:
            for records in (await consumer.getmany(tp, timeout_ms=POLL_MS)).values():
                self._take(records)

    def _take(self, records: Sequence[Any]) -> None:
        self._sink.commands([Record(r.offset, r.key, r.value) for r in records])

    async def _to_the_end(self, consumer: Any, tp: TopicPartition, start: int) -> Any:
        """Records of a partition, from ``start`` to where it ends now."""
        consumer.assign([tp])
        (begin,) = (await consumer.beginning_offsets([tp])).values()
        (end,) = (await consumer.end_offsets([tp])).values()
        # Beyond its end: the topic was made anew, and all of it is to be read.
        consumer.seek(tp, start if begin <= start <= end else begin)
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(tp, timeout_ms=POLL_MS)).values():
                yield records

    async def _write(self) -> None:
        producer = AIOKafkaProducer(
            **self._access.arguments(), client_id=f"{self._client_id}-control", acks="all"
        )
        try:
            await producer.start()
            while True:
                while self._owed:
                    await self._send(producer, self._owed[0])
                    self._owed.popleft()
                self._wake.clear()
                await self._wake.wait()
        finally:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await producer.stop()

    async def _send(self, producer: Any, owed: _Owed) -> None:
        if owed.topic not in self._there:
            self.lost += 1
            self._tell("control.no_topic", f"no topic {owed.topic}")
            return
        await producer.send_and_wait(owed.topic, owed.value, owed.key, headers=[*owed.headers])
