"""HTTP, WebSocket and MCP give one object: byte for byte, equally old, and never an older one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import pytest
from mcp import Client
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.chaos.proxy import Proxy
from tests.support.redis_process import RedisProcess, any_binary
from tests.support.report_writer import writing
from tests.support.serve_process import serve_process

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

SYMBOL = "BTCUSDT"
POLL_S = 0.01
READERS = ("http", "websocket", "mcp")

Order = tuple[int, int]


class _Read(msgspec.Struct):
    stale: bool


class _Frame(msgspec.Struct):
    type: str
    token: int = 0
    seq: int = 0
    read: _Read | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


@dataclass
class Seen:
    """What one reader has shown.

    Attributes:
        orders: (token, seq) of each answer with a report.
        payloads: The report, by its order.
        stale: As last said, or nothing was given after something had been; None before that.
    """

    orders: list[Order] = field(default_factory=list)
    payloads: dict[Order, bytes] = field(default_factory=dict)
    stale: bool | None = None

    def add(self, order: Order, payload: bytes, *, stale: bool) -> None:
        self.orders.append(order)
        self.payloads[order] = payload
        self.stale = stale

    def nothing(self) -> None:
        """What is stored is older than what was shown, and so not shown."""
        if self.orders:
            self.stale = True


async def read_http(url: str, seen: Seen) -> None:
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{url}/get_report", params={"symbol": SYMBOL}) as response:
                payload = await response.read()
                if response.status == 200 and payload != b"null":
                    token, seq = response.headers["X-Report-Order"].split(".")
                    stale = response.headers["X-Report-Stale"] == "true"
                    seen.add((int(token), int(seq)), payload, stale=stale)
                elif response.status == 200:
                    seen.nothing()
            await asyncio.sleep(POLL_S)


async def read_websocket(url: str, seen: Seen) -> None:
    decode = msgspec.json.Decoder(_Frame).decode
    async with connect(url.replace("http", "ws", 1) + "/ws") as ws:
        ask = {"op": "subscribe", "id": "a", "channels": ["reports.fast"], "symbols": [SYMBOL]}
        await ws.send(msgspec.json.encode(ask).decode())
        with suppress(ConnectionClosed):
            async for text in ws:
                frame = decode(text)
                if frame.read is None:
                    continue
                if frame.type == "stale":
                    seen.stale = frame.read.stale
                elif bytes(frame.data) != b"null":
                    order = (frame.token, frame.seq)
                    seen.add(order, bytes(frame.data), stale=frame.read.stale)


async def read_mcp(url: str, seen: Seen) -> None:
    async with Client(f"{url}/mcp", cache=None) as client:
        while True:
            result = await client.call_tool("get_report", {"symbol": SYMBOL, "detail": "full"})
            found = result.structured_content or {}
            if not result.is_error and found.get("report") is not None:
                order = (found["writer_token"], found["seq"])
                payload = msgspec.json.encode(found["report"])
                seen.add(order, payload, stale=found["read"]["stale"])
            elif not result.is_error:
                seen.nothing()
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def readers(redis_url: str) -> AsyncIterator[dict[str, Seen]]:
    """One of each kind, at one server, reading all the time."""
    seen = {name: Seen() for name in READERS}
    work = (read_http, read_websocket, read_mcp)
    async with serve_process(redis_url) as server:
        tasks = [
            asyncio.create_task(read(server.url, seen[name]), name=name)
            for name, read in zip(READERS, work, strict=True)
        ]
        try:
            yield seen
            for task in tasks:
                assert not task.done(), task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], bool], within_s: float = 20.0) -> float:
    """Wait for a condition; how long it took."""
    began_s = time.monotonic()
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110, whatever it is has no event
            await asyncio.sleep(0.005)
    return time.monotonic() - began_s


def all_say(seen: dict[str, Seen], *, stale: bool) -> Callable[[], bool]:
    return lambda: all(one.stale is stale for one in seen.values())


def assert_never_back(seen: dict[str, Seen]) -> None:
    for name, one in seen.items():
        assert one.orders == sorted(one.orders), name


async def test_the_same_bytes_for_the_same_order_and_stale_when_the_writer_is_killed(
    redis_url: str,
) -> None:
    async with readers(redis_url) as seen:
        async with writing(redis_url, "w1", SYMBOL) as writer:
            await until(lambda: len(common(seen)) >= 5)
            assert all_say(seen, stale=False)()
            writer.kill()
            await writer.wait()
            # From 2000 ms after the newest data on, which is up to 145 ms older than the kill.
            took_s = await until(all_say(seen, stale=True), 2.5)
            assert took_s > 1.5
        for order in common(seen):
            assert len({one.payloads[order] for one in seen.values()}) == 1, order
        async with writing(redis_url, "w2", SYMBOL):
            await until(all_say(seen, stale=False))
    tokens = [{token for token, _ in one.orders} for one in seen.values()]
    assert tokens[0] == tokens[1] == tokens[2]
    assert len(tokens[0]) == 2
    assert_never_back(seen)


def common(seen: dict[str, Seen]) -> set[Order]:
    """Orders that every reader has shown."""
    http, *others = (set(one.payloads) for one in seen.values())
    return http.intersection(*others)


async def test_no_reader_steps_back_when_a_replica_that_lagged_takes_over(tmp_path: Path) -> None:
    binary = any_binary()
    if binary is None:
        pytest.skip("no valkey-server and no redis-server")
    stores = []
    for name in ("main", "replica"):
        folder = tmp_path / name
        folder.mkdir()
        stores.append(RedisProcess(binary, folder))
    main, replica = stores
    try:
        for store in stores:
            await asyncio.to_thread(store.start)
        async with Proxy(main.port) as route, readers(f"redis://127.0.0.1:{route.port}/0") as seen:
            async with writing(main.url, "w1", SYMBOL) as writer:
                await until(lambda: len(common(seen)) >= 3)
                replica.call("REPLICAOF", "127.0.0.1", str(main.port))
                await until(lambda: f'"{SYMBOL}"' in replica.call("GET", f"report:{SYMBOL}"))
                replica.call("REPLICAOF", "NO", "ONE")
                lagged = {name: one.orders[-1] for name, one in seen.items()}
                # The replica has nothing of what all of them see from here on.
                await until(
                    lambda: all(one.orders[-1][1] > 5 + lagged[n][1] for n, one in seen.items())
                )
                writer.kill()
                await writer.wait()
            newest = {name: one.orders[-1] for name, one in seen.items()}
            main.kill()
            route.target = replica.port
            route.reset()
            await until(all_say(seen, stale=True), 8)
            assert {name: one.orders[-1] for name, one in seen.items()} == newest
            async with writing(replica.url, "w2", SYMBOL):
                await until(lambda: all(one.orders[-1] > newest[n] for n, one in seen.items()))
                await until(all_say(seen, stale=False))
        assert_never_back(seen)
    finally:
        for store in stores:
            store.kill()
