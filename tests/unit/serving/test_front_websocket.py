"""The front door before a websocket: who gets a handshake."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from lua import Keys
from serving.access import Access
from serving.access.front import Front
from serving.access.history import History
from serving.access.ring import KeyRing
from serving.metrics import ReaderMetrics
from tapeline.clock import SystemClock
from tapeline.config import load_settings
from tests.support.api_keys import issue


class Hub:
    """Stands behind the door, and remembers who came in."""

    def __init__(self) -> None:
        self.came: list[Access | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.came.append(scope["state"]["access"])
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})


async def knock(
    redis: Redis,
    *,
    require: str = "auto",
    answers: bool = True,
    query: str = "",
    metrics: ReaderMetrics | None = None,
    **headers: str,
) -> tuple[Hub, list[dict[str, Any]]]:
    """One handshake: the hub, and what the server was told."""
    settings = load_settings({"NT_REQUIRE_KEYS": require})
    hub = Hub()
    front = Front(
        hub,
        settings=settings,
        ring=KeyRing(redis, Keys()),
        history=History(redis, Keys(), 10),
        metrics=metrics or ReaderMetrics(),
        clock=SystemClock(),
    )
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    named = {"host": "localhost:8080", **{k.replace("_", "-"): v for k, v in headers.items()}}
    scope = {
        "type": "websocket",
        "path": "/ws",
        "raw_path": b"/ws",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
        "extensions": {"websocket.http.response": {}} if answers else {},
    }
    await front(scope, receive, send)
    return hub, sent


async def test_on_loopback_a_handshake_needs_no_key(redis: Redis) -> None:
    hub, sent = await knock(redis)
    assert hub.came == [Access.loopback()]
    assert sent == [{"type": "websocket.accept"}]


async def test_a_key_may_come_with_the_first_message(redis: Redis) -> None:
    """A page can't set headers; until then nobody is there."""
    hub, _ = await knock(redis, require="always")
    assert hub.came == [None]


async def test_a_key_in_a_header_says_who_comes(redis: Redis) -> None:
    text, key_id = await issue(redis, "ticks:read")
    hub, _ = await knock(redis, require="always", x_api_key=text)
    assert hub.came == [Access(key_id, frozenset({"ticks:read"}))]


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"origin": "https://evil.example"}, "", 403),
        ({"origin": "null"}, "", 403),
        ({"host": "evil.example"}, "", 421),
        ({"host": "evil.example", "origin": "http://evil.example"}, "", 421),
        ({"authorization": "Bearer tl_wrong"}, "", 401),
        ({}, "token=tl_abcdefghijkl_x", 400),
    ],
)
async def test_who_may_not_come_gets_an_answer_and_no_socket(
    redis: Redis, headers: dict[str, str], query: str, status: int
) -> None:
    hub, sent = await knock(redis, query=query, **headers)
    assert hub.came == []
    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert sent[0]["status"] == status
    assert b'"type":"/problems/' in sent[1]["body"]


async def test_refused_handshakes_are_counted_apart(redis: Redis) -> None:
    """From refused calls, which are counted with them: an alert is about sockets alone."""
    metrics = ReaderMetrics()
    await knock(redis, metrics=metrics)
    await knock(redis, metrics=metrics, origin="https://evil.example")
    await knock(redis, metrics=metrics, origin="https://evil.example", answers=False)
    name = "tapeline_websocket_refused_total"
    assert metrics.registry.get_sample_value(name, {"kind": "foreign-origin"}) == 2


async def test_a_server_that_can_not_answer_a_handshake_closes_it(redis: Redis) -> None:
    hub, sent = await knock(redis, answers=False, origin="https://evil.example")
    assert hub.came == []
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "Foreign origin"}]


async def test_a_page_of_our_own_may_come(redis: Redis) -> None:
    hub, _ = await knock(redis, origin="http://localhost:8080")
    assert hub.came == [Access.loopback()]
