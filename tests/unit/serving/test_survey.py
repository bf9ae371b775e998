"""What is seen of nodes and symbols, in a Redis filled by hand."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from lua import Keys
from serving.reader import StoreUnavailable, reader_client
from serving.survey import NodeSight, Surveyor, SymbolSight, ask_health, health_url
from tapeline.clock import ManualClock
from tests.support.redis_process import RedisProcess
from tests.support.reports import stored

NOW_MS = 1_800_000_000_000


def heartbeat(node_id: str, **changes: Any) -> bytes:
    body = {
        "node_id": node_id,
        "incarnation": f"{node_id}-1",
        "hostname": "host-a",
        "pid": 4711,
        "pid_space": "x",
        "started_at": NOW_MS - 60_000,
        "metrics_url": "",
        "last_heartbeat": NOW_MS - 300,
    }
    return json.dumps({**body, **changes}).encode()


def surveyor(redis: Redis, *symbols: str, **rest: Any) -> Surveyor:
    return Surveyor(redis, Keys(), symbols=symbols, clock=ManualClock(NOW_MS), **rest)


async def seen(redis: Redis, **rest: Any) -> tuple[dict[str, NodeSight], dict[str, SymbolSight]]:
    survey = await surveyor(redis).look(**rest)
    return {n.node_id: n for n in survey.nodes}, {s.symbol: s for s in survey.symbols}


# --- nodes ----------------------------------------------------------------------------------------


async def test_a_node_is_seen_by_its_heartbeat_alone(redis: Redis) -> None:
    """Whether or not the index of nodes has it."""
    await redis.set("nt:node:w1", heartbeat("w1"))
    nodes, _ = await seen(redis)
    one = nodes["w1"]
    assert (one.hostname, one.pid, one.incarnation) == ("host-a", 4711, "w1-1")
    assert (one.up_s, one.heartbeat_age_ms) == (60.0, 300)
    assert (one.health, one.owned, one.assigned, one.warm) == (None,) * 4


async def test_a_node_whose_connection_is_gone_has_vanished(redis: Redis, redis_url: str) -> None:
    for name in ("w1", "w2"):
        await redis.set(f"nt:node:{name}", heartbeat(name))
    async with reader_client(redis_url) as other, other.pubsub() as there:
        await there.subscribe("nt:alive:w1")
        nodes, _ = await seen(redis)
    assert {name: one.state for name, one in nodes.items()} == {"w1": "up", "w2": "vanished"}


async def test_a_node_that_says_so_is_draining(redis: Redis) -> None:
    await redis.set("nt:node:w1", heartbeat("w1"))
    nodes, _ = await seen(redis, draining={"w1"})
    assert nodes["w1"].state == "draining"


async def test_a_node_drains_until_it_has_left_and_the_next_of_its_name_is_up(
    redis: Redis,
) -> None:
    """It says so for as long as it has leases; leaving takes longer."""
    looking = surveyor(redis)

    async def state(*draining: str) -> str:
        [one] = (await looking.look(draining)).nodes
        return one.state

    async with redis.pubsub() as there:
        await there.subscribe("nt:alive:w1")
        await redis.set("nt:node:w1", heartbeat("w1"))
        assert await state() == "up"
        assert [await state("w1"), await state()] == ["draining", "draining"]
        await redis.delete("nt:node:w1")
        assert await state() == "left"
        await redis.set("nt:node:w1", heartbeat("w1", incarnation="w1-2"))
        await redis.zadd("nt:nodes", {"w1": NOW_MS})
        assert await state() == "up"


async def test_a_node_is_shown_as_gone_for_a_minute_after_its_heartbeat(redis: Redis) -> None:
    await redis.zadd("nt:nodes", {"w1": NOW_MS, "w2": NOW_MS})
    await redis.set("nt:node:w1", heartbeat("w1"))
    clock = ManualClock(NOW_MS)
    looking = Surveyor(redis, Keys(), clock=clock)
    assert [one.node_id for one in (await looking.look()).nodes] == ["w1"]  # w2 was never seen
    await redis.delete("nt:node:w1")
    clock.advance(30_000)
    assert [one.state for one in (await looking.look()).nodes] == ["gone"]
    clock.advance(31_000)
    assert (await looking.look()).nodes == ()


@pytest.mark.parametrize("value", [b"", b"no json", b"[]", b'{"pid":"x"}'])
async def test_a_heartbeat_that_can_t_be_read_hides_no_other(redis: Redis, value: bytes) -> None:
    await redis.set("nt:node:bad", value)
    await redis.set("nt:node:w1", heartbeat("w1"))
    assert set((await seen(redis))[0]) == {"w1"}


# --- /health --------------------------------------------------------------------------------------

HEALTH = {
    "node_id": "w1",
    "status": "ok",
    "owned_symbols": ["A", "B"],
    "assigned_symbols": ["A", "B", "C"],
    "warm_symbols": ["D"],
    "assigned": True,
    "something_new": 1,
}


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Starts a worker's ``/health``; gives its root."""
    runners: list[web.AppRunner] = []

    async def start(body: bytes, status: int = 200) -> str:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(body=body, status=status)

        app = web.Application()
        app.router.add_get("/health", answer)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize(("status", "said"), [(200, "ok"), (503, "stalled")])
