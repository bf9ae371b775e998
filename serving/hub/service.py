"""The hub as it runs: clients, what reads for them, and the pump that hands frames to sockets.

No frame has a task of its own, nor has a client one for writing. One pump goes through the clients
that have something, takes from each what it may have now, and gives it to its socket in one write.
A client whose socket is full is passed over until it has room.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from starlette.websockets import WebSocket

from lua import Keys
from serving.access import Access
from serving.answer_traces import AnswerTraces
from serving.hub import endpoint, protocol
from serving.hub.client import Client
from serving.hub.event_feed import EventFeed
from serving.hub.events import EventSource, RedisEvents
from serving.hub.hub import FAMILIES, Board
from serving.hub.metrics import HubMetrics
from serving.hub.protocol import Close
from serving.hub.session import Rules, Session
from serving.hub.state_feed import StateFeed
from serving.hub.streams import EventStream, Stream
from serving.hub.wire import control
from tapeline.clock import Clock, SystemClock
from tapeline.config import Settings
from tapeline.logging import get_logger
from tapeline.tasks import end_all

PULSE_MS: Final = 4
"""Between two rounds of the pump: what comes within it shares a write."""

AT_ONCE: Final = 32
"""Clients served before the loop may turn to other things."""

BEAT_S: Final = 0.05
AFTER_FAULT_S: Final = 0.5
COUNTS_PER_BEAT: Final = 1000

log = get_logger("hub")

Authenticate = Callable[[str], Awaitable[Access | None]]
"""Who a key belongs to; None if nobody."""


def rules_of(settings: Settings) -> Rules:
    """What each client gets."""
    return Rules(
        rate_per_s=settings.hub_rate,
        burst=settings.hub_burst,
        flush_ms=settings.hub_flush_ms,
        coalesced=frozenset(filter(None, settings.hub_coalesced.split(","))),
        executions_queue=settings.hub_executions_queue,
    )


class Hub:
    """All clients of one process.

    Args:
        settings: Those that begin with ``hub_``.
        redis: A client without a time limit of its own (`serving.reader.reader_client`).
        keys: Names of the keys.
        metrics_registry: Where metrics are shown.
        clock: For ages, and for pace.
        source: Of events; the Redis Streams unless given.

    Attributes:
        authenticate: Asked for the key that a client sends as its first message; without it no
            key is right.
        answers: Told of reports that are sent; None where nothing is traced.
    """

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        keys: Keys,
        metrics_registry: CollectorRegistry,
        clock: Clock | None = None,
        source: EventSource | None = None,
    ) -> None:
        self.settings = settings
        self.rules = rules_of(settings)
        self.clock = clock or SystemClock()
        self.metrics = HubMetrics(metrics_registry)
        self.board = Board()
        self.clients: dict[Session, Client] = {}
        # Looked up when somebody asks: this changes with every frame.
        self.metrics.streams.set_function(lambda: len(self.board.audience))
        self.metrics.buffer_depth.set_function(
            lambda: max((session.deepest()[1] for session in self.clients), default=0)
        )
        self.authenticate: Authenticate | None = None
        self.answers: AnswerTraces | None = None
        self.stopping = False
        self.states = StateFeed(
            redis, keys, self.board, self.clock, self.metrics, self.wake, self._source_changed
        )
        self.states.appeared = self._appeared
        self.states.settled = self._settled
        self.events = EventFeed(
            source if source is not None else RedisEvents(redis, keys),
            self.board,
            self.clock,
            self.metrics,
            self.wake,
        )
        self._wake = asyncio.Event()
        self._timers: list[tuple[float, int, Client]] = []
        self._beats: list[tuple[float, int, Client]] = []
        self._turn = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self._source_since_ms = self.clock.now_ms()

    # --- running ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to read and to send."""
        work = (self._pump, self._beat, self.events.run, *self.states.work())
        self._tasks = [asyncio.create_task(self._guarded(one)) for one in work]

    async def stop(self) -> None:
        """Close all clients, and leave nothing running."""
        self.stopping = True
        for client in list(self.clients.values()):
            client.sink.close(Close.GOING_AWAY, "the server ends")
        await end_all(self._tasks)
        self._tasks = []

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this until cancelled; a fault of ours is said, and it is begun again."""
        while True:
            try:
                await work()
            except Exception:
                self.metrics.errors.labels("own_fault").inc()
                log.exception("hub.fault")
                await asyncio.sleep(AFTER_FAULT_S)

    async def endpoint(self, websocket: WebSocket, access: Access | None) -> None:
        """Serve one client until it goes.

        Args:
            websocket: Not accepted yet.
            access: What it may; None where it has to say its key first.
        """
        await endpoint.serve(self, websocket, access)

    def end_key(self, key_id: str) -> None:
        """Close the connections of a key that has been revoked."""
        for client in list(self.clients.values()):
            if client.access is not None and client.access.key_id == key_id:
                client.sink.close(Close.REFUSED, "the key was revoked")

    def wake(self) -> None:
        """Somebody may have something to be sent."""
        self._wake.set()

    def touch(self, session: Session) -> None:
        """This client may have something to be sent."""
        self.board.dirty[session] = None
        self._wake.set()

    # --- clients ---------------------------------------------------------------------------------

    def hello(self, session: Session, *, auth_required: bool) -> protocol.Hello:
        """The first frame."""
        return protocol.Hello(
            session_id=session.id,
            now_ms=self.clock.now_ms(),
            heartbeat_s=self.settings.hub_heartbeat_s,
            auth_required=auth_required,
            limits=protocol.Limits(
                rate_per_s=self.rules.rate_per_s,
                burst=self.rules.burst,
                flush_ms=int(self.rules.flush_ms),
            ),
        )

    def join(self, client: Client) -> None:
        """A client has come."""
        session = client.session
        self.clients[session] = client
        self.board.add(session)
        self.metrics.connections.set(len(self.clients))
        client.sink.on_writable = lambda: self._writable(client)
        beat_ms = self.clock.monotonic_ms() + 1000 * self.settings.hub_heartbeat_s
        heapq.heappush(self._beats, (beat_ms, next(self._turn), client))

    def leave(self, client: Client) -> None:
        """A client has gone."""
        mono_ms = self.clock.monotonic_ms()
        session = client.session
        self.board.drop(session, mono_ms)
        if self.clients.pop(session, None) is None:
            return
        client.sink.on_writable = lambda: None
        self.metrics.connections.set(len(self.clients))
        self.metrics.session_seconds.observe((mono_ms - client.since_ms) / 1000)
        self.metrics.throttled_seconds.inc((session.throttled_ms - client.throttled_told) / 1000)
        self._count_subscribers()

    def new_session(self) -> Session:
        """A client's session, with a name of its own."""
        session = Session(secrets.token_hex(8), self.rules, self.clock.monotonic_ms())
        session.traced = self.answers is not None
        return session

    def subscribe(self, client: Client, request: protocol.Subscribe) -> None:
        """Let a client follow what it asks for, and say so.

        Raises:
            Refused: It may not, or has too much already.
        """
        session = client.session
        subscription, already, opened = self.board.subscribe(
            session, request, self.clock.monotonic_ms()
        )
        session.answer(
            control(
                protocol.Subscribed(
                    id=request.id,
                    subscription_id=subscription.id,
                    channels=subscription.channels,
                    symbols=tuple(sorted(subscription.symbols or (protocol.ALL_SYMBOLS,))),
                    already=already,
                )
            )
        )
        for stream in opened:
            self._begin(session, stream)
        if subscription.symbols is None:
            self.states.find()
        self._count_subscribers()
        self.touch(session)

    def unsubscribe(self, client: Client, request: protocol.Unsubscribe) -> bool:
        """Let a client follow it no more; False if there is no such subscription."""
        done = self.board.unsubscribe(
            client.session, request.subscription_id, self.clock.monotonic_ms()
        )
        self._count_subscribers()
        self.wake()
        return done

    def _count_subscribers(self) -> None:
        self.metrics.subscribed(self.board.subscribers)

    def _begin(self, session: Session, stream: Stream) -> None:
        """Give a new stream what there is, or ask the store for it."""
        family = FAMILIES[stream.channel]
        if isinstance(stream, EventStream):
            if family == "report":
                self.states.ask(family, stream.symbol)
            else:
                self.events.open(session, stream)
            return
        known = self.states.table.current(stream.channel, stream.symbol)
        # One that others follow is up to date; one that nobody does may be hours old.
        if known is not None and self.states.up and self._others_follow(family, stream.symbol):
            stream.begin(known)
            session.queue(stream)
        else:
            self.states.ask(family, stream.symbol)

    def _others_follow(self, family: str, symbol: str) -> bool:
        return any(
            not stream.waiting
            for channel, of in FAMILIES.items()
            if of == family
            for stream in self.board.audience.get((channel, symbol), {}).values()
        )

    def _settled(self, family: str, symbol: str) -> None:
        """The store has been asked for a symbol: findings go on from what is known of it."""
        if family != "report":
            return
        for session, stream in self.board.audience.get(("anomalies", symbol), {}).items():
            if not stream.waiting or not isinstance(stream, EventStream):
                continue
            table = self.states.table
            stream.attach()
            if stream.asked is None:
                stream.resume(table.newest_finding(symbol))
                continue
            stream.resume(stream.asked)
            missed, lost = table.findings_after(symbol, stream.asked)
            if lost:
                stream.mark_lost()
            if missed is not None:
                self.board.offer_one(session, stream, missed)

    def _appeared(self, symbol: str) -> None:
        for session, stream in self.board.appeared(symbol, self.clock.monotonic_ms()):
            self._begin(session, stream)

    def _source_changed(self, up: bool) -> None:
        self._source_since_ms = self.clock.now_ms()
        frame = self.source_frame()
        for session in self.clients:
            session.source(frame)
            self.board.dirty[session] = None
        self.wake()

    def source_frame(self) -> bytes:
        """The newest word on the store."""
        return control(
            protocol.SourceChanged(
                redis="up" if self.states.up else "down", since_ms=self._source_since_ms
            )
        )

    # --- sending ---------------------------------------------------------------------------------

    async def _pump(self) -> None:
        ended_ms = 0.0
        while True:
            await self._due()
            pause_ms = ended_ms + PULSE_MS - self.clock.monotonic_ms()
            await asyncio.sleep(max(0.0, pause_ms) / 1000)
            self._wake.clear()
            mono_ms = self.clock.monotonic_ms()
            while self._timers and self._timers[0][0] <= mono_ms:
                client = heapq.heappop(self._timers)[2]
                client.timer_ms = None
                if client.session in self.clients:
                    self.board.dirty[client.session] = None
            dirty = [self.clients[session] for session in self.board.dirty]
            self.board.dirty.clear()
            for served, client in enumerate(dirty, 1):
                if client.session in self.clients:
                    self.flush(client)
                if served % AT_ONCE == 0:
                    await asyncio.sleep(0)
            if self.board.dropped:
                self.metrics.dropped(self.board.dropped, mono_ms)
                self.board.dropped.clear()
            ended_ms = self.clock.monotonic_ms()

    async def _due(self) -> None:
        """Wait until something has come, or a client may have more."""
        if not self._timers:
            await self._wake.wait()
            return
        wait_ms = self._timers[0][0] - self.clock.monotonic_ms()
        if wait_ms > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await self._wake.wait()

    def flush(self, client: Client) -> None:
        """Send a client what it may have now; its fault is not the others'."""
        try:
            self._serve(client)
        except Exception:
            self.metrics.errors.labels("own_fault").inc()
            log.exception("hub.fault", session_id=client.session.id)
            client.sink.close(Close.OWN_FAULT, "own fault")

    def _serve(self, client: Client) -> None:
        session, sink = client.session, client.sink
        mono_ms = self.clock.monotonic_ms()
        if session.full is not None and not sink.closed:
            self._close_full(client)
        if sink.closed:
            client.heard.set()
            return
        if not sink.writable:
            if client.blocked_ms is None:
                client.blocked_ms = mono_ms
                self.metrics.backpressure(*session.deepest(), mono_ms)
            return
        taken = session.take(mono_ms, self.clock.now_ms())
        if taken.frames:
            sink.write(taken.frames)
            waited = None if taken.arrived_ms is None else mono_ms - taken.arrived_ms
            self.metrics.sent(taken.frames, waited)
            if taken.reports and self.answers is not None:
                began_ns = time.time_ns() - int((waited or 0) * 1_000_000)
                for symbol, order in taken.reports:
                    self.answers.answered(symbol, *order, "websocket", began_ns)
            if not session.crowded:
                client.heard.set()
        if taken.next_ms is not None and (
            client.timer_ms is None or taken.next_ms < client.timer_ms
        ):
            client.timer_ms = taken.next_ms
            heapq.heappush(self._timers, (taken.next_ms, next(self._turn), client))

    def _close_full(self, client: Client) -> None:
        session = client.session
        stream = session.full
        assert stream is not None
        mono_ms = self.clock.monotonic_ms()
        self.metrics.backpressure(
            f"{stream.channel}|{stream.symbol}", stream.depth_of_buffer, mono_ms
        )
        self.metrics.closed.labels("full").inc()
        client.sink.close(Close.TRY_AGAIN, resume_reason(session.resume()))

    def _writable(self, client: Client) -> None:
        client.blocked_ms = None
        if client.session in self.clients:
            self.touch(client.session)

    # --- the clock -------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            mono_ms, now_ms = self.clock.monotonic_ms(), self.clock.now_ms()
            for state in self.states.table.turned_stale(now_ms):
                self.board.turned_stale(state)
            self.board.tell_counts(mono_ms, COUNTS_PER_BEAT)
            while self._beats and self._beats[0][0] <= mono_ms:
                due_ms, _, client = heapq.heappop(self._beats)
                if client.session in self.clients:
                    self._beat_of(client, mono_ms, now_ms)
                    again_ms = max(mono_ms, due_ms + 1000 * self.settings.hub_heartbeat_s)
                    heapq.heappush(self._beats, (again_ms, next(self._turn), client))
            if self.board.dirty:
                self.wake()

    def _beat_of(self, client: Client, mono_ms: float, now_ms: int) -> None:
        session = client.session
        blocked_ms = client.blocked_ms
        if (
            blocked_ms is not None
            and mono_ms - blocked_ms > 1000 * self.settings.hub_send_timeout_s
            and not client.sink.closed
        ):
            self.metrics.closed.labels("slow").inc()
            log.info("hub.slow_client", session_id=session.id, waits=session.waits)
            client.sink.close(Close.TRY_AGAIN, "it takes nothing")
            return
        self.metrics.throttled_seconds.inc((session.throttled_ms - client.throttled_told) / 1000)
        client.throttled_told = session.throttled_ms
        beat = protocol.Heartbeat(
            now_ms=now_ms,
            dropped=session.dropped,
            throttled_s=round(session.throttled_ms / 1000, 3),
        )
        session.heartbeat(control(beat))
        self.board.dirty[session] = None


def resume_reason(resume: dict[str, str]) -> str:
    """As many places to go on from as a close frame has room for; the fullest come first."""
    kept: dict[str, str] = {}
    reason = b'{"resume":{}}'
    for key, cursor in resume.items():
        kept[key] = cursor
        longer = msgspec.json.encode({"resume": kept})
        if len(longer) > 123:
            break
        reason = longer
    return reason.decode()
