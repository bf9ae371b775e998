"""Feeds as resources: what is answered, and who may change what."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from lua import Keys
from serving.access import Access
from serving.access.keys import KeyStore, mint
from serving.app import create_api
from serving.feeds import ControlUnavailable, Outcome, UnknownFeed
from serving.parts import Parts
from serving.routes import streams
from serving.status.minutes import minutes_of
from serving.status.models import Status, Stream, StreamAnswer, StreamMetrics, Streams
from tapeline.config import load_settings
from tests.support.asgi_client import Answer, Client

BTC, STREAM = "BTCUSDT", "binance:BTCUSDT"
ROOT = "/api/v1/streams"


class Control:
    """Answers as it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.outcome: Outcome | Exception = Outcome(
            command_id="c1", status="success", changed=True, routing_version=2, node_id="b1"
        )

    async def follow(self, venue: str, symbol: str, venue_symbol: str) -> Outcome:
        self.asked.append(("follow", venue, symbol, venue_symbol))
        return self._said()

    async def unfollow(self, venue: str, symbol: str) -> Outcome:
        self.asked.append(("unfollow", venue, symbol))
        return self._said()

    def _said(self) -> Outcome:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def control() -> Control:
    return Control()


def client_of(redis: Redis, control: Control | None = None, key: str = "") -> Client:
    return Client(create_api(load_settings({}), redis, control), key)


async def admin_key(redis: Redis) -> str:
    """A key as `tapeline keys create` makes it."""
    key, text = mint("ops", ["admin"], None, 0)
    await KeyStore(redis, Keys()).put(key)
    return text


async def beat(redis: Redis) -> None:
    body = {
        "topic": "md.events.v1",
        "broker": {"connected": True},
        "venues": {"binance": {"connected": True}},
        "feeds": {STREAM: {"book": "in_sync", "token": 3, "records_per_s": 5.0}},
    }
    await redis.set("nt:bridge:b1", json.dumps(body), ex=5)
    await redis.zadd("nt:bridges", {"b1": 1})


