"""The hub through a real socket and a real Redis: what a client that behaves well sees."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import aiohttp
import jsonschema
import msgspec
import pytest
from redis.asyncio import Redis

from serving.hub.protocol import CHANNELS, Request, ServerFrame, Snapshot, Update
from tests.support.hub_socket import WAIT_S, Served, Writer, connecting, hub_server, until
from tests.support.reader_process import serving

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[Served]:
    async with hub_server(redis_url) as found:
        yield found


async def test_a_client_is_greeted_with_what_it_has_to_know(served: Served) -> None:
    async with served.client() as client:
        hello = client.frames[0]
        assert (hello.protocol, hello.heartbeat_s, hello.auth_required) == (1, 2.0, False)
        assert hello.channels == CHANNELS
        assert (hello.limits.rate_per_s, hello.limits.burst, hello.limits.flush_ms) == (
            1000,
            100,
            50,
        )


async def test_a_subscription_is_acknowledged_and_again_the_same(served: Served) -> None:
    async with served.client() as client:
        first = await client.subscribe("reports.fast ticks", "BTCUSDT ETHUSDT")
        assert first.symbols == ("BTCUSDT", "ETHUSDT")
        assert not first.already
        again = await client.subscribe("ticks reports.fast", "ETHUSDT BTCUSDT")
        assert (again.subscription_id, again.already) == (first.subscription_id, True)
        await client.say(op="unsubscribe", subscription_id=first.subscription_id, id="u")
        assert (await client.next("unsubscribed", "error")).id == "u"
        await client.say(op="unsubscribe", subscription_id=first.subscription_id, id="u2")
        assert (await client.next("unsubscribed", "error")).code == "bad_request"
        assert not served.hub.board.audience


async def test_reports_come_as_stored_in_order_each_naming_the_one_before(
    served: Served, redis: Redis
) -> None:
    writer = Writer(redis)
    payloads = {1: await writer.report()}
    async with served.client() as client:
        await client.subscribe("reports.fast")
        await client.next("snapshot")
        for _ in range(20):
            payload = await writer.report()
            payloads[writer.seq] = payload
            await client.next("update", seq=writer.seq)
        states = [f for f in client.frames if isinstance(f, Snapshot | Update)]
        texts = [t for t in client.texts if t.startswith(('{"type":"snap', '{"type":"upd'))]
        for frame, text in zip(states, texts, strict=True):
            assert text.endswith(f'"data":{payloads[frame.seq].decode()}}}')
            assert frame.data["seq"] == frame.seq
            assert frame.data["writer"]["writerToken"] == frame.token
            assert not frame.read.stale
        for before, after in pairwise(states):
            assert (after.prev_token, after.prev_seq) == (before.token, before.seq)
            assert after.seq > before.seq
        assert states[-1].seq == 21


async def test_where_nothing_is_stored_a_client_is_told_so_and_then_gets_what_comes(
    served: Served, redis: Redis
) -> None:
    async with served.client() as client:
        await client.subscribe("reports.fast reports.slow ticks book status")
        for channel in ("reports.fast", "reports.slow", "ticks", "book", "status"):
            assert (await client.next("snapshot")).data is None, channel
        writer = Writer(redis)
        await writer.report()
        await writer.tick()
        for channel in ("reports.fast", "reports.slow", "ticks", "book"):
            await client.seen("update", channel=channel)
        assert (await client.next("update", channel="status")).data["writer"] == {
            "node_id": "node-a",
            "token": (await writer.lease()).token,
        }


async def test_ticks_have_the_top_and_books_the_depth_that_was_asked_for(
    served: Served, redis: Redis
) -> None:
    writer = Writer(redis)
    whole = json.loads(await writer.tick())
    async with served.client() as client:
        await client.subscribe("ticks book", depth=7)
        tick = await client.seen("snapshot", channel="ticks")
        assert tick.data == {**whole, "bids": whole["bids"][:1], "asks": whole["asks"][:1]}
        book = await client.seen("snapshot", channel="book")
        assert book.data["bids"] == whole["bids"][:7]
        await writer.tick()
        assert (await client.seen("update", channel="book")).seq == 2


async def test_all_symbols_are_those_that_are_there_and_those_that_come(
    served: Served, redis: Redis
) -> None:
    await Writer(redis, "AUSDT").report()
    async with served.client() as client:
        acknowledged = await client.subscribe("reports.fast", "*")
        assert acknowledged.symbols == ("*",)
        assert (await client.next("snapshot")).symbol == "AUSDT"
        await Writer(redis, "BUSDT").report()
        assert (await client.next("snapshot")).symbol == "BUSDT"


async def test_a_state_is_sent_again_when_it_is_asked_for(served: Served, redis: Redis) -> None:
    await Writer(redis).report()
    async with served.client() as client:
        await client.subscribe("reports.fast")
        first = await client.next("snapshot")
        await client.say(op="snapshot", channel="reports.fast", symbol="BTCUSDT")
        again = await client.next("snapshot")
        assert (again.token, again.seq, again.data) == (first.token, first.seq, first.data)
        await client.say(op="snapshot", channel="reports.fast", symbol="ETHUSDT", id="x")
        assert (await client.next("error")).id == "x"


async def test_a_client_that_comes_back_gets_what_it_has_missed_as_an_update_or_nothing(
    served: Served, redis: Redis
) -> None:
    writer = Writer(redis)
    await writer.report()
    token = (await writer.lease()).token
    async with served.client() as client:
        await client.subscribe("reports.fast", resume={"reports.fast|BTCUSDT": f"{token}.1"})
        await writer.report()
        update = await client.next("update", "snapshot")
        assert (update.seq, update.prev_token, update.prev_seq) == (2, token, 1)
    async with served.client() as client:
        await client.subscribe("reports.fast", resume={"reports.fast|BTCUSDT": f"{token}.9"})
        await writer.report()
        frames = await client.pong()
        assert not [f for f in frames if isinstance(f, Snapshot | Update)], "older than it has"


async def test_all_readers_tell_the_same_report(served: Served, redis: Redis) -> None:
    """Both hubs, the one in `tapeline serve` too, and HTTP."""
    url = redis.connection_pool.connection_kwargs
    payload = (await Writer(redis).report()).decode()
    store = f"redis://{url['host']}:{url['port']}/{url.get('db', 0)}"
    async with (
        serving(REDIS_URL=store) as process,
        aiohttp.ClientSession() as http,
        served.client() as one,
        connecting(f"ws://127.0.0.1:{process.port}/ws") as other,
    ):
        async with http.get(f"{process.url}/get_report?symbol=BTCUSDT") as response:
            assert await response.text() == payload
        for client in (one, other):
            await client.subscribe("reports.fast")
            await client.next("snapshot")
            assert client.texts[-1].endswith(f'"data":{payload}}}')
        await other.say(op="subscribe", channels=["executions"], symbols=["BTCUSDT"])
        assert (await other.next("error")).code == "forbidden"


async def test_the_number_of_subscribers_is_told_within_two_seconds(served: Served) -> None:
    async with served.client() as first:
        await first.subscribe("reports.fast")
        assert (await first.next("subscriber_count_changed")).count == 1
        for expected in (2, 1):
            async with served.client() as other:
                if expected == 2:
                    await other.subscribe("reports.fast")
                began_s = time.monotonic()
                assert (await first.next("subscriber_count_changed")).count == expected
                assert time.monotonic() - began_s < 2.5
        assert served.sample("subscribers_peak") == 2


async def test_heartbeats_come(redis_url: str) -> None:
    async with (
        hub_server(redis_url, NT_HUB_HEARTBEAT_S="0.2") as served,
        served.client() as client,
    ):
        beats = [await client.next("heartbeat") for _ in range(4)]
        assert [(b.dropped, b.throttled_s) for b in beats] == [(0, 0.0)] * 4
        gaps = [b - a for a, b in pairwise(beat.now_ms for beat in beats)]
        assert all(100 <= gap <= 1500 for gap in gaps), gaps


async def test_at_most_as_many_updates_a_second_as_were_asked_for(
    served: Served, redis: Redis
) -> None:
    writer = Writer(redis)
    async with served.client() as slow, served.client() as fast:
        await slow.subscribe("reports.fast", max_hz=2)
        await fast.subscribe("reports.fast")
        slow.listen()
        fast.listen()
        deadline_s = time.monotonic() + 2.2
        while time.monotonic() < deadline_s:
            await writer.report()
            await asyncio.sleep(0.06)
        await until(lambda: bool(fast.of("update", seq=writer.seq)))
        await until(lambda: bool(slow.of("update", seq=writer.seq)))
        states = slow.of("snapshot", "update")
        assert len(states) <= 7
        at_ms = [frame.read.now_ms for frame in states[1:]]
        assert all(after - before >= 480 for before, after in pairwise(at_ms))
        assert len(fast.of("update")) > 2 * len(states)
        await until(lambda: any(b.dropped for b in slow.of("heartbeat")))


async def test_a_server_without_a_way_in_for_frames_does_as_well(
    redis_url: str, redis: Redis
) -> None:
    """Frame by frame through ASGI."""
    writer = Writer(redis)
    async with hub_server(redis_url, plain=True) as served, served.client() as client:
        await client.subscribe("reports.fast")
        for _ in range(5):
            await writer.report()
        await client.next("update", "snapshot", seq=5)
        await client.ws.send(b"binary")
        assert (await client.closed())[0] == 1003


async def test_the_end_of_the_server_is_told(redis_url: str) -> None:
    async with hub_server(redis_url) as served, served.client() as client:
        await client.subscribe("reports.fast")
        ending = asyncio.create_task(served.hub.stop())
        assert (await client.closed())[0] == 1001
        await ending
        async with served.client(greeted=False) as late:
            assert (await late.closed())[0] == 1013


async def test_a_process_that_ends_tells_its_clients(redis_url: str) -> None:
    """Not 1012, which uvicorn says: it need not be this server that they come back to."""
    async with (
        serving(REDIS_URL=redis_url) as process,
        connecting(f"ws://127.0.0.1:{process.port}/ws") as client,
    ):
        ending = asyncio.create_task(process.end(signal.SIGTERM))
        assert (await client.closed())[0] == 1001
        await ending
        assert process.process.returncode == 0


async def test_what_is_sent_is_what_the_schemas_say(served: Served, redis: Redis) -> None:
    """Those that the AsyncAPI document is made of; requests as well."""
    schemas, components = msgspec.json.schema_components(
        [Request, ServerFrame], ref_template="#/$defs/{name}"
    )
    requests, frames = (
        jsonschema.Draft202012Validator({**schema, "$defs": components}) for schema in schemas
    )
    writer = Writer(redis)
    await writer.report()
    async with served.client() as client:
        await client.subscribe("reports.fast ticks book status trades", "BTCUSDT ETHUSDT")
        await client.seen("snapshot", channel="reports.fast", symbol="BTCUSDT")
        await writer.report()
        await writer.tick()
        await redis.xadd("events:BTCUSDT", {"event": '{"kind":"trade"}'})
        await client.say(op="nonsense", id="n")
        for kind in ("error", "update", "subscriber_count_changed", "heartbeat", "stale"):
            await client.seen(kind)
        await client.pong()
        for text in client.texts:
            frames.validate(json.loads(text))
    requests.validate({"op": "subscribe", "channels": ["ticks"], "symbols": ["*"], "max_hz": 4})
    for wrong in ({"op": "subscribe"}, {"op": "dance"}, {"op": "ping", "x": 1}):
        assert not requests.is_valid(wrong)


async def test_a_fault_of_ours_in_one_task_is_said_and_the_task_begun_again(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with hub_server(redis_url) as served, served.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(served.hub.board, "tell_counts", broken)
            await until(lambda: served.sample("broadcast_errors_total", reason="own_fault") >= 1)
        await client.subscribe("reports.fast")
        await client.seen("subscriber_count_changed")
        async with served.client() as other:
            (theirs,) = [s for s in served.hub.clients if not s.streams]
            monkeypatch.setattr(theirs, "take", broken)
            await other.say(op="ping")
            assert (await other.closed())[0] == 1011
        await Writer(redis).report()
        await client.next("update")


async def test_ticks_are_listened_to_only_while_somebody_follows_them(
    served: Served, redis: Redis
) -> None:
    """Twenty a second of each symbol are work for nothing."""
    writer = Writer(redis)

    async def patterns() -> int:
        return int(await redis.pubsub_numpat())

    async def settled(number: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while await patterns() != number:
                await writer.tick()

    await settled(1)
    async with served.client() as client:
        await client.subscribe("ticks")
        await settled(2)
    await settled(1)
