"""The simulated exchange on the wire: HTTP and websockets on one loopback port.

``async with SimulatedExchange(["BTCUSDT"], seed=7) as sim:`` listens on a free port; point a
bridge at ``sim.stream_url`` and ``sim.rest_url``. What it sends is made up: it refuses to
listen on anything but loopback, and each listing says ``"synthetic": true``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final

from aiohttp import web

from streams.simulator import rest
from streams.simulator.dialect_binance import Message
from streams.simulator.episodes import Episode
from streams.simulator.exchange import Exchange, Order
from streams.simulator.flow import RATE_DEFAULT
from streams.simulator.session import Session
from tapeline.errors import ConfigError

TICK_MS: Final = 10
"""The clock's grain: what happens is sent at most this much later."""

QUEUE_FRAMES: Final = 8192
"""Frames a client may be behind before it is cut off."""

SHUTDOWN_STREAM: Final = "!serverShutdown"


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def check_host(host: str) -> str:
    """``host`` if it is loopback.

    Raises:
        ConfigError: Anything else.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError("host", host, "a loopback address such as 127.0.0.1: its data is made up")
    return host


class SimulatedExchange:
    """A server for an `Exchange`, in real time.

    Attributes:
        exchange: The venue behind it.
        sessions: Clients connected now.
        counts: ``accepted`` connections and, by reason, those the venue ended.
        requests: REST requests answered, by path; ``refused`` ones too.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        *,
        seed: int,
        port: int = 0,
        rate: float = RATE_DEFAULT,
        host: str = "127.0.0.1",
        clock_ms: Callable[[], int] = wall_clock_ms,
        queue_frames: int = QUEUE_FRAMES,
        weight_per_minute: int = 0,
        ping_every_s: float = 20.0,
        pong_within_s: float = 60.0,
    ) -> None:
        """Build the venue; nothing listens yet.

        Args:
            symbols: What it lists; a name it does not know gets an invented price.
            seed: All that chance depends on, besides the time it starts.
            port: 0 picks a free one.
            rate: Book changes a second and symbol, in the long run.
            host: A loopback address.
            clock_ms: The venue's clock.
            queue_frames: Frames a client may be behind before it is cut off.
            weight_per_minute: REST budget of all clients; 0 for none (the venue's is 6000).
            ping_every_s: Time between two pings.
            pong_within_s: A client silent for longer is cut off.

        Raises:
            ConfigError: An argument that is not accepted, by name.
        """
        self.exchange = Exchange(symbols, seed=seed, start_ms=clock_ms(), rate=rate)
        self.sessions: list[Session] = []
        self.counts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self._sent_bytes = 0
        self._host, self._port = check_host(host), port
        self._clock_ms = clock_ms
        self._queue_frames = queue_frames
        self._ping = (ping_every_s, pong_within_s)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._address = ""
        self._app = web.Application()
        rest.add_routes(self._app, self, weight_per_minute)
        self._app.router.add_get("/stream", self._accept)
        self._app.router.add_get("/ws", self._accept)
        self._app.router.add_get("/ws/{streams:.*}", self._accept)

    @property
    def rest_url(self) -> str:
        """Root of the REST API."""
        return f"http://{self._address}"

    @property
    def stream_url(self) -> str:
        """Root of the websocket paths."""
        return f"ws://{self._address}"

    @property
    def control_url(self) -> str:
        """Root of the control API."""
        return f"http://{self._address}/sim"

    async def start(self) -> None:
        """Listen and let the markets run."""
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._spawn(self._run(), "simulator-clock")

    async def stop(self) -> None:
        """Close all sockets and stop listening."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.close_sessions("stop")
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> SimulatedExchange:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def start_episode(
        self, name: str, symbol: str | None = None, *, in_s: float = 0.0, **params: object
    ) -> Episode:
        """Run an episode now, or in some seconds.

        Raises:
            ConfigError: Unknown script, symbol or parameter.
        """
        at_ms = self._clock_ms() + round(in_s * 1000)
        return self.exchange.start(name, symbol, at_ms=at_ms, **params)

    def advance(self) -> None:
        """Bring the venue up to its clock and queue what it sends."""
        # A clock that is set back must not turn the venue's time.
        now_ms = max(self._clock_ms(), self.exchange.now_ms)
        items = self.exchange.step(now_ms)
        if not items:
            return
        listeners: dict[str, list[Session]] = {}
        for session in self.sessions:
            for stream in session.streams:
                listeners.setdefault(stream, []).append(session)
        for item in items:
            if isinstance(item, Order):
                self._obey(item)
                continue
            hearing = listeners.get(item.stream)
            if hearing:
                self._publish(item, hearing)

    @staticmethod
    def _publish(message: Message, sessions: list[Session]) -> None:
        wrapped = f'{{"stream":"{message.stream}","data":{message.data}}}'
        for session in sessions:
            session.offer(message.stream, wrapped if session.combined else message.data)

    def _obey(self, order: Order) -> None:
        if order.what == "close":
            self._spawn(self.close_sessions(order.detail), "simulator-close")
        elif order.what == "shutdown":
            event = f'{{"e":"serverShutdown","E":{order.ts_ms}}}'
            self._publish(Message(order.ts_ms, SHUTDOWN_STREAM, event), self.sessions)
        else:
            stream = f"{order.detail.lower()}@depth@100ms"
            broken = f'{{"stream":"{stream}","data":{{"e":"depthUpdate","E":{order.ts_ms},"s":'
            for session in list(self.sessions):
                session.offer("!garbage", broken)

    async def close_sessions(self, why: str) -> None:
        """Close all sockets that are open now."""
        await asyncio.gather(*(session.close(why) for session in list(self.sessions)))

    async def _run(self) -> None:
        while True:
            self.advance()
            await asyncio.sleep(TICK_MS / 1000)

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        combined = request.path == "/stream"
        names = (
            request.query.get("streams", "") if combined else request.match_info.get("streams", "")
        )
        ws = web.WebSocketResponse(autoping=False, compress=False, timeout=2.0)
        await ws.prepare(request)
        session = Session(
            ws,
            request.transport,
            filter(None, names.split("/")),
            combined=combined,
            queue_frames=self._queue_frames,
        )
        self.sessions.append(session)
        self.counts["accepted"] += 1
        try:
            await session.run(*self._ping)
        finally:
            self.sessions.remove(session)
            self.counts[session.ended or "left"] += 1
            self._sent.update(session.sent)
            self._sent_bytes += session.sent_bytes
        return ws

    def state(self) -> dict[str, Any]:
        """What it has really sent, and what it is doing: the body of ``GET /sim/state``."""
        sent = Counter(self._sent)
        for session in self.sessions:
            sent.update(session.sent)
        symbols = {}
        for symbol, feed in self.exchange.feeds.items():
            prefix = f"{symbol.lower()}@"
            book = feed.market.book
            symbols[symbol] = {
                "made": dict(feed.made),
                "sent": {
                    name.removeprefix(prefix): count
                    for name, count in sent.items()
                    if name.startswith(prefix)
                },
                "swallowed": feed.swallowed,
                "update_id": book.update_id,
                "trade_id": book.trade_id,
            }
        return {
            "now_ms": self.exchange.now_ms,
            "start_ms": self.exchange.start_ms,
            "seed": self.exchange.seed,
            "rate": self.exchange.rate,
            "frames": sum(sent.values()),
            "bytes": self._sent_bytes + sum(s.sent_bytes for s in self.sessions),
            "connections": {"open": len(self.sessions), **self.counts},
            "requests": dict(self.requests),
            "symbols": symbols,
            "episodes": [episode.as_dict() for episode in self.exchange.episodes],
        }
