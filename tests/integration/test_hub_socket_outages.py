"""Redis away, a writer that ends, clients that are stuck: told, and outlived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serving.hub import state_feed
from tests.support.hub_socket import Writer, hub_server, until
from tests.support.redis_process import RedisProcess, running_server

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server of the test's own, which keeps what was written."""
    with running_server(tmp_path, durable=True) as process:
        yield process


async def test_a_report_turns_stale_within_two_seconds_of_its_limit_and_fresh_again(
    redis_url: str,
) -> None:
    async with (
        Redis.from_url(redis_url) as redis,
        hub_server(redis_url) as served,
        served.client() as client,
    ):
        writer = Writer(redis)
        await writer.report()
        ended_s = time.monotonic()
        await client.subscribe("reports.fast reports.slow")
        for channel in ("reports.fast", "reports.slow"):
            stale = await client.next("stale", channel=channel)
            assert stale.read.stale
            assert stale.read.data_age_ms > 2000
        assert 1.9 < time.monotonic() - ended_s < 4.0
        await writer.report()
        assert not (await client.next("update", channel="reports.fast")).read.stale


@pytest.mark.parametrize("how", ["killed", "standing still"])
async def test_redis_away_is_told_within_two_seconds_and_healed_without_a_reconnect(
    own: RedisProcess, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same connection goes on; no place is ever lower than one before it."""
    monkeypatch.setattr(state_feed, "QUIET_S", 0.1)
    async with (
        Redis.from_url(own.url) as redis,
        hub_server(own.url) as served,
        served.client() as client,
    ):
        writer = Writer(redis)
        await writer.report()
        await client.subscribe("reports.fast trades")
        await client.next("snapshot")
        if how == "killed":
            own.kill()
        else:
            own.pause()
        gone_s = time.monotonic()
        down = await client.next("source", redis="down")
        assert time.monotonic() - gone_s < 2.5
        async with served.client() as late:
            assert (await late.next("source")).redis == "down"
            await late.subscribe("reports.fast")
            await late.pong()
            assert not late.of("snapshot"), "what is not known is not said to be nothing"
            if how == "killed":
                own.start()
            else:
                own.resume()
            up = await client.next("source", redis="up")
            assert up.since_ms > down.since_ms
            assert (await late.next("snapshot")).seq == 1
        # The old client's connections are broken.
        async with Redis.from_url(own.url) as again:
            payload = await Writer(again).report()
            update = await client.next("update")
            assert (update.seq, update.prev_seq) == (2, 1)
            assert client.texts[-1].endswith(f'"data":{payload.decode()}}}')
            await again.xadd("events:BTCUSDT", {"event": '{"kind":"trade","n":1}'}, id="1-1")
        assert (await client.next("events")).data == [{"kind": "trade", "n": 1}]
        assert served.sample("store_up") == 1


async def test_redis_standing_still_is_told_to_a_client_that_follows_nothing(
    own: RedisProcess,
) -> None:
    """No read fails, for there is none: a ping does."""
    async with hub_server(own.url) as served, served.client() as client:
        await until(lambda: served.hub.states.up is True)
        own.pause()
        gone_s = time.monotonic()
        await client.next("source", redis="down")
        assert time.monotonic() - gone_s < 2.5
        own.resume()
        await client.next("source", redis="up")


async def test_a_store_that_came_back_older_is_not_believed(own: RedisProcess) -> None:
    """A failover to a replica that lagged: nothing lower is shown, and what follows is."""
    async with (
        Redis.from_url(own.url) as redis,
        hub_server(own.url) as served,
        served.client() as client,
    ):
        writer = Writer(redis)
        old = await writer.report()
        for _ in range(4):
            await writer.report()
        await client.subscribe("reports.fast")
        await client.next("snapshot", seq=5)
        await redis.set("report:BTCUSDT", old)
        await redis.publish("report:BTCUSDT", '{"symbol":"BTCUSDT","token":1,"seq":1}')
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await redis.publish("report:BTCUSDT", b"nonsense")
        await redis.publish("report:BTCUSDT", b'{"symbol":"btc\xff"}')
        await redis.publish("report:BTCUSDT", b'{"symbol":"btc"}')
        await redis.set("report:ETHUSDT", b"\xff no report")
        await client.subscribe("reports.fast", "ETHUSDT")
        assert (await client.next("snapshot", symbol="ETHUSDT")).data is None
        # Two rounds of reading everything again, which find the old one.
        await client.next("heartbeat")
        await client.next("heartbeat")
        await client.say(op="snapshot", channel="reports.fast", symbol="BTCUSDT")
        assert (await client.next("snapshot", symbol="BTCUSDT")).seq == 5
        await writer.report()
        assert (await client.next("update", symbol="BTCUSDT")).seq == 6
        assert served.sample("broadcast_errors_total", reason="unreadable") > 0


async def test_streams_that_were_deleted_meanwhile_are_begun_anew_and_told(
    own: RedisProcess,
) -> None:
    """Ids start over: without the check nothing would come until they had caught up."""
    async with (
        Redis.from_url(own.url) as redis,
        hub_server(own.url) as served,
        served.client() as client,
    ):
        await redis.xadd("events:BTCUSDT", {"event": '{"kind":"trade","n":1}'}, id="9-1")
        await client.subscribe("trades")
        (session,) = served.hub.clients
        await until(lambda: not any(s.waiting for s in session.streams.values()))
        await redis.xadd("events:BTCUSDT", {"event": '{"kind":"trade","n":2}'}, id="9-2")
        await client.next("events", cursor="9-2")
        own.kill()
        for file in own.folder.rglob("*.aof"):
            file.unlink()
        for file in own.folder.rglob("*.manifest"):
            file.unlink()
        own.start()
        async with Redis.from_url(own.url) as anew:
            await anew.xadd("events:BTCUSDT", {"event": '{"kind":"trade","n":3}'}, id="1-1")
        again = await client.next("events")
        assert (again.cursor, again.lost) == ("1-1", True)


async def test_a_stuck_client_costs_the_others_nothing_and_is_shed(redis_url: str) -> None:
    """It gets no more than its buffer holds; what waits for it is one state a symbol."""
    symbols = [f"S{n}USDT" for n in range(40)]
    async with (
        Redis.from_url(redis_url) as redis,
        hub_server(redis_url, NT_HUB_SEND_TIMEOUT_S="3", NT_HUB_FLUSH_MS="1") as served,
        served.client(max_queue=1) as stuck,
        served.client() as good,
    ):
        writers = [Writer(redis, symbol) for symbol in symbols]
        await stuck.subscribe("reports.fast reports.slow", "*")
        await good.subscribe("reports.fast", "*")
        good.listen()

        async def write() -> None:
            for writer in writers:
                await writer.report()

        def blocked() -> bool:
            return any(c.blocked_ms is not None for c in served.hub.clients.values())

        rounds = 0
        while not blocked():
            await write()
            rounds += 1
            assert rounds < 500, "its buffers take everything"
        for _ in range(10):
            await write()
        sessions = list(served.hub.clients.items())
        (behind,) = [s for s, c in sessions if c.blocked_ms is not None]
        assert behind.waits <= 2 * len(symbols)
        assert all(s.depth_of_buffer <= 1 for s in behind.streams.values())
        assert behind.dropped > 0
        last = writers[-1]
        await until(lambda: bool(good.of("update", symbol=last.symbol, seq=last.seq)))
        for symbol in symbols:
            states = good.of("snapshot", "update", symbol=symbol)
            assert [s.seq for s in states] == sorted({s.seq for s in states})
            for before, after in pairwise(states):
                assert after.prev_seq == before.seq
        assert served.sample("coalesced_total", channel="reports.fast") > 0
        await until(lambda: served.sample("closed_total", reason="slow") == 1)
        await until(lambda: len(served.hub.clients) == 1)
        assert (await stuck.closed())[0] in {1013, 1006}
        await write()
        await until(lambda: bool(good.of("update", symbol=last.symbol, seq=last.seq)))


async def test_a_client_that_was_slow_and_reads_again_has_the_newest(redis_url: str) -> None:
    async with (
        Redis.from_url(redis_url) as redis,
        hub_server(redis_url, NT_HUB_FLUSH_MS="1", NT_HUB_RATE="100000") as served,
        served.client(max_queue=1) as client,
    ):
        writers = [Writer(redis, f"S{n}USDT") for n in range(20)]
        await client.subscribe("reports.fast reports.slow", "*")
        (held,) = served.hub.clients.values()
        while held.blocked_ms is None:
            await asyncio.gather(*(writer.report() for writer in writers))
        for writer in writers:
            await writer.report()
        client.listen()
        for writer in writers:
            await until(
                lambda w=writer: bool(  # type: ignore[misc]
                    client.of("update", channel="reports.fast", symbol=w.symbol, seq=w.seq)
                )
            )
            states = client.of("snapshot", "update", channel="reports.fast", symbol=writer.symbol)
            for before, after in pairwise(states):
                assert (after.prev_token, after.prev_seq) == (before.token, before.seq)
        await until(lambda: bool(client.of("heartbeat")) and client.of("heartbeat")[-1].dropped > 0)


async def test_a_user_that_may_not_listen_still_gets_everything_a_second_later(
    own: RedisProcess,
) -> None:
    """As an operator's list of permissions may have it who has forgotten the channels."""
    own.call("ACL", "SETUSER", "reader", "on", ">pw", "~*", "resetchannels", "+@read", "+ping")
    url = own.url.replace("//", "//reader:pw@")
    async with (
        Redis.from_url(own.url) as redis,
        hub_server(url) as served,
        served.client() as client,
    ):
        writer = Writer(redis)
        await writer.report()
        await client.subscribe("reports.fast", "*")
        assert (await client.next("snapshot")).seq == 1
        await writer.report()
        assert (await client.next("update")).seq == 2
        assert served.hub.states.up
