"""What a benchmark runs on: a real Kafka, a store, a worker's settings, a topic filled before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis

from benchmarks.mix import Keyed
from streams import topics
from streams.topics import bootstrap_servers, partition_of
from tapeline.config import load_settings
from tapeline.stack.embedded import EmbeddedKeyValueStore
from tapeline.stack.kafka_local import LocalKafka
from tapeline.stack.ports import free_port

BATCH_BYTES = 256 * 1024
"""Of the batches in a prefilled topic. A bridge under load writes up to twice as much in one."""

AHEAD_MS = 1_800_000
"""How far ahead of the clock prefilled records are stamped by their producer. A worker without
a commit starts 35 minutes back, and a long run must not outlive that; brokers refuse an hour."""

IN_FLIGHT = 32
REPORT_EVERY = 250_000


@dataclass(frozen=True, slots=True)
class Servers:
    """A broker and a store.

    Attributes:
        kafka_url, redis_url: Where.
        broker_pid: The broker's process, where this process started it.
        broker: Its name and settings that differ from stock, for the record.
    """

    kafka_url: str
    redis_url: str
    broker_pid: int | None
    broker: str


@asynccontextmanager
async def servers(settings: Mapping[str, str] | None = None) -> AsyncIterator[Servers]:
    """``KAFKA_URL``, or an Apache Kafka for this run; and a store that is this run's alone.

    The store is never a given one: reports of real symbols are written to it.

    Args:
        settings: Broker settings that differ from stock; a given broker is taken as it is.
    """
    given = os.environ.get("KAFKA_URL", "")
    # A topic just made has no leaders for a moment, which the client says once a partition.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    async with AsyncExitStack() as stack:
        kafka: LocalKafka | None = None
        if not given:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tapeline-bench-"))
            kafka = LocalKafka(Path(folder), heap_mb=1024, settings=dict(settings or {}))
            await stack.enter_async_context(kafka)
        store = await stack.enter_async_context(EmbeddedKeyValueStore())
        changed = " ".join(f"{k}={v}" for k, v in (settings or {}).items())
        yield Servers(
            kafka.url if kafka else given,
            store.url,
            kafka.pid if kafka else None,
            f"Apache Kafka, {changed or 'stock settings'}" if kafka else "the one of KAFKA_URL",
        )


@dataclass(slots=True)
class Bench:
    """Names and settings of one installation on these servers.

    Attributes:
        listings: ``SYMBOLS``.
        partitions: Of the events topic.
        name: Of topic and application; unique.
        env: Settings of the worker beyond these.
    """

    servers: Servers
    listings: str
    partitions: int
    name: str = field(default_factory=lambda: f"bench-{secrets.token_hex(4)}")
    env: dict[str, str] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        """The events topic."""
        return f"{self.name}.events"

    def environment(self, app_id: str = "", **more: str) -> dict[str, str]:
        """What a worker is told."""
        app_id = app_id or self.name
        return {
            "KAFKA_URL": self.servers.kafka_url,
            "REDIS_URL": self.servers.redis_url,
            "SYMBOLS": self.listings,
            "NT_APP_ID": app_id,
            "NT_EVENTS_TOPIC": self.topic,
            "NT_PARTITIONS": str(self.partitions),
            "NT_NODE_ID": app_id,
            "NT_METRICS_PORT": str(free_port()),
            **self.env,
            **more,
        }

    async def apply_topics(self, app_id: str = "") -> None:
        """Create the events topic, its dead letters, and the application's changelog."""
        settings = load_settings(self.environment(app_id))
        own = (self.topic, topics.dead_letters_of(self.topic), topics.changelog_of(settings.app_id))
        planned = [topic for topic in topics.plan(settings) if topic.name in own]
        async with topics.admin_of(self.servers.kafka_url) as admin:
            await topics.apply(admin, planned)

    @asynccontextmanager
    async def topics(self) -> AsyncIterator[None]:
        """The topics of this installation; a given broker keeps none of them."""
        await self.apply_topics()
        try:
            yield
        finally:
            await self.delete_topics()

    async def delete_topics(self, starting_with: str = "") -> None:
        """Delete this installation's topics, or those of one application of it."""
        async with topics.admin_of(self.servers.kafka_url) as admin:
            names = [
                name
                for name in await topics.partition_counts(admin)
                if name.startswith(starting_with or self.name)
            ]
            if names:
                await admin.delete_topics(names)

    async def forget_reports(self) -> None:
        """Empty the store, which is this run's alone: what a writer before has published would
        be newer than what the next one has to say."""
        async with Redis.from_url(self.servers.redis_url) as store:
            await store.flushall()

    async def fill(self, keyed: Iterable[Keyed]) -> int:
        """Write records to the topic, each where its key belongs; how many there are."""
        began = time.monotonic()
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers(self.servers.kafka_url),
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
        )
        await producer.start()
        try:
            filling = _Filling(producer, self.topic, self.partitions)
            for key, value in keyed:
                await filling.add(key, value)
                if filling.count % REPORT_EVERY == 0:
                    rate = filling.count / (time.monotonic() - began)
                    print(f"  {filling.count:,} records written, {rate:,.0f}/s", file=sys.stderr)
            await filling.end()
        finally:
            await producer.stop()
        return filling.count

    async def end_offsets(self) -> dict[int, int]:
        """Where each partition of the events topic ends."""
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers(self.servers.kafka_url))
        await consumer.start()
        try:
            tps = [TopicPartition(self.topic, n) for n in range(self.partitions)]
            return {tp.partition: end for tp, end in (await consumer.end_offsets(tps)).items()}
        finally:
            await consumer.stop()


