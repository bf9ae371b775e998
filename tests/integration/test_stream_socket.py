"""A stream's own WebSocket, of a ``tapeline serve`` that is real."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis as sync_redis
import websockets

from lua import Keys
from serving.access.keys import KeyStore, mint
from serving.reader import reader_client
from tapeline.stack.ports import free_port
from tests.support import commands
from tests.support.reports import stored

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

PATH = "/api/v1/streams/binance:BTCUSDT/ws"


@asynccontextmanager
async def serving(redis_url: str, **variables: str) -> AsyncIterator[str]:
    """A reader, and where its sockets are."""
    port = free_port()
    process = await commands.start(
        "serve", REDIS_URL=redis_url, NT_SERVE_PORT=str(port), **variables
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            async for line in process.stderr:
                if b"Application startup complete" in line:
                    break
        draining = asyncio.create_task(process.stderr.read())
        yield f"ws://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 15)
        await asyncio.gather(draining, return_exceptions=True)


async def until(socket: Any, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first frame of which that is true."""
    async with asyncio.timeout(10):
        while True:
            frame: dict[str, Any] = json.loads(await socket.recv())
            if true(frame):
                return frame


@pytest.fixture
def store(redis_url: str) -> str:
    with sync_redis.Redis.from_url(redis_url) as client:
        client.set("report:BTCUSDT", stored(seq=5, now_ms=time.time_ns() // 1_000_000))
    return redis_url


async def test_its_subscription_is_made_already(store: str) -> None:
    async with serving(store) as url:
        async with websockets.connect(url + PATH) as socket:
            told = await until(socket, lambda frame: frame["type"] == "subscribed")
            assert told["id"] == "stream"
            assert (told["channels"], told["symbols"]) == (["reports.fast", "ticks"], ["BTCUSDT"])
            frame = await until(
                socket, lambda f: (f["type"], f.get("channel")) == ("snapshot", "reports.fast")
            )
            assert frame["data"]["seq"] == 5
            await socket.send('{"op":"ping","id":"p"}')
            await until(socket, lambda frame: frame["type"] == "pong" and frame["id"] == "p")
        async with websockets.connect(f"{url}{PATH}?channels=status") as socket:
            told = await until(socket, lambda frame: frame["type"] == "subscribed")
            assert told["channels"] == ["status"]
        async with websockets.connect(f"{url}{PATH}?channels=nonsense") as socket:
            told = await until(socket, lambda frame: frame["type"] == "error")
            assert (told["id"], told["code"]) == ("stream", "unknown_channel")
        with pytest.raises(websockets.exceptions.InvalidStatus):
            await websockets.connect(f"{url}/api/v1/streams/nonsense/ws")


async def test_where_a_key_is_needed_it_is_made_behind_the_key(store: str) -> None:
    key, text = mint("bot", ["reports:read", "ticks:read"], None, 0)
    async with reader_client(store) as redis:
        await KeyStore(redis, Keys()).put(key)
    async with serving(store, NT_REQUIRE_KEYS="always") as url:
        async with websockets.connect(url + PATH) as socket:
            assert json.loads(await socket.recv())["auth_required"] is True
            await socket.send(json.dumps({"op": "auth", "key": text}))
            told = await until(socket, lambda frame: frame["type"] == "subscribed")
            assert told["id"] == "stream"
        async with websockets.connect(
            url + PATH, additional_headers={"Authorization": f"Bearer {text}"}
        ) as socket:
            await until(socket, lambda frame: frame["type"] == "subscribed")
        async with websockets.connect(url + PATH) as socket:
            await socket.send(json.dumps({"op": "auth", "key": "tl_wrong"}))
            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                await until(socket, lambda frame: frame["type"] == "subscribed")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
