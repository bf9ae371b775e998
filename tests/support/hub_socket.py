"""A hub behind a real socket, writers as a worker writes, and clients that check each frame."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lua import Acquired, Keys, PublishCode, ReportWrite, Scripts, TickWrite
from serving.access import Access
from serving.hub import Hub
from serving.hub.protocol import decode_frame
from serving.hub.transport import SOCKET_OPTIONS
from serving.reader import reader_client
from tapeline.config import load_settings
from tests.support.reports import stored

WAIT_S = 15.0
ADMIN = Access("k1", frozenset({"reports:read", "ticks:read", "status:read", "admin"}))
TTL_MS = 300_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Served:
    """A hub, where it listens, and what it counts."""

    hub: Hub
    port: int
    registry: CollectorRegistry

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"tapeline_hub_{name}", labels) or 0.0

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Client]:
        """A client that has been greeted."""
        async with connecting(self.url, **options) as client:
            yield client

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for it."""
        await until(true)


@asynccontextmanager
async def hub_server(
    redis_url: str, access: Access | None = ADMIN, *, plain: bool = False, **variables: str
) -> AsyncIterator[Served]:
    """A hub of this process on a real socket.

    Args:
        redis_url: Its store.
        access: What every client may; None has them say a key.
        plain: Through ASGI's own messages, as under a server that has nothing better.
        variables: Settings.
    """
    registry = CollectorRegistry()
    async with reader_client(redis_url) as redis:
        hub = Hub(load_settings(variables), redis, Keys(), registry)

        async def endpoint(websocket: WebSocket) -> None:
            await hub.endpoint(websocket, access)

        options = {**SOCKET_OPTIONS, "ws": "websockets-sansio"} if plain else SOCKET_OPTIONS
        config = uvicorn.Config(
            Starlette(routes=[WebSocketRoute("/ws", endpoint)]),
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=2,
            **options,
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            await hub.start()
            running = asyncio.create_task(server._serve([sock]))
            try:
                await until(lambda: server.started)
                yield Served(hub, sock.getsockname()[1], registry)
            finally:
                server.should_exit = True
                await running
                await hub.stop()


async def until(true: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It does not come true.
    """
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110, whatever it is has no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def connecting(url: str, *, greeted: bool = True, **options: Any) -> AsyncIterator[Client]:
    """A client, whose first frame has been read."""
    async with connect(
        url, max_size=None, compression=None, ping_interval=None, proxy=None, **options
    ) as ws:
        client = Client(ws)
        if greeted:
            await client.next("hello")
        try:
            yield client
        finally:
            await client.stop()


@dataclass
class Client:
    """A client that keeps every frame it has read.

    Attributes:
        frames: All of them.
        texts: As they came.
    """

    ws: ClientConnection
    frames: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None

    async def say(self, **fields: Any) -> None:
        await self.ws.send(json.dumps(fields))

    async def subscribe(self, channels: str, symbols: str = "BTCUSDT", **more: Any) -> Any:
        """Subscribe, and the acknowledgement."""
        id_ = f"a{len(self.frames)}"
        await self.say(
            op="subscribe", id=id_, channels=channels.split(), symbols=symbols.split(), **more
        )
        return await self.next("subscribed", id=id_)

    async def read(self) -> Any:
        """The next frame; it is one of the protocol's."""
        text = await self.ws.recv()
        assert isinstance(text, str)
        frame = decode_frame(text)
        self.texts.append(text)
        self.frames.append(frame)
        self.times_s.append(time.monotonic())
        return frame

    async def next(self, *types: str, **wanted: Any) -> Any:
        """The next frame of these types with these fields; others before it are kept as well."""
        async with asyncio.timeout(WAIT_S):
            while True:
                frame = await self.read()
                if frame.__struct_config__.tag in types and all(
                    getattr(frame, name, None) == value for name, value in wanted.items()
                ):
                    return frame

    async def seen(self, *types: str, **wanted: Any) -> Any:
        """The first frame of these types with these fields, come or to come."""
        return (self.of(*types, **wanted) or [await self.next(*types, **wanted)])[0]

    async def pong(self) -> list[Any]:
        """All frames that came before the answer to a ping."""
        at = len(self.frames)
        await self.say(op="ping", id=f"p{at}")
        await self.next("pong", id=f"p{at}")
        return self.frames[at:]

    async def closed(self) -> tuple[int, str]:
        """Code and reason of the end, once all frames before it have been read."""
        async with asyncio.timeout(WAIT_S):
            while self.ws.close_code is None:
                with suppress(ConnectionClosed):
                    await self.read()
        return self.ws.close_code, self.ws.close_reason or ""

    def listen(self) -> None:
        """Read from now on, whatever comes."""

        async def reading() -> None:
            with suppress(ConnectionClosed):
                while True:
                    await self.read()

        self._reading = asyncio.create_task(reading())

    async def stop(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def of(self, *types: str, **wanted: Any) -> list[Any]:
        """Frames read so far of these types with these fields."""
        return [
            frame
            for frame in self.frames
            if frame.__struct_config__.tag in types
            and all(getattr(frame, name, None) == value for name, value in wanted.items())
        ]


class Writer:
    """Writes one symbol as its worker does: by its lease, through the scripts."""

    def __init__(self, redis: Redis, symbol: str = "BTCUSDT") -> None:
        self.scripts = Scripts(redis)
        self.symbol = symbol
        self.seq = self.tick_seq = 0
        self._lease: Acquired | None = None

    async def lease(self) -> Acquired:
        """Its lease; it goes on from what was written under the one before."""
        if self._lease is None:
            keys = self.scripts.keys.writer(self.symbol)
            self._lease = await self.scripts.acquire(keys, "node-a", "i1", 3_600_000)
            self.seq = self._lease.last_seq
        return self._lease

    async def report(self, *, data_age_ms: int | None = 40) -> bytes:
        """Write the next report, which is returned."""
        lease = await self.lease()
        self.seq += 1
        at_ms = now_ms()
        payload = stored(
            self.symbol, token=lease.token, seq=self.seq, now_ms=at_ms, data_age_ms=data_age_ms
        )
        code = await self.scripts.publish(
            ReportWrite(
                symbol=self.symbol,
                lease_value=lease.lease_value,
                token=lease.token,
                seq=self.seq,
                watermark=self.seq,
                updated_at=at_ms,
                payload=payload,
            ),
            TTL_MS,
        )
        assert code is PublishCode.OK
        return payload

    async def tick(self) -> bytes:
        """Write the next tick, which is returned."""
        lease = await self.lease()
        self.tick_seq += 1
        levels = [[60000.0 + n, 1.5] for n in range(50)]
        payload = json.dumps(
            {
                "symbol": self.symbol,
                "venue": "binance",
                "writer_token": lease.token,
                "seq": self.tick_seq,
                "offset": 5,
                "ts_recv_ms": now_ms(),
                "last_trade": None,
                "quote": None,
                "book": "ok",
                "bids": levels,
                "asks": levels,
                "synthetic": False,
            },
            separators=(",", ":"),
        ).encode()
        write = TickWrite(
            symbol=self.symbol,
            lease_value=lease.lease_value,
            token=lease.token,
            seq=self.tick_seq,
            watermark=self.tick_seq,
            payload=payload,
        )
        assert await self.scripts.publish_tick(write, TTL_MS) is PublishCode.OK
        return payload
