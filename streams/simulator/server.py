"""The simulated exchange on the wire: HTTP and websockets of one venue on one loopback port.

``async with SimulatedExchange(["BTCUSDT"], seed=7) as sim:`` listens on a free port; point a
bridge at ``sim.stream_url`` and ``sim.rest_url``. ``venue="kraken"`` lets it speak another
dialect; several venues are several of these, each on its port. What it sends is made up: it refuses to
listen on anything but loopback, and each listing says ``"synthetic": true``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Final

from aiohttp import web

from streams.simulator import control, rest, rest_coinbase
from streams.simulator.episodes import Episode
from streams.simulator.exchange import Exchange, Order
from streams.simulator.fault_rules import Rule, rules_of
from streams.simulator.faults import Faults
from streams.simulator.flow import RATE_DEFAULT
from streams.simulator.session import Session
from streams.simulator.talks import MANNERS, talk_with
from tapeline.errors import ConfigError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TICK_MS: Final = 10
"""The clock's grain: what happens is sent at most this much later."""

SLICE_MS: Final = 50
"""A clock that is behind catches up in steps of this: between them clients are written to, so that
what queues up while this process had no core counts against nobody."""

FREEZE_GRID_MS: Final = 100
"""A multiple of every dialect's grid: all that has happened by then has been published."""

QUEUE_FRAMES: Final = 8192
"""Frames a client may be behind before it is cut off."""

