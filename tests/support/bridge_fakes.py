"""Kafka and Redis as the bridge sees them, for tests that need neither to be real."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import KafkaTimeoutError, OutOfOrderSequenceNumber
from redis.exceptions import ConnectionError as RedisConnectionError

from lua import AcquireCode, Acquired, Keys, LeaseKeys, ReleaseCode, RenewCode


class FakeBroker:
    """What all producers of a test write to.

    Attributes:
        log: Values by partition, as written.
        headers: Of each value written.
        faults: Outcomes of the next batches: an exception, or ``"lost answer"`` for one that
            was written and fails all the same, or ``"hang"``.
        start_errors: Raised by the next starts.
        partitions: Of the topic; 0 for no topic.
        stubborn: A producer's batches are not even failed when it is told to.
    """

    def __init__(self, partitions: int) -> None:
        self.log: dict[int, list[bytes]] = {}
        self.headers: dict[bytes, Sequence[Any]] = {}
        self.faults: list[Any] = []
        self.start_errors: list[Exception] = []
        self.partitions = partitions
        self.producers: list[FakeProducer] = []
        self.idempotent: list[bool] = []
        self.stubborn = False

    def producer(self, _: Any, __: str, *, idempotent: bool) -> FakeProducer:
        self.idempotent.append(idempotent)
        made = FakeProducer(self)
        self.producers.append(made)
        return made


class FakeBatch:
    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.headers: dict[bytes, Sequence[Any]] = {}

    def append(
        self, *, key: bytes, value: bytes, timestamp: None, headers: Sequence[Any] = ()
    ) -> object | None:
        if len(self.values) == 3:
            return None
        self.values.append(value)
        self.headers[value] = headers
        return object()


class FakeProducer:
    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.client = self
        self.flying: list[asyncio.Future[Any]] = []
        self.stopped = self.failed_all = False
        self._message_accumulator = self

    async def start(self) -> None:
        if self.broker.start_errors:
            raise self.broker.start_errors.pop(0)

    async def stop(self) -> None:
        if self.stopped:
            return
        if self.flying:
            await asyncio.wait(self.flying)
        self.stopped = True

    async def close(self) -> None: ...

    def fail_all(self, error: Exception) -> None:
        self.failed_all = True
        if self.broker.stubborn:
            return
        for future in self.flying:
            if not future.done():
                future.set_exception(error)

    async def fetch_all_metadata(self) -> FakeProducer:
        return self

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {*range(self.broker.partitions)} or None

    async def add_topic(self, topic: str) -> None: ...

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(
        self, batch: FakeBatch, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        fault = self.broker.faults.pop(0) if self.broker.faults else None
        if fault == "send":
            raise KafkaTimeoutError
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.flying.append(future)
        if fault is None or fault == "lost answer":
            self.broker.log.setdefault(partition, []).extend(batch.values)
            self.broker.headers |= batch.headers
        if fault is None:
            future.set_result(None)
        elif fault == "lost answer":
            future.set_exception(OutOfOrderSequenceNumber())
        elif fault != "hang":
            future.set_exception(fault)
        return future


class FakeScripts:
    """Redis as the scripts see it: who holds what; away on demand."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.held: dict[str, str] = {}
        self.token = 100
        self.away = False
        self.floors: list[int] = []
        self.renewals = 0
        self.pttl_ms = 900
        self.error: Exception | None = None

    async def acquire_many(
        self, wishes: Sequence[tuple[LeaseKeys, int, str]], node: str, incarnation: str, ttl_ms: int
    ) -> list[Any]:
        self._reach()
        answers: list[Any] = []
        for keys, floor, _ in wishes:
            self.floors.append(floor)
            if self.error is not None:
                answers.append(self.error)
                continue
            if keys.lease in self.held:
                answers.append(
                    Acquired(AcquireCode.HELD, 1, self.held[keys.lease], self.pttl_ms, 0, 0)
                )
                continue
            self.token = max(self.token, floor) + 1
            value = self.held[keys.lease] = f"{node}|{incarnation}|{self.token}"
            answers.append(Acquired(AcquireCode.GRANTED, self.token, value, ttl_ms, 0, 0))
        return answers

    async def renew_many(self, leases: Sequence[tuple[str, str]], ttl_ms: int) -> list[Any]:
        self._reach()
        self.renewals += len(leases)
        if self.error is not None:
            return [self.error for _ in leases]
        return [
            RenewCode.RENEWED if self.held.get(key) == value else RenewCode.LOST
            for key, value in leases
        ]

    async def release_many(self, leases: Sequence[tuple[str, str]]) -> list[Any]:
        self._reach()
        for key, value in leases:
            if self.held.get(key) == value:
                del self.held[key]
        return [ReleaseCode.RELEASED for _ in leases]

    def _reach(self) -> None:
        if self.away:
            raise RedisConnectionError("away")