async def post(client: Client, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.get(
        ROOT, method="POST", headers=[("Content-Type", "application/json")], body=[data]
    )


# --- reading --------------------------------------------------------------------------------------


async def test_feeds_are_listed_with_where_to_go_on(redis: Redis) -> None:
    await beat(redis)
    client = client_of(redis)
    answer = await client.get(ROOT)
    assert answer.status == 200
    [stream] = Streams.model_validate_json(answer.body).streams
    assert (stream.stream_id, stream.state, stream.bridge) == (STREAM, "ok", "b1")
    assert stream.links.self == f"{ROOT}/{STREAM}"
    one = await client.get(stream.links.self)
    assert one.status == 200
    assert Stream.model_validate_json(one.body) == stream
    assert (await client.get("/status")).status == 200


@pytest.mark.parametrize("name", ["binance:NONE", "nonsense", "a:b:c", "binance:\x00"])
async def test_a_stream_that_nobody_follows_is_not_found(redis: Redis, name: str) -> None:
    await beat(redis)
    client = client_of(redis)
    for path in (f"{ROOT}/{name}", f"{ROOT}/{name}/metrics"):
        answer = await client.get(path)
        assert answer.status == 404
        assert answer.json()["type"] == "/problems/no-such-stream"


async def test_a_socket_s_path_says_so_to_others(redis: Redis) -> None:
    answer = await client_of(redis).get(f"{ROOT}/{STREAM}/ws")
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")


async def test_the_last_hour_is_told_a_point_a_minute(redis: Redis) -> None:
    now_ms = time.time_ns() // 1_000_000
    minute_ms = now_ms - now_ms % 60_000
    point = {
        "records": 60, "gaps": 1, "resyncs": 1, "reconnects": 0, "looks": 4, "in_sync": 3,
        "age_ms_max": 800, "span_ms": 30_000,
    }  # fmt: skip
    key = f"nt:feed:minutes:{STREAM}"
    for entry, body in (
        (f"{minute_ms - 7_200_000}-3", point),
        (f"{minute_ms - 120_000}-3", point),
        (f"{minute_ms - 120_000}-9", {**point, "records": 30, "age_ms_max": None}),
        (f"{minute_ms - 60_000}-9", {**point, "looks": 0, "in_sync": 0, "span_ms": 0}),
    ):
        await redis.xadd(key, {"point": json.dumps(body)}, id=entry)
    answer = await client_of(redis).get(f"{ROOT}/{STREAM}/metrics")
    told = StreamMetrics.model_validate_json(answer.body)
    assert (told.stream_id, told.period_s) == (STREAM, 60)
    first, last = told.points
    assert (first.ts_ms, first.records, first.gaps) == (minute_ms - 120_000, 90, 2)
    assert (first.records_per_s, first.in_sync_pct, first.age_ms_max) == (1.5, 75.0, 800)
    assert (last.records_per_s, last.in_sync_pct) == (None, None)


def test_what_is_no_point_is_passed_over() -> None:
    assert minutes_of([(b"x", {}), (b"5-1", {b"point": b"["}), (b"y-1", {b"point": b"{}"})]) == []


async def test_without_redis_streams_are_503_and_the_status_says_why() -> None:
    settings = load_settings({}, redis_url="redis://127.0.0.1:1/0")
    client = Client(create_api(settings))
    for path in (ROOT, f"{ROOT}/{STREAM}", f"{ROOT}/{STREAM}/metrics"):
        answer = await client.get(path)
        assert (answer.status, answer.json()["type"]) == (503, "/problems/store-unavailable")
    status = Status.model_validate_json((await client.get("/status")).body)
    assert (status.state, status.chain[3].state) == ("down", "down")


# --- changing -------------------------------------------------------------------------------------


async def test_changing_asks_for_admin_on_loopback_too(redis: Redis, control: Control) -> None:
    client = client_of(redis, control)
    for answer in (
        await post(client, {"venue": "binance", "symbol": BTC}),
        await client.get(f"{ROOT}/{STREAM}", method="DELETE"),
    ):
        assert answer.status == 401
    assert control.asked == []


async def test_the_routes_ask_for_admin_themselves(redis: Redis, control: Control) -> None:
    """Were the front door ever left open."""
    app = FastAPI()
    app.include_router(streams.router(Parts.of(load_settings({}), redis, control=control)))
    for access in (None, Access.loopback()):

        async def inside(scope: Any, receive: Any, send: Any, access: Any = access) -> None:
            await app({**scope, "state": {"access": access}}, receive, send)

        client = Client(inside)
        assert (await post(client, {"venue": "binance", "symbol": BTC})).status == 403
        assert (await client.get(f"{ROOT}/{STREAM}", method="DELETE")).status == 403
    assert control.asked == []


async def test_a_feed_is_followed_and_left(redis: Redis, control: Control) -> None:
    client = client_of(redis, control, await admin_key(redis))
    answer = await post(client, {"venue": "kraken", "symbol": "BTCUSD", "venue_symbol": "BTC/USD"})
    assert (answer.status, answer.headers["location"]) == (201, f"{ROOT}/kraken:BTCUSD")
    told = StreamAnswer.model_validate_json(answer.body)
    assert (told.stream_id, told.status, told.changed) == ("kraken:BTCUSD", "success", True)
    answer = await client.get(f"{ROOT}/kraken:BTCUSD", method="DELETE")
    assert answer.status == 200
    assert control.asked == [
        ("follow", "kraken", "BTCUSD", "BTC/USD"),
        ("unfollow", "kraken", "BTCUSD"),
    ]


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (Outcome(command_id="c", status="success", changed=False), 200, ""),
        (Outcome(command_id="c", status="unanswered"), 202, ""),
        (Outcome(command_id="c", status="error", error="not listed"), 409, "stream-refused"),
        (UnknownFeed("no such venue"), 422, "invalid-parameter"),
        (ControlUnavailable("away"), 503, "broker-unavailable"),
    ],
)
async def test_each_outcome_has_an_answer_of_its_own(
    redis: Redis, control: Control, outcome: Any, status: int, kind: str
) -> None:
    control.outcome = outcome
    client = client_of(redis, control, await admin_key(redis))
    answers = [await post(client, {"venue": "binance", "symbol": BTC})]
    answers.append(await client.get(f"{ROOT}/{STREAM}", method="DELETE"))
    for answer in answers:
        assert answer.status == status
        if kind:
            assert answer.json()["type"] == f"/problems/{kind}"


async def test_without_kafka_nothing_is_changed(redis: Redis) -> None:
    client = client_of(redis, None, await admin_key(redis))
    answer = await post(client, {"venue": "binance", "symbol": BTC})
    assert (answer.status, answer.json()["type"]) == (503, "/problems/not-configured")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        {},
        {"venue": "binance"},
        {"venue": "binance", "symbol": "btc"},
        {"venue": "binance", "symbol": "BTC\x00"},
        {"venue": "b" * 40, "symbol": BTC},
        {"venue": "binance", "symbol": BTC, "venue_symbol": "a,b"},
        {"venue": "binance", "symbol": BTC, "more": 1},
    ],
)
async def test_a_wish_that_can_t_be_right_reaches_no_bridge(
    redis: Redis, control: Control, body: Any
) -> None:
    client = client_of(redis, control, await admin_key(redis))
    answer = await post(client, body)
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert control.asked == []
