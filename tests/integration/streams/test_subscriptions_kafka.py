"""Commands on a real Kafka: in force within a second, answered, and kept over a restart."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams import topics
from streams.bridge import Bridge
from streams.commands import Acknowledgement, Command
from streams.control_client import control_client, subscribe, unsubscribe
from streams.events import Event, FeedStatus, decode
from streams.simulator import SimulatedExchange
from streams.symbols import Listing
from tapeline.config import Settings
from tests.support.live_bridge import Live, read_all, settings_for

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

BTC, ETH, SOL = (Listing("binance", s, s) for s in ("BTCUSDT", "ETHUSDT", "SOLUSDT"))
LISTED = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
IN_FORCE_S = 1.0


def control_topics() -> dict[str, str]:
    """Names of this test's own."""
    name = uuid.uuid4().hex[:8]
    return {f"{kind}_topic": f"{kind}.{name}" for kind in ("commands", "routing", "telemetry")}


@asynccontextmanager
async def installation(kafka_url: str, redis_url: str) -> AsyncIterator[tuple[Any, Settings]]:
    """A venue that lists three symbols, and topics; ``SYMBOLS`` names BTCUSDT."""
    async with SimulatedExchange(LISTED, seed=11, rate=60.0) as sim:
        settings = settings_for(kafka_url, redis_url, sim, ["BTCUSDT"], **control_topics())
        wanted = (
            settings.events_topic,
            settings.commands_topic,
            topics.dead_letters_of(settings.commands_topic),
            settings.routing_topic,
            settings.telemetry_topic,
        )
        async with topics.admin_of(kafka_url) as admin:
            await topics.apply(admin, [t for t in topics.plan(settings) if t.name in wanted])
        yield sim, settings


@asynccontextmanager
async def bridge(sim: Any, settings: Settings, node_id: str = "") -> AsyncIterator[Live]:
    if node_id:
        settings = settings.model_copy(update={"node_id": node_id})
    running = Live(sim, settings, Bridge(settings))
    try:
        yield running
    finally:
        running.bridge.stop()
        await asyncio.gather(running.task, return_exceptions=True)


