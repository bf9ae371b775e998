"""One installation for a worker's test: topics of its own, real processes, what they left behind.

Everything a test asks is asked of the outside: the topics, the group's offsets, Redis, the
worker's probe and its log lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from agents.parameters import parameters_of
from streams import topics
from streams.topics import (
    admin_of,
    bootstrap_servers,
    changelog_of,
    dead_letters_of,
    partition_of,
)
from tables.changelog import Checkpoint, decode_checkpoint
from tables.engine import Engine
from tables.report import Position, Source, Writer, compose, encode_report
from tapeline.config import Settings, load_settings
from tapeline.stack.ports import free_port
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program

T = TypeVar("T")

Client = Any
"""A Redis client; its stubs can't tell which replies are bytes."""

POLL_S = 0.02
PATIENCE_S = 25.0
"""On a machine that has other things to do, too. What must be quick is measured and compared."""

PARTITIONS = 4
SYMBOL = "BTCUSDT"
_FETCH_MS = 1000

_NOT_COMPARED = ("writer", "seq", "updatedAt")


async def eventually(
    check: Callable[[], Awaitable[T | None]], timeout_s: float = PATIENCE_S, what: str = ""
) -> T:
    """The first truthy answer of ``check``, asked again and again for at most ``timeout_s``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        found = await check()
        if found:
            return found
        if loop.time() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what or check}; last: {found!r}")
        await asyncio.sleep(POLL_S)


class WorkerProcess:
    """A ``faust -A agents worker`` as a child, with its log lines and its probe.

    Args:
        env: Its settings.
        fault: One of `tests.support.faults`, built into it.
        fault_file: The fault begins when there is this file.
    """

    def __init__(self, env: dict[str, str], fault: str = "", fault_file: str = "") -> None:
        if fault:
            env = {**env, "WORKER_FAULT": fault, "WORKER_FAULT_FILE": fault_file}
        self.port = int(env["NT_METRICS_PORT"])
        self.lines: list[str] = []
        self.child: ChildProcess = program(
            "worker", env=env, on_line=lambda _name, line: self.lines.append(line)
        )
        if fault:
            self.child.argv[self.child.argv.index("agents")] = "tests.support.faults"

    async def start(self) -> Self:
        await self.child.start()
        return self

    def kill(self) -> None:
        """SIGKILL; `ended` reaps it."""
        self.child.kill()

    def terminate(self) -> None:
        """SIGTERM."""
        os.kill(self.child.pid, signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.child.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.child.pid, signal.SIGCONT)

    async def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.child.wait()
        except TimeoutError:
            raise AssertionError(f"still running after {timeout_s:g} s; {self.tail()}") from None

    async def killed(self) -> None:
        """`kill`, and reaped."""
        self.kill()
        await self.ended()

    async def stopped(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM, and its exit status."""
        self.terminate()
        return await self.ended(timeout_s)

    # --- what it says --------------------------------------------------------------------------

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that event."""
        found = []
        for line in self.lines:
            if line.startswith("{"):
                entry = json.loads(line)
                if entry.get("event") == event:
                    found.append(entry)
        return found

    async def says(
        self, event: str, timeout_s: float = PATIENCE_S, count: int = 1
    ) -> dict[str, Any]:
        """The newest log line of ``event``, once there are ``count``."""

        async def there() -> dict[str, Any] | None:
            entries = self.logged(event)
            if len(entries) < count and not self.child.running:
                raise AssertionError(f"ended without {event}; {self.tail()}")
            return entries[-1] if len(entries) >= count else None

        try:
            return await eventually(there, timeout_s, event)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.tail()}") from None

    def tail(self) -> str:
        """Its last lines, for a failure's message; a client without a broker floods the log."""
        lines = [line[:400] for line in self.lines if '"logger": "aiokafka' not in line]
        return "its last lines:\n" + "\n".join(lines[-30:])

    async def health(self) -> dict[str, Any] | None:
        """What ``/health`` says; None if nobody answers."""
        body = await self._get("/health")
        return None if body is None else json.loads(body)

    async def unready(self) -> str | None:
        """What ``/ready`` gives as its reason, '' for none; None if nobody answers."""
        body = await self._get("/ready")
        return None if body is None else str(json.loads(body)["reason"])

    async def live(self) -> bool:
        """Whether ``/live`` answers."""
        return await self._get("/live") == '{"live": true}'

    async def probe(self, timeout_s: float = 1.0) -> tuple[int, dict[str, Any]]:
        """Status and body of ``/health``; (0, {}) if nobody answers in time."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}/health") as answer,
            ):
                return answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError):
            return 0, {}

    async def well(self) -> bool:
        """Whether ``/health`` knows of no stall and no outage."""
        return (await self.probe())[1].get("status") == "ok"

    async def ready(self, timeout_s: float = PATIENCE_S) -> None:
        """Until partitions are assigned and engines restored."""

        async def assigned() -> bool:
            if not self.child.running:
                raise AssertionError(f"ended; {self.tail()}")
            health = await self.health()
            return health is not None and bool(health["assigned"])

        try:
            await eventually(assigned, timeout_s, "partitions assigned")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.tail()}") from None

    async def metrics(self) -> dict[str, float]:
        """Samples by name, labels in braces: ``name{label=value}``; {} if nobody answers."""
        body = await self._get("/metrics")
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(body or ""):
            for sample in family.samples:
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    async def _get(self, path: str) -> str | None:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return await answer.text()
        except aiohttp.ClientError:
            return None


def total(samples: dict[str, float], name: str) -> float:
    """Sum over the labels of a metric."""
    return sum(v for k, v in samples.items() if k == name or k.startswith(f"{name}{{"))


@dataclass
class Installation:
    """Names, settings and probes of one installation.

    Attributes:
        kafka_url, redis_url: Its servers; an empty ``redis_url`` is left out of the environment.
        name: Of application and topic; unique.
        env: Settings that differ from a test's defaults.
    """

    kafka_url: str
    redis_url: str = ""
    symbols: str = f"binance:{SYMBOL}"
    name: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}")
    env: dict[str, str] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return f"{self.name}.events"

    @property
    def partition(self) -> int:
        """Home of `SYMBOL`."""
        return partition_of(SYMBOL, PARTITIONS)

    def environment(self, **more: str) -> dict[str, str]:
        """What a worker is told."""
        given = {
            "KAFKA_URL": self.kafka_url,
            "REDIS_URL": self.redis_url,
            "SYMBOLS": self.symbols,
            "NT_APP_ID": self.name,
            "NT_EVENTS_TOPIC": self.topic,
            "NT_PARTITIONS": str(PARTITIONS),
            "NT_NODE_ID": f"{self.name}-a",
            "NT_CHECKPOINT_PERIOD_MS": "1000",
            "NT_SLOW_PERIOD_MS": "1000",
            "NT_REPORT_PERIOD_MS": "100",
            **self.env,
            **more,
        }
        given.setdefault("NT_METRICS_PORT", str(free_port()))
        return given

    def settings(self, **more: str) -> Settings:
        return load_settings(self.environment(**more))

    # --- workers -------------------------------------------------------------------------------

    async def worker(self, *, fault: str = "", fault_file: str = "", **env: str) -> WorkerProcess:
        """A started worker; stopped at the end of the test, if it still runs."""
        process = WorkerProcess(self.environment(**env), fault, fault_file)
        self.workers.append(process)
        return await process.start()

    async def close(self) -> None:
        """Leave nothing running."""
        for process in self.workers:
            await process.child.stop(grace_s=0)

    # --- topics --------------------------------------------------------------------------------

    def planned(self, **more: str) -> list[topics.Topic]:
        """The topics of this installation alone: a broker is shared by tests."""
        settings = self.settings(**more)
        own = {self.topic, dead_letters_of(self.topic), changelog_of(settings.app_id)}
        return [topic for topic in topics.plan(settings) if topic.name in own]

    async def apply_topics(self, **more: str) -> None:
        async with admin_of(self.kafka_url) as admin:
            await topics.apply(admin, self.planned(**more))

    async def delete_topic(self, name: str) -> None:
        """Delete it, and wait until the broker knows no more of it."""
        async with admin_of(self.kafka_url) as admin:
            await admin.delete_topics([name])

            async def gone() -> bool:
                return name not in await topics.partition_counts(admin)

            await eventually(gone, what=f"deletion of {name}")

    async def delete_order_topics(self) -> None:
        """They have no other names: what a shared broker has of them may have other partitions."""
        async with admin_of(self.kafka_url) as admin:
            there = await topics.partition_counts(admin)
        for name in sorted(there):
            if name.startswith("orders."):
                await self.delete_topic(name)

    async def recreate_topic(self) -> None:
        """Delete the events topic and create it again; the broker may need some tries."""
        await self.delete_topic(self.topic)
        await self.apply_topics()

    async def write(
        self,
        records: Iterable[tuple[bytes | None, bytes | None]],
        *,
        partition: int | None = None,
        pause_every: int = 0,
    ) -> list[int]:
        """Write (key, value) pairs as a bridge would; their offsets."""
        async with self.producer() as producer:
            futures = [
                await producer.send(
                    self.topic,
                    key=key,
                    value=value,
                    partition=partition if key is None or partition is not None else None,
                )
                for key, value in records
            ]
            return [(await future).offset for future in futures]

    async def write_tape(self, records: Sequence[tuple[int, bytes]]) -> list[int]:
        """Write records of a `Tape` under `SYMBOL`."""
        return await self.write((SYMBOL.encode(), value) for _, value in records)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers(self.kafka_url),
            acks="all",
            enable_idempotence=True,
        )
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def read(self, topic: str) -> list[ConsumerRecord]:
        """All that a topic holds, by partition and offset."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers(self.kafka_url), enable_auto_commit=False
        )
        await consumer.start()
        try:
            count = await self._partitions(topic)
            tps = [TopicPartition(topic, n) for n in range(count)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            begins = await consumer.beginning_offsets(tps)
            for tp in tps:
                consumer.seek(tp, begins[tp])
            found: list[ConsumerRecord] = []
            while True:
                positions = {tp: await consumer.position(tp) for tp in tps}
                if all(positions[tp] >= ends[tp] for tp in tps):
                    return sorted(found, key=lambda r: (r.partition, r.offset))
                for records in (await consumer.getmany(*tps, timeout_ms=_FETCH_MS)).values():
                    found += records
        finally:
            await consumer.stop()

    async def _partitions(self, topic: str) -> int:
        async with admin_of(self.kafka_url) as admin:
            return (await topics.partition_counts(admin))[topic]

    async def dead_letters(self) -> list[tuple[dict[str, str], ConsumerRecord]]:
        """(headers, record) of the dead-letter topic."""
        return [
            ({name: value.decode() for name, value in record.headers}, record)
            for record in await self.read(dead_letters_of(self.topic))
        ]

    async def checkpoints(self, app_id: str = "") -> list[Checkpoint]:
        """The changelog's checkpoints in the order they were written, tombstones left out."""
        records = await self.read(changelog_of(app_id or self.name))
        return [decode_checkpoint(r.value) for r in records if r.value]

    async def committed(self, app_id: str = "") -> int:
        """The group's committed offset of `SYMBOL`'s partition; -1 for none."""
        async with admin_of(self.kafka_url) as admin:
            return await committed_offset(
                admin, app_id or self.name, TopicPartition(self.topic, self.partition)
            )

    # --- Redis ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Client]:
        async with Redis.from_url(self.redis_url) as client:
            yield client


async def committed_offset(admin: AIOKafkaAdminClient, group: str, tp: TopicPartition) -> int:
    """A group's committed offset, -1 for none."""
    found = await admin.list_consumer_group_offsets(group, partitions=[tp])
    return int(found[tp].offset)


async def report_of(redis: Client, symbol: str = SYMBOL) -> dict[str, Any] | None:
    """The report that readers see."""
    payload = await redis.get(f"report:{symbol}")
    return None if payload is None else json.loads(payload)


async def report_at(
    redis: Client, offset: int, timeout_s: float = PATIENCE_S, worker: WorkerProcess | None = None
) -> dict[str, Any]:
    """The report whose fast and slow part were computed from the records up to ``offset``."""

    async def there() -> dict[str, Any] | None:
        report = await report_of(redis)
        if report is None or report["source"]["slow"] is None:
            return None
        at = {report["source"][part]["offset"] for part in ("fast", "slow")}
        return report if at == {offset} else None

    try:
        return await eventually(there, timeout_s, f"a report at offset {offset}")
    except AssertionError as error:
        seen = await report_of(redis)
        tail = worker.tail() if worker else ""
        source = seen and seen["source"]
        raise AssertionError(f"{error}; source is {source}; {tail}") from None


def compared(report: dict[str, Any]) -> dict[str, Any]:
    """A report but for who wrote it, and when."""
    return {name: value for name, value in report.items() if name not in _NOT_COMPARED}


async def recomputed(one: Installation) -> dict[str, Any]:
    """The report that an engine makes of the topic's records, to be `compared`."""
    settings = one.settings()
    engine = Engine(SYMBOL, "binance", parameters_of(settings))
    records = [r for r in await one.read(one.topic) if r.partition == one.partition]
    engine.apply((record.offset, record.value) for record in records)
    at = Position(one.topic, one.partition, engine.applied, engine.newest_ms)
    report = compose(
        engine.fast_report(engine.newest_ms),
        engine.slow_report(engine.newest_ms),
        writer=Writer("elsewhere", 1),
        seq=1,
        updated_at=1,
        source=Source(at, at),
    )
    payload, _ = encode_report(report, settings.report_split_bytes)
    return compared(json.loads(payload))