class _Filling:
    """Whole batches, partition by partition: many times quicker than record by record."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partitions: int) -> None:
        self._producer, self._topic, self._partitions = producer, topic, partitions
        self._home: dict[bytes, int] = {}
        self._open: dict[int, object] = defaultdict(producer.create_batch)
        self._sent: list[asyncio.Future[object]] = []
        self._stamp_ms = int(time.time() * 1000) + AHEAD_MS
        self.count = 0

    async def add(self, key: bytes, value: bytes) -> None:
        """One record."""
        partition = self._home.get(key)
        if partition is None:
            partition = self._home[key] = partition_of(key.decode(), self._partitions)
        while self._append(partition, key, value) is None:
            await self._send(partition)
        self.count += 1

    def _append(self, partition: int, key: bytes, value: bytes) -> object:
        batch = self._open[partition]
        return batch.append(key=key, value=value, timestamp=self._stamp_ms)  # type: ignore[attr-defined]

    async def _send(self, partition: int) -> None:
        batch = self._open.pop(partition)
        if len(self._sent) >= IN_FLIGHT:
            await self._sent.pop(0)
        sent = await self._producer.send_batch(batch, self._topic, partition=partition)
        self._sent.append(sent)

    async def end(self) -> None:
        """All that is open, and all that is on its way."""
        for partition in list(self._open):
            await self._send(partition)
        await asyncio.gather(*self._sent)


async def metrics_text(port: int) -> str:
    """What a worker's ``/metrics`` says; "" if nobody answers.

    By hand rather than by a client library: what asks every 50 ms should cost next to nothing.
    """
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return ""
    try:
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        answer = await reader.read(-1)
    except OSError:
        return ""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return answer.partition(b"\r\n\r\n")[2].decode()


def samples(text: str) -> dict[str, float]:
    """Samples of a metrics page by name and labels, as they stand there."""
    found = {}
    for line in text.splitlines():
        if line and line[0] != "#":
            name, _, value = line.rpartition(" ")
            with contextlib.suppress(ValueError):
                found[name] = float(value)
    return found


def total(found: Mapping[str, float], family: str) -> float:
    """Sum over the labels of a family."""
    return sum(v for k, v in found.items() if k == family or k.startswith(f"{family}{{"))
