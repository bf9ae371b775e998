"""Events out of Redis Streams, and execution reports of which none is ever missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from serving.access import Access
from tests.support.hub_frames import finding, numbers, report
from tests.support.hub_socket import Client, Served, Writer, hub_server, until

pytestmark = [pytest.mark.redis, pytest.mark.slow]

QUEUE = 50


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[Served]:
    async with hub_server(redis_url, NT_HUB_EXECUTIONS_QUEUE=str(QUEUE)) as found:
        yield found


class Stream:
    """A Redis Stream that is written to, events numbered from 1."""

    def __init__(self, redis: Redis, key: str, **fields: Any) -> None:
        self._redis, self._key, self._fields = redis, key, fields
        self.n = 0

    async def add(self, number: int = 1, **more: Any) -> None:
        fields = {**self._fields, **more}
        async with self._redis.pipeline(transaction=False) as pipe:
            for _ in range(number):
                self.n += 1
                value = json.dumps({**fields, "n": self.n})
                pipe.xadd(self._key, {"event": value}, id=f"1-{self.n}")
            await pipe.execute()


async def following(served: Served, client: Client, channels: str, **more: Any) -> None:
    """Subscribe, and wait until what is written from now on will come."""
    await client.subscribe(channels, **more)
    (session,) = served.hub.clients
    await until(lambda: not any(stream.waiting for stream in session.streams.values()))


async def read_numbers(client: Client, last: int) -> list[int]:
    while last not in numbers(client.frames):
        await client.next("events")
    return numbers(client.frames)


async def test_trades_and_klines_come_apart_and_of_the_venues_asked_for(
    served: Served, redis: Redis
) -> None:
    events = Stream(redis, "events:BTCUSDT", kind="trade", venue="binance")
    await events.add(3)
    async with served.client() as client:
        await following(served, client, "trades klines", venues=["binance"])
        await events.add(2)
        await events.add(1, kind="kline")
        await events.add(1, kind="book_delta")
        await events.add(1, venue="kraken")
        await events.add(1)
        await read_numbers(client, 9)
        assert sorted(await read_numbers(client, 6)) == [4, 5, 6, 9]
        assert numbers(client.frames, "klines") == [6]
        assert [f.cursor for f in client.of("events", channel="trades")][-1] == "1-9"


async def test_merged_windows_come(served: Served, redis: Redis) -> None:
    merged = Stream(redis, "merged:BTCUSDT")
    async with served.client() as client:
        await following(served, client, "merged")
        await merged.add(2)
        assert await read_numbers(client, 2) == [1, 2]


async def test_a_client_goes_on_from_its_cursor_and_is_told_what_is_gone(
    served: Served, redis: Redis
) -> None:
    events = Stream(redis, "events:BTCUSDT", kind="trade", venue="binance")
    await events.add(600)
    async with served.client() as client:
        await client.subscribe("trades", resume={"trades|BTCUSDT": "1-5"})
        assert await read_numbers(client, 600) == list(range(6, 601))
        assert not any(frame.lost for frame in client.of("events"))
        await events.add(1)
        assert (await read_numbers(client, 601))[-1] == 601
    await redis.xtrim("events:BTCUSDT", maxlen=100, approximate=False)
    async with served.client() as client:
        await client.subscribe("trades", resume={"trades|BTCUSDT": "1-5"})
        assert await read_numbers(client, 601) == list(range(502, 602))
        assert client.of("events")[0].lost


async def test_a_cursor_that_no_entry_can_have_is_a_place_all_the_same(
    served: Served, redis: Redis
) -> None:
    await Stream(redis, "events:BTCUSDT", kind="trade", venue="binance").add(3)
    async with served.client() as client:
        await client.subscribe("trades", resume={"trades|BTCUSDT": f"0-{10**20 - 1}"})
        assert await read_numbers(client, 3) == [1, 2, 3]


async def test_findings_are_told_and_can_be_gone_on_from(served: Served, redis: Redis) -> None:
    """What a report's slow part has, by its own moment."""

    async def write(seq: int, found: list[dict[str, Any]]) -> None:
        await redis.set("report:BTCUSDT", report(seq, slow_ms=seq, anomalies=found))
        await redis.publish(
            "report:BTCUSDT", json.dumps({"symbol": "BTCUSDT", "token": 7, "seq": seq})
        )

    await write(1, [])
    async with served.client() as client:
        await following(served, client, "anomalies")
        await write(2, [finding(2)])
        frame = await client.next("events")
        assert (frame.cursor, frame.data) == ("2-1", [finding(2)])
        await write(3, [finding(3)])
        await client.next("events")
        async with served.client() as other:
            await other.subscribe("anomalies", resume={"anomalies|BTCUSDT": "2-1"})
            again = await other.next("events")
            assert (again.cursor, again.lost) == ("3-1", False)
            await other.subscribe("anomalies", "ETHUSDT", resume={"anomalies|ETHUSDT": "2-1"})