REST: Final = {"binance": rest.add_routes, "coinbase": rest_coinbase.add_routes}
"""Kraken's feed needs no REST: its books and instruments come on the socket."""


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
        faults: What goes wrong between it and its clients.
        sessions: Clients connected now.
        counts: ``accepted`` connections, those ``refused``, and, by reason, those the venue ended.
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
        venue: str = "binance",
        faults: Iterable[str] = (),
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
            ping_every_s: Time between two pings, where the venue sends such.
            pong_within_s: A client silent for longer is cut off.
            venue: Whose dialect it speaks: ``binance``, ``coinbase`` or ``kraken``.
            faults: Rules as in `fault_rules`, their seconds counted from now.

        Raises:
            ConfigError: An argument that is not accepted, by name.
        """
        self.exchange = Exchange(symbols, seed=seed, start_ms=clock_ms(), rate=rate, venue=venue)
        self.faults = Faults(f"{seed}:{venue}")
        self.sessions: list[Session] = []
        self.counts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self._sent_bytes = 0
        self._connections = 0
        self._host, self._port = check_host(host), port
        self._clock_ms = clock_ms
        self._queue_frames = queue_frames
        self._manners = MANNERS[venue]
        self._ping = (ping_every_s if self._manners.pings else 0.0, pong_within_s)
        self._now_ms = self._up_ms = self.exchange.start_ms
        self._frozen_ms: int | None = None
        self._behind_ms = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._address = ""
        for text in faults:
            self.add_faults(text)
        self._app = web.Application(middlewares=[self._doorkeeper])
        control.add_routes(self._app, self)
        if venue in REST:
            REST[venue](self._app, self, weight_per_minute)
        for path in self._manners.paths:
            self._app.router.add_get(path, self._accept)

    @property
    def rest_url(self) -> str:
        """Root of the REST API, with what stands before every path of the venue's."""
        below = rest_coinbase.ROOT if self.exchange.venue == "coinbase" else ""
        return f"http://{self._address}{below}"

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

    def add_faults(self, text: str) -> list[Rule]:
        """Let a rule hold, its seconds counted from now; none if it is about another venue.

        Raises:
            ConfigError: It does not parse, or names what the venue does not have.
        """
        rules = rules_of(text, self.exchange.venue, self.now_ms())
        for rule in rules:
            if rule.symbol is not None and rule.symbol not in self.exchange.feeds:
                raise ConfigError(
                    "--fault", text, "a symbol out of " + ", ".join(self.exchange.feeds)
                )
        for rule in rules:
            self.faults.add(rule)
        return rules

    def now_ms(self) -> int:
        """The venue's clock, which never goes back."""
        self._now_ms = max(self._now_ms, self._clock_ms())
        return self._now_ms

    @property
    def frozen(self) -> bool:
        """Whether the markets stand still."""
        return self._frozen_ms is not None

    def freeze(self) -> int:
        """Let the markets stand still once all that has happened is published; when that is.

        Sockets stay alive, heartbeats go on, and what is late still comes.
        """
        if self._frozen_ms is None:
            at_ms = self._market_ms()
            self._frozen_ms = at_ms + -at_ms % FREEZE_GRID_MS
            self.advance()
        return self._frozen_ms

    def thaw(self) -> None:
        """Let the markets go on where they stood."""
        if self._frozen_ms is not None:
            frozen_ms, self._frozen_ms = self._frozen_ms, None
            self._behind_ms = max(0, self.now_ms() - frozen_ms)

    def _market_ms(self) -> int:
        if self._frozen_ms is not None:
            return self._frozen_ms
        return max(self.now_ms() - self._behind_ms, self.exchange.now_ms)

    def advance(self, until_ms: int | None = None) -> None:
        """Bring the venue up to its clock, or to a time before it, and queue what it sends."""
        now_ms = self.now_ms()
        items = self.exchange.step(self._market_ms() if until_ms is None else until_ms)
        if items:
            listeners: dict[str, list[Session]] = {}
            for session in self.sessions:
                for stream in session.streams:
                    listeners.setdefault(stream, []).append(session)
            for item in items:
                if isinstance(item, Order):
                    self._obey(item)
                else:
                    for session in listeners.get(item.stream, ()):
                        session.publish(item, now_ms)
        for session in list(self.sessions):
            session.tick(now_ms)
        for _ in range(self.faults.take_restarts()):
            self._restart(now_ms)

    def _restart(self, now_ms: int) -> None:
        for session in self.sessions:
            session.abort("restart")
        self.exchange.restart()
        self._up_ms = now_ms

    def _obey(self, order: Order) -> None:
        if order.what == "close":
            self._spawn(self.close_sessions(order.detail), "simulator-close")
            return
        for session in list(self.sessions):
            if order.what == "shutdown":
                session.send(session.talk.shutdown(order.ts_ms), self._now_ms)
            else:
                frame = session.talk.broken(order.detail, order.ts_ms)
                session.offer(frame.stream, frame.text)

    async def close_sessions(self, why: str) -> None:
        """Close all sockets that are open now."""
        await asyncio.gather(*(session.close(why) for session in list(self.sessions)))

    async def _run(self) -> None:
        while True:
            while (until_ms := self.exchange.now_ms + SLICE_MS) < self._market_ms():
                self.advance(until_ms)
                await asyncio.sleep(0)
            self.advance()
            await asyncio.sleep(TICK_MS / 1000)

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @web.middleware
    async def _doorkeeper(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn everybody away while connections are refused; the control API stays open."""
        refused = self.now_ms() < self.faults.refuse_until_ms
        if refused and not request.path.startswith("/sim/"):
            self.counts["refused"] += 1
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        return await handler(request)

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(autoping=False, compress=False, timeout=2.0)
        await ws.prepare(request)
        self._connections += 1
        streams = request.query.get("streams", "") or request.match_info.get("streams", "")
        session = Session(
            ws,
            request.transport,
            talk_with(
                self.exchange,
                self._connections,
                self.now_ms(),
                request.path,
                streams,
                self._up_ms,
            ),
            self.faults.line(self._connections),
            clock_ms=self.now_ms,
            queue_frames=self._queue_frames,
            inbound_per_s=self._manners.inbound_per_s,
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
                "version": feed.version,
                "trade_id": book.trade_id,
            }
        return {
            "venue": self.exchange.venue,
            "now_ms": self.exchange.now_ms,
            "frozen": self.frozen,
            "start_ms": self.exchange.start_ms,
            "seed": self.exchange.seed,
            "rate": self.exchange.rate,
            "frames": sum(sent.values()),
            "bytes": self._sent_bytes + sum(s.sent_bytes for s in self.sessions),
            "connections": {"open": len(self.sessions), **self.counts},
            "sessions": [session.state() for session in self.sessions],
            "requests": dict(self.requests),
            "faults": self.faults.state(),
            "symbols": symbols,
            "episodes": [episode.as_dict() for episode in self.exchange.episodes],
        }
