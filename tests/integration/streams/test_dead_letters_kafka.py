"""Dead letters of a bridge and of a worker on a real Kafka: listed, shown, tried again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams import topics
from streams.events import Feed, decode, encode
from streams.reentry import REENTERED
from streams.topics import bootstrap_servers, dead_letters_of, partition_of
from tapeline.config import Settings
from tests.support.bridge import delta, trade
from tests.support.commands import start
from tests.support.live_bridge import PARTITIONS, live, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

BTC = "BTCUSDT"
HOSTILE = b'{"kind":"trade",\x1b]0;owned\x07\x1b[2J\xff'


@dataclass
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


async def dlq(settings: Settings, *arguments: str) -> Ran:
    process = await start(
        "dlq",
        *arguments,
        KAFKA_URL=settings.kafka_url,
        NT_EVENTS_TOPIC=settings.events_topic,
        SYMBOLS=settings.symbols,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def create_letters_topic(settings: Settings) -> None:
    wanted = [t for t in topics.plan(settings) if t.name == dead_letters_of(settings.events_topic)]
    async with topics.admin_of(settings.kafka_url) as admin:
        await topics.apply(admin, wanted)


def record(event: Any, seq: int) -> bytes:
    event.v, event.feed, event.routing_version = 1, Feed(1_800_000_000_000, seq), 1
    return encode(event)


async def write_as_a_worker(settings: Settings, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers(settings.kafka_url))
    await producer.start()
    try:
        for offset, value in enumerate(values):
            told = {"error": "misrouted", "message": "\x1b[31mwrong partition",
                    "topic": settings.events_topic, "partition": 1, "offset": offset}  # fmt: skip
            headers = [(name, str(text).encode()) for name, text in told.items()]
            await producer.send_and_wait(
                dead_letters_of(settings.events_topic), value, BTC.encode(), headers=headers
            )
    finally:
        await producer.stop()


async def test_a_bridges_rubbish_is_kept_and_its_books_go_on(
    kafka_url: str, redis_url: str
) -> None:
    async with live(kafka_url, redis_url) as running:
        settings = running.settings
        missing = await dlq(settings, "list")
        assert missing.status == 1
        assert "no topic" in missing.err
        await create_letters_topic(settings)
        await running.in_sync()
        running.sim.start_episode("garbage", BTC)
        queue = running.bridge.letters.queue
        await running.until(lambda: queue.kept["binance"] == 1, 20.0)
        await running.moved(BTC)
        assert await running.stop() == 0
        assert not (await read_all(settings)).audit.gaps
    listed = (await dlq(settings, "list", "--json")).json
    (letter,) = listed["letters"]
    assert listed["total"] == 1
    assert (letter["position"], letter["error"]) == ("0@0", "FrameError")
    told = letter["headers"]
    assert (told["venue"], told["conn"], told["topic"]) == ("binance", "c1", settings.events_topic)
    assert int(told["frame"]) > 0
    assert int(told["ts_recv_ms"]) > 0
    shown = (await dlq(settings, "show", "0", "--json")).json
    assert shown["value"].startswith('{"stream":"')
    refused = await dlq(settings, "retry", "0@0", "--json")
    assert (refused.status, refused.json["unreadable"]) == (1, 1)


async def test_trades_re_enter_once_and_all_else_is_refused(kafka_url: str, redis_url: str) -> None:
    async with live(kafka_url, redis_url) as running:
        settings = running.settings
        await create_letters_topic(settings)
        await running.in_sync()
        values = [record(trade(BTC, 900_001), 7), record(delta(BTC), 8), HOSTILE,
                  record(trade(BTC, 900_002), 9), record(trade(BTC, 900_001), 10)]  # fmt: skip
        await write_as_a_worker(settings, *values)
        assert await running.stop() == 0

    listed = await dlq(settings, "list", "--limit", "3")
    assert listed.status == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == ["0@2", "0@3", "0@4"]
    assert r"\x1b[31mwrong partition" in listed.out
    shown = await dlq(settings, "show", "0@2")
    assert r'{"kind":"trade",\x1b]0;owned\x07\x1b[2J\xff' in shown.out
    assert all(char.isprintable() or char == "\n" for char in listed.out + shown.out)
    for arguments, status in (
        (("show", "0@5"), 1),
        (("show", "five"), 2),
        (("list", "--topic", "orders.unknown.v1"), 1),
    ):
        ran = await dlq(settings, *arguments)
        assert (ran.status, ran.out) == (status, ""), arguments
        assert ran.err

    tried = (await dlq(settings, "retry", "--all", "--dry-run", "--json")).json
    assert (tried["dry_run"], tried["trades"]) == (True, 2)
    assert len((await read_all(settings)).of(BTC)) > 0
    before = len((await read_all(settings)).records)

    refused = await dlq(settings, "retry", "0@1")
    assert refused.status == 1
    assert "book records are superseded" in refused.out

    first = await dlq(settings, "retry", "0@0", "--json")
    assert (first.status, first.json["trades"], first.json["reentered"]) == (0, 1, 1)
    rest = await dlq(settings, "retry", "--all", "--json")
    assert rest.status == 0
    assert {word: rest.json[word] for word in ("reentered", "duplicate", "superseded", "unreadable")} == {
        "reentered": 1, "duplicate": 2, "superseded": 1, "unreadable": 1
    }  # fmt: skip

    written = (await read_all(settings)).records
    assert len(written) == before + 2
    again = [row for row in written if row[2].feed == REENTERED]
    assert {partition for partition, _, _ in again} == {partition_of(BTC, PARTITIONS)}
    assert [event.event_id for _, _, event in again] == [
        "fake:BTCUSDT:900001",
        "fake:BTCUSDT:900002",
    ]
    assert all(decode(encode(event)) == event for _, _, event in again)