# --- execution reports ---------------------------------------------------------------------------


async def test_execution_reports_come_all_in_order_while_market_data_is_coalesced(
    redis_url: str, redis: Redis
) -> None:
    """Reports of the market are more than the client's rate allows; executions do not wait."""
    executions, writer = Stream(redis, "executions:BTCUSDT"), Writer(redis)
    async with (
        hub_server(redis_url, NT_HUB_RATE="5", NT_HUB_BURST="1") as served,
        served.client() as client,
    ):
        await following(served, client, "reports.fast executions")
        for _ in range(30):
            await writer.report()
            await executions.add(3)
        assert await read_numbers(client, 90) == list(range(1, 91))
        await client.seen("update", "snapshot", seq=30)
        (session,) = served.hub.clients
        assert session.dropped > 0
        # Not more: what was replaced in Redis before the hub could read it is no frame at all.
        assert len(client.of("update")) + session.dropped <= 30
        assert (await client.next("heartbeat")).throttled_s > 0
    assert served.sample("throttled_seconds_total") > 0


@asynccontextmanager
async def deaf(served: Served) -> AsyncIterator[Client]:
    """A client with a small buffer that does not read for a while."""
    async with served.client(max_queue=1) as client:
        yield client


async def test_a_client_that_does_not_take_its_executions_is_closed_and_goes_on_with_none_missing(
    served: Served, redis: Redis
) -> None:
    """With 1013 and where to go on; what it has read and what it then gets are all there are."""
    executions = Stream(redis, "executions:BTCUSDT", pad="x" * 60_000)
    async with deaf(served) as client:
        await following(served, client, "executions")
        for _ in range(40):
            await executions.add(10)
            await asyncio.sleep(0)
            if served.sample("closed_total", reason="full"):
                break
            await until_written(served, executions.n)
        await until(lambda: served.sample("closed_total", reason="full") == 1)
        code, reason = await client.closed()
        assert code == 1013
        got = numbers(client.frames)
        cursor = json.loads(reason)["resume"]["executions|BTCUSDT"]
        assert cursor == client.of("events")[-1].cursor == f"1-{got[-1]}"
    total = executions.n
    await executions.add(5)
    async with served.client() as client:
        await client.subscribe("executions", resume={"executions|BTCUSDT": cursor})
        got += await read_numbers(client, total + 5)
    assert got == list(range(1, total + 6))
    assert not any(frame.lost for frame in client.of("events"))


async def test_a_client_that_has_got_nothing_yet_goes_on_from_where_it_began(
    served: Served, redis: Redis
) -> None:
    await Stream(redis, "executions:BTCUSDT").add(3)
    async with served.client() as client:
        await following(served, client, "executions")
        (session,) = served.hub.clients
        assert session.resume() == {"executions|BTCUSDT": "1-3"}


async def until_written(served: Served, n: int) -> None:
    """The hub has read so many, and the client's queue has them or it is closed."""

    def taken() -> bool:
        sessions = list(served.hub.clients)
        return not sessions or any(
            stream.after >= (1, n) for s in sessions for stream in s.streams.values()
        )

    await until(taken)


async def test_without_the_scope_nobody_sees_executions(redis_url: str) -> None:
    async with hub_server(redis_url, Access.loopback()) as served, served.client() as client:
        await client.say(op="subscribe", channels=["executions"], symbols=["BTCUSDT"], id="e")
        refused = await client.next("error", "subscribed")
        assert (refused.code, refused.id) == ("forbidden", "e")
        assert "admin" in refused.message