async def test_counts_come_from_health_well_or_not(
    redis: Redis, serve: Callable[..., Any], status: int, said: str
) -> None:
    root = await serve(json.dumps({**HEALTH, "status": said}).encode(), status)
    await redis.set("nt:node:w1", heartbeat("w1", metrics_url=f"{root}/metrics"))
    one = (await seen(redis))[0]["w1"]
    assert (one.health, one.owned, one.assigned, one.warm) == (said, 2, 3, 1)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", json.dumps(HEALTH).encode()])
async def test_an_answer_of_another_or_of_nobody_counts_for_nothing(
    serve: Callable[..., Any], body: bytes
) -> None:
    """A loopback address in the heartbeat of another machine's node may be one of ours here."""
    assert await ask_health({"w2": f"{await serve(body)}/health"}) == {}


async def test_who_does_not_answer_holds_nobody_up(serve: Callable[..., Any]) -> None:
    root = await serve(json.dumps(HEALTH).encode())
    urls = {"w1": f"{root}/health", "w2": "http://127.0.0.1:1/health"}
    assert set(await ask_health(urls)) == {"w1"}


async def test_nobody_is_asked_where_that_is_not_wanted(
    redis: Redis, serve: Callable[..., Any]
) -> None:
    root = await serve(json.dumps(HEALTH).encode())
    await redis.set("nt:node:w1", heartbeat("w1", metrics_url=f"{root}/metrics"))
    [one] = (await surveyor(redis, ask_health=False).look()).nodes
    assert one.health is None


@pytest.mark.parametrize(
    ("metrics_url", "asked"),
    [
        ("http://127.0.0.1:9101/metrics", "http://127.0.0.1:9101/health"),
        ("http://0.0.0.0:9101/metrics", "http://host-a:9101/health"),
        ("http://[::]:9101/metrics", "http://host-a:9101/health"),
        ("http://[::1]:9101/metrics", "http://[::1]:9101/health"),
        ("", ""),
        ("file:///etc/passwd", ""),
        ("http://127.0.0.1:x/metrics", ""),
        ("http://127.0.0.1/metrics", ""),
    ],
)
def test_where_a_node_is_asked_is_read_off_its_heartbeat(metrics_url: str, asked: str) -> None:
    assert health_url(metrics_url, "host-a") == asked


# --- symbols --------------------------------------------------------------------------------------


async def fill(redis: Redis, symbol: str = "BTCUSDT", **report: Any) -> None:
    await redis.set(f"report:writer:{symbol}", "w1|abc|9", px=1800)
    await redis.hset(
        f"report:meta:{symbol}",
        mapping={"token": 9, "seq": 4, "watermark": 1407, "updated_at": NOW_MS - 120},
    )
    report = {"token": 9, "seq": 4, "now_ms": NOW_MS - 120, "data_age_ms": 40, **report}
    await redis.set(f"report:{symbol}", stored(symbol, **report))


async def test_a_symbol_shows_owner_order_ages_and_offset(redis: Redis) -> None:
    await fill(redis)
    one = (await seen(redis))[1]["BTCUSDT"]
    assert (one.owner, one.token, one.seq, one.watermark) == ("w1", 9, 4, 1407)
    assert 0 < one.lease_ms <= 1800
    assert (one.report_age_ms, one.data_age_ms, one.state) == (120, 160, "ok")
    body = json.loads(stored())
    assert one.partition == body["source"]["fast"]["partition"]
    assert one.offset == body["source"]["fast"]["offset"]
    assert one.feed_gaps == body["gaps"]["count"]


async def test_symbols_are_found_by_any_key_of_their_reports(redis: Redis) -> None:
    await redis.set("report:writer:A", "w1|abc|9")
    await redis.hset("report:meta:B", "token", 3)
    await redis.set("report:C", stored("C", now_ms=NOW_MS))
    await redis.set("report:writer:token:D", 4)
    await redis.set("tick:X", "x")
    _, symbols = await seen(redis)
    assert list(symbols) == ["A", "B", "C", "D"]
    assert symbols["A"].owner == "w1"
    assert (symbols["B"].state, symbols["C"].state) == ("none", "ok")


async def test_only_the_named_symbols_are_looked_at(redis: Redis) -> None:
    await fill(redis)
    survey = await surveyor(redis, "ETHUSDT").look(also=["SOLUSDT"])
    assert [one.symbol for one in survey.symbols] == ["ETHUSDT"]
    assert survey.symbols[0].report_age_ms is None


@pytest.mark.parametrize(
    ("payload", "state"),
    [(stored(now_ms=NOW_MS - 5000), "stale"), (b"{}", "unreadable"), (b"x", "unreadable")],
)
async def test_a_report_s_state_is_told(redis: Redis, payload: bytes, state: str) -> None:
    await redis.set("report:BTCUSDT", payload)
    assert (await seen(redis))[1]["BTCUSDT"].state == state


async def test_keys_of_other_kinds_than_ours_break_nothing(redis: Redis) -> None:
    await redis.set("report:meta:A", "a string")
    await redis.hset("report:writer:A", "a", "hash")
    await redis.hset("report:A", "a", "hash")
    await redis.hset("report:meta:B", "token", "no number")
    _, symbols = await seen(redis)
    assert {name: (one.owner, one.token) for name, one in symbols.items()} == {
        "A": ("", 0),
        "B": ("", 0),
    }


async def test_a_redis_that_stands_still_is_an_error_in_time(own_server: RedisProcess) -> None:
    async with reader_client(own_server.url) as redis:
        looking = surveyor(redis, timeout_s=0.3)
        await looking.look()
        own_server.pause()
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await looking.look()
        assert time.monotonic() - began_s < 2
        own_server.resume()
        await looking.look()
