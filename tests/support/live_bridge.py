"""A bridge on the simulated exchange, a real Kafka and a real Redis, and what it has written."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.bridge import Bridge
from streams.events import BookSnapshot, Event, FeedStatus, decode, kind_of
from streams.simulator import SimulatedExchange
from streams.sources import FrameSource
from streams.tape_audit import TapeAudit
from tapeline.config import Settings, load_settings, variable_name

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
PARTITIONS = 8


def settings_for(
    kafka_url: str, redis_url: str, sim: SimulatedExchange, symbols: Sequence[str], **changed: Any
) -> Settings:
    """Settings of a bridge of its own: no topic, no port and no log line is shared."""
    name = uuid.uuid4().hex[:8]
    values: dict[str, Any] = {
        "kafka_url": kafka_url,
        "redis_url": redis_url,
        "symbols": ",".join(f"binance:{symbol}" for symbol in symbols),
        "binance_stream_url": sim.stream_url,
        "binance_rest_url": sim.rest_url,
        "events_topic": f"events.{name}",
        "app_id": name,
        "node_id": f"bridge-{name}",
        "partitions": PARTITIONS,
        "bridge_port": 0,
        "lease_ttl_ms": 800,
    }
    return load_settings({}, **{**values, **changed})


async def create_events_topic(settings: Settings) -> None:
    """The one topic a bridge writes to."""
    wanted = [t for t in topics.plan(settings) if t.name == settings.events_topic]
    async with topics.admin_of(settings.kafka_url) as admin:
        await topics.apply(admin, wanted)


class Live:
    """A bridge that runs.

    Attributes:
        sim: The venue.
        bridge: In this process.
        task: Its `run`.
    """

    def __init__(self, sim: SimulatedExchange, settings: Settings, bridge: Bridge) -> None:
        self.sim, self.settings, self.bridge = sim, settings, bridge
        self.task = asyncio.create_task(bridge.run())

    @property
    def lines(self) -> dict[str, Any]:
        return self.bridge.feeds["binance"].lines

    async def until(self, true: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                assert not self.task.done(), self.task
                await asyncio.sleep(0.01)

    async def in_sync(self) -> None:
        """All books are in sync, and their tokens held."""
        await self.until(lambda: all(ln.in_sync and ln.token for ln in self.lines.values()))

    async def moved(self, symbol: str) -> None:
        """The book of a symbol has taken a diff from now on."""
        before = self._seq(symbol)
        await self.until(lambda: self._seq(symbol) > before)

    def _seq(self, symbol: str) -> int:
        book = self.bridge.feeds["binance"]._assembler.snapshot(symbol, 0, "", stale_ok=True)
        return book.seq if book else 0

    async def flowing(self, seconds: float) -> None:
        """Let it run, and fail if it ends."""
        done, _ = await asyncio.wait([self.task], timeout=seconds)
        assert not done, self.task

    async def stop(self) -> int:
        self.bridge.stop()
        return await self.task


@asynccontextmanager
async def live(
    kafka_url: str,
    redis_url: str,
    *,
    symbols: Sequence[str] = SYMBOLS,
    rate: float = 60.0,
    source: Callable[[Settings], FrameSource] | None = None,
    listed: Sequence[str] | None = None,
    topic: bool = True,
    flush_s: float = 10.0,
    **changed: Any,
) -> AsyncIterator[Live]:
    """A bridge on a simulator that lists ``listed`` and is asked for ``symbols``."""
    async with SimulatedExchange(listed or symbols, seed=11, rate=rate) as sim:
        settings = settings_for(kafka_url, redis_url, sim, symbols, **changed)
        if topic:
            await create_events_topic(settings)
        bridge = Bridge(settings, source=source(settings) if source else None, flush_s=flush_s)
        running = Live(sim, settings, bridge)
        try:
            yield running
        finally:
            bridge.stop()
            await asyncio.gather(running.task, return_exceptions=True)


@asynccontextmanager
async def bridge_process(
    settings: Settings, granted: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``tapeline bridge`` as a process of its own, once it has been granted so many leases."""
    env = {variable_name(name): str(value) for name, value in settings.model_dump().items()}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tapeline.cli", "bridge"),
        env={**os.environ, **env},
        stderr=asyncio.subprocess.PIPE,
    )
    reading: asyncio.Task[None] | None = None
    try:
        assert child.stderr is not None
        async with asyncio.timeout(20):
            async for raw in child.stderr:
                granted -= json.loads(raw)["event"] == "feed.granted"
                if not granted:
                    break
        assert not granted, "the bridge has ended"
        reading = asyncio.create_task(_drain(child.stderr))
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        if reading is not None:
            await reading


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass


class Written:
    """All records of an events topic, in the order of each partition.

    Attributes:
        records: (partition, key, event).
        audit: What they add up to.
    """

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes, Event]] = []
        self.audit = TapeAudit()

    def of(self, symbol: str) -> list[Event]:
        return [event for _, _, event in self.records if event.symbol == symbol]

    def story(self, symbol: str) -> list[str]:
        """What happened to the feed: statuses and snapshots, signs of life left out."""
        words = []
        for event in self.of(symbol):
            if isinstance(event, FeedStatus) and event.status != "alive":
                words.append(event.status + (f":{event.reason}" if event.reason else ""))
            elif isinstance(event, BookSnapshot) and event.part == event.parts:
                words.append(f"snapshot:{event.reason}")
        return words

    def kinds(self, symbol: str) -> list[str]:
        return [kind_of(event) for event in self.of(symbol)]

    def assert_in_order(
        self, partitions: int = PARTITIONS, holes: int = 0, copies: int = 0
    ) -> None:
        """Keys and partitions are right; each token's sequence has this many holes and copies."""
        found_holes = found_copies = 0
        last: dict[str, tuple[int, int]] = {}
        for partition, key, event in self.records:
            assert key == event.symbol.encode()
            assert partition == topics.partition_of(event.symbol, partitions)
            token, seq = last.get(event.symbol, (0, 0))
            if event.feed.token > token:
                token, seq = event.feed.token, 0
            assert event.feed.token == token
            found_holes += event.feed.seq > seq + 1
            found_copies += event.feed.seq <= seq
            last[event.symbol] = (token, max(seq, event.feed.seq))
        assert (found_holes, found_copies) == (holes, copies)


async def read_all(settings: Settings) -> Written:
    """What the events topic holds now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=topics.bootstrap_servers(settings.kafka_url),
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    written = Written()
    await consumer.start()
    try:
        partitions = [TopicPartition(settings.events_topic, p) for p in range(settings.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        at = dict.fromkeys(partitions, 0)
        async with asyncio.timeout(20):
            while any(at[p] < ends[p] for p in partitions):
                for partition, messages in (await consumer.getmany(timeout_ms=200)).items():
                    for message in messages:
                        event = decode(message.value)
                        written.records.append((partition.partition, message.key, event))
                        written.audit.add(message.value)
                    at[partition] = messages[-1].offset + 1
    finally:
        await consumer.stop()
    return written