class Topic:
    """The events of a topic, as they arrive."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=topics.bootstrap_servers(settings.kafka_url),
            auto_offset_reset="latest",
            fetch_max_wait_ms=50,
        )
        self.events: list[tuple[float, Event]] = []

    async def __aenter__(self) -> Topic:
        await self._consumer.start()
        tps = [TopicPartition(self._settings.events_topic, p) for p in range(8)]
        self._consumer.assign(tps)
        for tp in tps:
            await self._consumer.position(tp)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._consumer.stop()

    async def _read(self) -> None:
        async for message in self._consumer:
            self.events.append((time.monotonic(), decode(message.value)))

    def of(self, symbol: str) -> list[tuple[float, Event]]:
        return [(at_s, event) for at_s, event in self.events if event.symbol == symbol]

    def data(self, symbol: str) -> list[float]:
        """When its data came, what is only said of the feed left out."""
        return [at_s for at_s, event in self.of(symbol) if not isinstance(event, FeedStatus)]


async def one(settings: Settings, command: Command, timeout_s: float = 5.0) -> Acknowledgement:
    async with control_client(settings) as client:
        answers = await client.send([command], timeout_s)
    return answers[command.command_id]


async def test_a_symbol_comes_within_a_second_and_goes_within_one(
    kafka_url: str, redis_url: str
) -> None:
    async with (
        installation(kafka_url, redis_url) as (sim, settings),
        bridge(sim, settings) as running,
        Topic(settings) as topic,
        control_client(settings) as client,
    ):
        await running.in_sync()
        began_s = time.monotonic()
        command = subscribe(SOL)
        answer = (await client.send([command], 5.0))[command.command_id]
        assert (answer.status, answer.changed, answer.routing_version) == ("success", True, 2)
        await running.until(lambda: bool(topic.data("SOLUSDT")))
        assert topic.data("SOLUSDT")[0] - began_s <= IN_FORCE_S
        await running.in_sync()
        await running.flowing(0.5)

        again = (await client.send([command], 5.0))[command.command_id]
        assert msgspec.structs.replace(again, ts_ms=answer.ts_ms) == answer
        twice = subscribe(SOL)
        unchanged = (await client.send([twice], 5.0))[twice.command_id]
        assert (unchanged.status, unchanged.changed) == ("success", False)

        removal = unsubscribe(("binance", "SOLUSDT"))
        gone_s = time.monotonic()
        answer = (await client.send([removal], 5.0))[removal.command_id]
        assert (answer.status, answer.changed, answer.routing_version) == ("success", True, 3)
        await running.flowing(IN_FORCE_S + 1.0)
        last_s, last = topic.of("SOLUSDT")[-1]
        assert last_s - gone_s <= IN_FORCE_S
        assert isinstance(last, FeedStatus)
        assert (last.status, last.reason, last.routing_version) == ("disconnected", "removed", 3)

        assert running.sim.counts["accepted"] == 1, "the socket stayed open"
        assert await running.stop() == 0
        written = await read_all(settings)
    written.assert_in_order()
    assert written.audit.tops_compared == written.audit.tops_equal
    versions = [e.routing_version for e in written.of("BTCUSDT")]
    assert {*versions} == {1, 2, 3}
    assert versions == sorted(versions)
    assert {e.routing_version for e in written.of("SOLUSDT")} == {2, 3}


async def test_the_set_survives_a_restart_and_outweighs_symbols(
    kafka_url: str, redis_url: str
) -> None:
    async with installation(kafka_url, redis_url) as (sim, settings):
        async with bridge(sim, settings) as first:
            await first.in_sync()
            assert (await one(settings, subscribe(SOL))).status == "success"
            assert (await one(settings, unsubscribe(("binance", "BTCUSDT")))).status == "success"
            assert await first.stop() == 0
        async with bridge(sim, settings) as second:
            await second.until(lambda: "SOLUSDT" in second.lines)
            assert [*second.lines] == ["SOLUSDT"]
            await second.in_sync()
            assert second.bridge.health()[1]["routing_version"] == 3
            # No bridge ran while this was sent, as far as it can tell.
            assert await second.stop() == 0
        async with control_client(settings) as client:
            missed = await client.send([subscribe(ETH)], 0.5)
            assert missed == {}
        async with bridge(sim, settings) as third:
            await third.until(lambda: {*third.lines} == {"SOLUSDT", "ETHUSDT"})
            await third.in_sync()
            assert await third.stop() == 0
        written = await read_all(settings)
    versions = [
        event.routing_version for _, _, event in written.records if event.symbol == "SOLUSDT"
    ]
    assert versions == sorted(versions)
    assert versions[-1] == 4


async def test_a_symbol_that_the_venue_does_not_list_is_undone_and_said(
    kafka_url: str, redis_url: str
) -> None:
    async with (
        installation(kafka_url, redis_url) as (sim, settings),
        bridge(sim, settings) as running,
    ):
        await running.in_sync()
        answer = await one(settings, subscribe(Listing("binance", "NOPEUSDT", "NOPEUSDT")))
        assert answer.status == "error"
        assert "'NOPEUSDT'" in answer.error
        await running.until(lambda: [*running.lines] == ["BTCUSDT"])
        assert not running.task.done()
        kraken = Listing("nasdaq", "AAPL", "AAPL")
        answer = await one(settings, subscribe(kraken))
        assert (answer.status, answer.changed) == ("error", False)
        assert "'nasdaq'" in answer.error
        # Another type, and no command at all: the first is answered, both are dead letters.
        await put(settings, {"v": 1, "command_id": "later", "type": "set_trading_mode"})
        await put(settings, {"hello": "world"})
        assert (await one(settings, subscribe(BTC))).status == "success", "it goes on"
        assert len(await values_of(settings, topics.dead_letters_of(settings.commands_topic))) == 2
        said = [orjson.loads(v) for v in await values_of(settings, settings.telemetry_topic)]
        (later,) = [each for each in said if each.get("command_id") == "later"]
        assert later["status"] == "error"
        assert "'set_trading_mode'; expected one of subscribe, unsubscribe" in later["error"]


async def put(settings: Settings, body: dict[str, Any]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=topics.bootstrap_servers(settings.kafka_url))
    await producer.start()
    try:
        await producer.send_and_wait(settings.commands_topic, orjson.dumps(body))
    finally:
        await producer.stop()


async def values_of(settings: Settings, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=topics.bootstrap_servers(settings.kafka_url),
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        (end,) = (await consumer.end_offsets([tp])).values()
        values: list[bytes] = []
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                values += [record.value for record in records]
        return values
    finally:
        await consumer.stop()


async def test_two_bridges_follow_the_same_commands(kafka_url: str, redis_url: str) -> None:
    async with (
        installation(kafka_url, redis_url) as (sim, settings),
        bridge(sim, settings, "one") as first,
    ):
        await first.in_sync()
        async with bridge(sim, settings, "two") as second:
            await second.until(lambda: all(line.in_sync for line in second.lines.values()))
            assert (await one(settings, subscribe(ETH))).status == "success"
            for each in (first, second):
                await each.until(lambda each=each: "ETHUSDT" in each.lines)  # type: ignore[misc]
                await each.until(
                    lambda each=each: all(ln.in_sync for ln in each.lines.values())  # type: ignore[misc]
                )
            held = [line for each in (first, second) for line in each.lines.values() if line.token]
            assert len(held) == 2, "one token a symbol"
            assert await first.stop() == 0
            await second.in_sync()
            assert (await one(settings, unsubscribe(("binance", "ETHUSDT")))).status == "success"
            await second.until(lambda: [*second.lines] == ["BTCUSDT"])
            assert await second.stop() == 0
        written = await read_all(settings)
    written.assert_in_order()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        versions = [event.routing_version for event in written.of(symbol)]
        assert all(a <= b for a, b in itertools.pairwise(versions)), symbol
