"""Events of the hub out of a real Kafka: none missing, none twice, and a cursor that leads on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from lua import Keys
from serving.hub.events import RedisEvents, Which
from serving.hub.protocol import order_of
from serving.hub.state_feed import AWAY
from serving.hub.wire import Order
from serving.reader import reader_client
from tapeline.kafka_events import KafkaEvents
from tests.support.house import house
from tests.support.worker import Installation, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

BTC: Which = ("events", "BTCUSDT")
OTHERS = ("ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "BNBUSDT", "DOGEUSDT", "LTCUSDT", "TRXUSDT")


class Topic:
    """A topic of two partitions, an event source on it, and what that has brought."""

    def __init__(self, one: Installation, redis: Redis) -> None:
        self.one, self.redis = one, redis
        self.at: dict[Which, Order] = {}
        self.had: dict[Which, list[int]] = {}
        self.count = 0
        self.read: list[tuple[int, int]] = []  # (partition, offset) of all that came, whosever
        self.source = self.another()
        by_symbol = self.source._by_symbol

        def counted(tp: Any, records: Any, at: Any) -> Any:
            self.read += [(tp.partition, record.offset) for record in records]
            return by_symbol(tp, records, at)

        self.source._by_symbol = counted  # type: ignore[method-assign]

    def another(self) -> KafkaEvents:
        return KafkaEvents(self.one.settings(), RedisEvents(self.redis, Keys()))

    async def write(self, *symbols: str) -> list[int]:
        """One numbered record of each."""
        numbers = [*range(self.count, self.count + len(symbols))]
        self.count += len(symbols)
        records = [
            (symbol.encode(), json.dumps({"kind": "trade", "n": n}).encode())
            for symbol, n in zip(symbols, numbers, strict=True)
        ]
        await self.one.write(records)
        return numbers

    async def follow(self, which: Which) -> None:
        self.at[which] = (await self.source.ends([which]))[0]
        self.had[which] = []

    async def look(self) -> None:
        """As the hub does."""
        for which, entries in await self.source.news(dict(self.at)):
            assert entries
            orders = [order_of(entry.decode()) for entry, _ in entries]
            assert orders == sorted(orders)
            newest = orders[-1]
            assert newest is not None
            assert orders[0] > self.at[which], "an entry came twice"
            self.at[which] = newest
            self.had[which] += numbers_of(entries)

    async def until(self, which: Which, wanted: Sequence[int]) -> None:
        async def there() -> bool:
            await self.look()
            return self.had[which] == [*wanted]

        await eventually(there, 15, f"{wanted} of {which}, {self.had}")


def numbers_of(entries: Any) -> list[int]:
    return [json.loads(fields[b"event"])["n"] for _, fields in entries]


@asynccontextmanager
async def topic(kafka_url: str, redis_url: str) -> AsyncIterator[Topic]:
    one = Installation(kafka_url, redis_url, env={"NT_PARTITIONS": "2"})
    await one.apply_topics()
    async with reader_client(redis_url) as redis:
        made = Topic(one, redis)
        try:
            yield made
        finally:
            await made.source.close()
            await one.close()


async def test_who_follows_gets_what_comes_from_then_on_and_nothing_of_others(
    kafka_url: str, redis_url: str
) -> None:
    async with topic(kafka_url, redis_url) as events:
        await events.write("BTCUSDT", *OTHERS)
        await events.follow(BTC)
        wanted = (await events.write("BTCUSDT", *OTHERS, "BTCUSDT"))[:: len(OTHERS) + 1]
        await events.until(BTC, wanted)
        # Who comes later, on either partition, holds nobody up and misses nothing.
        for symbol in OTHERS:
            which = ("events", symbol)
            await events.follow(which)
            btc, other = await events.write("BTCUSDT", symbol)
            wanted.append(btc)
            await events.until(which, [other])
            await events.until(BTC, wanted)
        # No partition was read once more because another one is read, too.
        assert len(events.read) == len(set(events.read)) < events.count


async def test_a_symbol_that_begins_behind_the_others_tail_misses_nothing(
    kafka_url: str, redis_url: str
) -> None:
    """It has caught up to a cursor that the others have long passed."""
    async with topic(kafka_url, redis_url) as events:
        await events.follow(BTC)
        numbers = await events.write("BTCUSDT", *OTHERS, *OTHERS, "BTCUSDT")
        btc = [numbers[0], numbers[-1]]
        await events.until(BTC, btc)
        for at, symbol in enumerate(OTHERS, 1):
            which = ("events", symbol)
            events.at[which], events.had[which] = (0, 0), []
            await events.until(which, [numbers[at], numbers[at + len(OTHERS)]])
        assert events.had[BTC] == btc


async def test_a_cursor_leads_on_and_says_what_is_gone(kafka_url: str, redis_url: str) -> None:
    async with topic(kafka_url, redis_url) as events:
        await events.follow(BTC)
        begin = events.at[BTC]
        numbers = await events.write(*("BTCUSDT", *OTHERS) * 5)
        btc = numbers[:: len(OTHERS) + 1]
        other = events.another()  # as a reader that was started anew
        assert await other.kept(BTC, begin) == (begin, False)
        read = await other.after(BTC, begin, 3)
        assert (numbers_of(read.entries), read.more) == (btc[:3], True)
        rest = await other.after(BTC, read.reached, 10)
        assert (numbers_of(rest.entries), rest.more) == (btc[3:], False)
        (end,) = await other.ends([BTC])
        assert rest.reached == end
        assert await other.after(BTC, end, 10) == ([], end, False)
        beyond = (end[0], end[1] + 1)
        foreign = (1_800_000_000_000, 4)  # of a Redis Stream of merged windows, say
        for cursor in (beyond, foreign):
            assert await other.kept(BTC, cursor) == (end, True)
        await other.close()


async def test_a_topic_that_is_not_there_has_nothing_and_is_not_made(
    kafka_url: str, redis_url: str
) -> None:
    async with topic(kafka_url, redis_url) as events:
        events.one.env["NT_MERGED_TOPIC"] = f"{events.one.name}.none"
        source = events.another()
        merged = ("merged", "BTCUSDT")
        assert await source.ends([merged]) == [(0, 0)]
        assert await source.kept(merged, (3, 4)) == ((0, 0), True)
        assert await source.after(merged, (0, 0), 5) == ([], (0, 0), False)
        assert await source.news({merged: (0, 0)}) == []
        assert f"{events.one.name}.none" not in source._there
        await source.close()


async def test_execution_reports_are_those_of_redis(kafka_url: str, redis_url: str) -> None:
    async with topic(kafka_url, redis_url) as events:
        executions = ("executions", "BTCUSDT")
        await events.follow(executions)
        await events.follow(BTC)
        await events.redis.xadd("executions:BTCUSDT", {"event": b'{"n":1}'}, id="5-1")
        (btc,) = await events.write("BTCUSDT")
        await events.until(BTC, [btc])
        await events.until(executions, [1])
        assert await events.source.kept(executions, (5, 1)) == ((5, 1), False)


async def test_a_topic_made_anew_is_read_from_its_beginning(
    kafka_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tapeline.kafka_events.TOPICS_MS", 100)
    async with topic(kafka_url, redis_url) as events:
        await events.follow(BTC)
        numbers = await events.write(*["BTCUSDT"] * 5)
        await events.until(BTC, numbers)
        assert events.at[BTC] == (0, 5)
        await events.one.recreate_topic()
        await events.redis.set(f"nt:topic:epoch:{events.one.topic}", 1)
        # It ends beyond where the old one was read up to: no offset tells them apart.
        numbers += await events.write(*["BTCUSDT"] * 8)
        await events.until(BTC, numbers)
        assert events.at[BTC] == (1, 8)


async def test_a_broker_that_is_not_there_is_an_outage(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried each time that the hub asks."""
    tries = 0
    consumer = KafkaEvents._consumer

    def counted(self: KafkaEvents) -> Any:
        nonlocal tries
        tries += 1
        return consumer(self)

    monkeypatch.setattr(KafkaEvents, "_consumer", counted)
    one = Installation("kafka://127.0.0.1:1", redis_url)
    async with reader_client(redis_url) as redis:
        source = KafkaEvents(one.settings(), RedisEvents(redis, Keys()))
        for asking in (source.ends([BTC]), source.news({BTC: (0, 0)}), source.kept(BTC, (0, 0))):
            with pytest.raises(AWAY):
                await asking
        assert tries == 2  # consumers of one try
        await source.close()


@pytest.mark.slow(limit_s=120)
async def test_trades_come_to_a_client_without_redis_streams(
    kafka_url: str, redis_url: str
) -> None:
    """Venue, bridge, Kafka, reader; no worker, so nothing of it is in Redis."""
    async with house(kafka_url, redis_url, ["BTCUSDT"]) as home:
        await home.bridge()
        await home.serve()
        wish = {"op": "subscribe", "id": "1", "channels": ["trades"], "symbols": ["BTCUSDT"]}
        orders: list[Order] = []

        async def take(socket: Any, count: int) -> None:
            async with asyncio.timeout(30):
                while count > 0:
                    frame = json.loads((await socket.receive()).data)
                    if frame["type"] == "events":
                        assert {one["kind"] for one in frame["data"]} == {"trade"}
                        count -= len(frame["data"])
                        order = order_of(frame["cursor"])
                        assert order is not None
                        orders.append(order)
                        last.update(frame)

        last: dict[str, Any] = {}
        async with home.http.ws_connect(f"{home.url}/ws") as socket:
            await socket.send_json(wish)
            await take(socket, 5)
        newest = last["data"][-1]["feed"]["seq"]
        async with home.http.ws_connect(f"{home.url}/ws") as socket:
            resume = {"trades|BTCUSDT": last["cursor"]}
            await socket.send_json({**wish, "resume": resume})
            await take(socket, 1)
        assert last["data"][0]["feed"]["seq"] > newest or len(last["data"]) > 1
        assert "lost" not in last
        assert orders == sorted(orders)
        async with home.one.redis() as redis:
            assert await redis.keys("events:*") == []
