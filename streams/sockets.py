"""The shell around an assembler: sockets, REST, clock and backoff. The same for every venue.

One socket at a time, but for the moments in which a new one takes over from the old: before the
venue's time limit, and when it announces that it will close. The assembler passes on once what
both bring, so nothing is missed between them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from streams.backoff import Backoff, Timing
from streams.book_care import BookCare, CareTimes
from streams.events import BookDelta, BookSnapshot, Event, FeedStatus
from streams.legs import NOTHING, Leg, Pace
from streams.rest import RestClient, retry_after_s
from streams.sources import REFUSED, FrameTap, RefusedFrame, Sink, SourceCounts
from streams.symbols import Listing
from streams.venues.base import Assembler, HttpRequest
from streams.venues.ordering import FLUSH_MS
from tapeline.clock import Clock
from tapeline.errors import FeedError, UnknownSymbol
from tapeline.logging import get_logger

FRAME_BYTES_MAX: Final = 32 * 1024 * 1024
"""A whole book in one frame has been seen at 5 MB."""

QUEUE_FRAMES: Final = 256
"""Frames read ahead of us; beyond, the venue's TCP connection is slowed down."""

TICK_S: Final = 0.1
CLOSE_S: Final = 1.0
HAND_OVER_S: Final = 15.0
"""At most, for books that have to come anew on the new socket: megabytes each."""

ERROR_LOG_EVERY_S: Final = 1.0

log = get_logger("sockets")


class SocketSource:
    """A `FrameSource` on a venue's real sockets, or a simulator's.

    Attributes:
        assembler: The one driven.
        counts: What has been seen.
        rest: Its REST client.
        tap: Who listens, if anybody does; set before `run`.
    """

    def __init__(
        self,
        assembler: Assembler,
        listings: Iterable[Listing],
        *,
        stream_root: str,
        rest: RestClient,
        clock: Clock,
        timing: Timing | None = None,
        care: CareTimes | None = None,
        flush_s: float = FLUSH_MS / 1000,
        tap: FrameTap | None = None,
    ) -> None:
        """Nothing is opened before `run`; ``tap`` is told all that passes."""
        self.assembler, self.rest, self.tap = assembler, rest, tap
        self.counts = SourceCounts()
        self._symbols = {listing.venue_symbol: listing.symbol for listing in listings}
        self._root = stream_root.rstrip("/")
        self._clock = clock
        self._timing = timing or Timing()
        self._backoff = Backoff(self._timing)
        self._care, self._flush_s = BookCare(care), flush_s
        self._legs: set[Leg] = set()
        self._pace = Pace()
        self._pacing: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._complained_s = -ERROR_LOG_EVERY_S
        self._sink: Sink
        self._group: asyncio.TaskGroup

    @property
    def live(self) -> bool:
        """Whether a frame or a pong came lately."""
        now_s = self._now_s()
        return any(now_s - leg.seen_s <= self._timing.live_for for leg in self._legs)

    async def run(self, sink: Sink) -> None:
        """Follow the venue until cancelled."""
        self._sink, self._stopping = sink, False
        try:
            async with self.rest, asyncio.TaskGroup() as self._group:
                self._group.create_task(self._keep_time(), name="feed-time")
                self._group.create_task(self._flush(), name="feed-flush")
                try:
                    await self._follow()
                finally:
                    self._stopping = True
        finally:
            await self._close_all()

    # --- which symbols ---

    @property
    def venue_symbols(self) -> list[str]:
        """The venue's own names of what is followed."""
        return [*self._symbols]

    def add(self, listing: Listing) -> list[Event]:
        """Follow one more symbol, on the sockets that are open.

        Returns:
            Events for the sink, which has to know the symbol before it can take them.

        Raises:
            ConfigError: The venue's connection does not carry it. Nothing has changed.
        """
        events = self.assembler.add(listing, self._clock.now_ms())
        self._symbols[listing.venue_symbol] = listing.symbol
        self._changed.set()
        self._pay()
        return events

    def remove(self, symbol: str) -> list[Event]:
        """Follow a symbol no longer; the sockets stay open.

        Returns:
            Events for the sink.
        """
        events = self.assembler.remove(symbol, self._clock.now_ms())
        self._care.forget(symbol)
        self._symbols = {theirs: ours for theirs, ours in self._symbols.items() if ours != symbol}
        self._pay()
        return events

    async def _follow(self) -> None:
        current: Leg | None = None
        why = ""
        while True:
            leg = await self._open(wait=current is not None and current.ended)
            if current is not None and not current.ended:
                # Both are read; the old one goes when the new one has shown that it delivers.
                await leg.settled.wait()
                await self._handed_over(current, leg)
                if leg.ended and not current.ended:
                    continue
                await self._retire(current, why)
            current = leg
            why = await self._until_due(current)

    async def _handed_over(self, old: Leg, new: Leg) -> None:
        """Wait, but not for ever, until nothing rests on the old socket any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER_S):
                while self.assembler.rests_on(old.number) and not (old.ended or new.ended):  # noqa: ASYNC110
                    await asyncio.sleep(TICK_S)

    async def _until_due(self, leg: Leg) -> str:
        """Wait until a socket has ended or another one should take its place."""
        while not leg.ended:
            if self.assembler.wants_new_socket():
                return "announced"
            if self._now_s() - leg.opened_s >= self._timing.life:
                return "age"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await leg.over.wait()
        return "ended"

    # --- sockets ---

    async def _open(self, *, wait: bool) -> Leg:
        """A socket that is being read; tries until there is one."""
        asked_s = 0.0
        while True:
            if wait:
                await asyncio.sleep(self._backoff.next_s(asked_s))
            wait, asked_s = True, 0.0
            while not self.assembler.symbols():
                self._changed.clear()
                await self._changed.wait()
            url = self._root + self.assembler.stream_path()
            try:
                ws = await connect(
                    url,
                    compression=None,
                    max_size=FRAME_BYTES_MAX,
                    max_queue=QUEUE_FRAMES,
                    ping_interval=None,
                    open_timeout=self._timing.open_within,
                    close_timeout=CLOSE_S,
                )
            except InvalidStatus as exc:
                asked_s = retry_after_s(exc.response.headers.get("Retry-After"))
                error = f"HTTP {exc.response.status_code}"
            except (OSError, TimeoutError, WebSocketException) as exc:
                error = str(exc) or type(exc).__name__
            else:
                return self._adopt(ws, url)
            self.counts.reconnects[REFUSED] += 1
            log.warning("feed.not_connected", venue=self.assembler.venue, error=error)

    def _adopt(self, ws: ClientConnection, url: str) -> Leg:
        self.counts.connects += 1
        leg = Leg(ws, self.counts.connects, self._now_s())
        self._legs.add(leg)
        if self.tap is not None:
            self.tap.opened(leg.name, url, self._clock.now_ms())
        log.info("feed.connected", venue=self.assembler.venue, sockets=len(self._legs))
        self._accept(self.assembler.connected(self._clock.now_ms(), leg.number))
        for frame in self.assembler.subscribe_frames():
            leg.owed.put_nowait(frame)
        self._pay()
        self._group.create_task(self._read(leg), name="feed-read")
        self._group.create_task(self._ping(leg), name="feed-ping")
        self._group.create_task(self._send(leg), name="feed-send")
        return leg

    async def _retire(self, leg: Leg, why: str) -> None:
        leg.why = why
        await leg.ws.close()
        await leg.over.wait()

    async def _read(self, leg: Leg) -> None:
        why = "error"
        try:
            async for frame in leg.ws:
                self._on_frame(leg, frame)
            why = "closed"
        except ConnectionClosed as exc:
            why = "closed" if exc.rcvd else "lost"
        except Exception:
            # A fault of ours: begin again with a new socket, rather than stand still.
            log.exception("feed.failed", venue=self.assembler.venue)
            _abort(leg)
        finally:
            self._gone(leg, leg.why or why)

    def _on_frame(self, leg: Leg, frame: str | bytes) -> None:
        now_ms = self._clock.now_ms()
        leg.seen_s = self._now_s()
        leg.settled.set()
        leg.frames += 1
        self.counts.frames += 1
        self.counts.last_frame_ms = now_ms
        if self.tap is not None:
            self.tap.received(leg.name, frame, now_ms)
        try:
            events = self.assembler.receive(frame, now_ms, leg.number)
        except UnknownSymbol as exc:
            self._unlisted(exc)
        except FeedError as exc:
            self._complain(RefusedFrame(frame, exc, now_ms, leg.name, leg.frames))
        else:
            if events:
                self._accept(events)
        self._pay()

    def _gone(self, leg: Leg, why: str) -> None:
        if self._stopping:
            return
        lived_s = self._now_s() - leg.opened_s
        if self.tap is not None:
            self.tap.closed(leg.name, why, self._clock.now_ms())
        self._legs.discard(leg)
        leg.over.set()
        leg.settled.set()
        leg.owed.put_nowait(NOTHING)
        self._backoff.lived(lived_s)
        self.counts.reconnects[why] += 1
        said = log.info if self._legs else log.warning
        said(
            "feed.disconnected",
            venue=self.assembler.venue,
            reason=why,
            lived_s=round(lived_s, 3),
            sockets=len(self._legs),
        )
        if not self._legs:
            for task in self._asking:
                task.cancel()
            self._accept(self.assembler.disconnected(self._clock.now_ms(), why))
        else:
            self._accept(self.assembler.closed(leg.number, self._clock.now_ms()))

    async def _close_all(self) -> None:
        """Say goodbye on all sockets, and that there are none."""
        if self._pacing is not None:
            self._pacing.cancel()
            self._pacing = None
        legs, self._legs = [*self._legs], set()
        for leg in legs:
            await leg.ws.close()
            if self.tap is not None:
                self.tap.closed(leg.name, "shutdown", self._clock.now_ms())
        if legs:
            self._accept(self.assembler.disconnected(self._clock.now_ms(), "shutdown"))

    # --- signs of life ---

    async def _ping(self, leg: Leg) -> None:
        while not leg.ended:
            try:
                pong = await leg.ws.ping()
            except ConnectionClosed:
                return
            asyncio.ensure_future(pong).add_done_callback(partial(self._on_pong, leg))
            await asyncio.sleep(self._timing.ping_every)

    def _on_pong(self, leg: Leg, pong: asyncio.Future[float]) -> None:
        if not pong.cancelled() and pong.exception() is None:
            leg.seen_s = self._now_s()
            self.counts.clock.answered(pong.result() * 1000, self._clock.now_ms())

    async def _keep_time(self) -> None:
        while True:
            now_s = self._now_s()
            for leg in [*self._legs]:
                # A half-open connection never ends by itself, and to close it politely would wait
                # for an answer.
                if now_s - leg.seen_s > self._timing.dead_after and not leg.why:
                    leg.why = "silent"
                    _abort(leg)
            self._sink.tick(self.assembler.venue, self._clock.now_ms(), live=self.live)
            await asyncio.sleep(TICK_S)

    async def _flush(self) -> None:
        """Holes that are overdue, and books that are due."""
        while True:
            await asyncio.sleep(self._flush_s)
            now_ms = self._clock.now_ms()
            if events := self.assembler.tick(now_ms):
                self._accept(events)
            for due in self._care.due(self.assembler.symbols(), now_ms, live=self.live):
                self.counts.asked_anew[due.reason] += 1
                log.info(
                    "book.asked_anew",
                    venue=self.assembler.venue,
                    symbol=due.symbol,
                    reason=due.reason,
                )
                self._accept(self.assembler.resync(due.symbol, now_ms, due.reason))
            self._pay()

    # --- what the assembler owes the venue ---

    def _pay(self) -> None:
        if not self._legs:
            return  # whatever is owed is owed again, or no more, when there is a socket
        for request in self.assembler.requests_to_send():
            task = self._group.create_task(self._ask(request), name="feed-request")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        self._deal_out()

    def _deal_out(self) -> None:
        """Frames owed, to every open socket; taken no faster than they may be sent.

        So the assembler can put into one frame what has come to be owed meanwhile.
        """
        if self._pacing is not None or not self._legs:
            return
        wait_s = self._pace.wait_s(self._now_s())
        if wait_s:
            self._pacing = asyncio.get_running_loop().call_later(wait_s, self._paced)
            return
        for frame in self.assembler.frames_to_send():
            self._pace.sent(self._now_s())
            for leg in self._legs:
                leg.owed.put_nowait(frame)

    def _paced(self) -> None:
        self._pacing = None
        self._deal_out()

    async def _send(self, leg: Leg) -> None:
        pace = Pace()
        while frame := await leg.owed.get():
            await asyncio.sleep(pace.wait_s(self._now_s()))
            try:
                await leg.ws.send(frame)
            except ConnectionClosed:
                return
            if self.tap is not None:
                self.tap.sent(leg.name, frame, self._clock.now_ms())
            pace.sent(self._now_s())

    async def _ask(self, request: HttpRequest) -> None:
        wait_ms = request.not_before_ms - self._clock.now_ms()
        if wait_ms > 0:
            await asyncio.sleep(wait_ms / 1000)
        reply = await self.rest.get(request.path, request.weight)
        now_ms = self._clock.now_ms()
        if self.tap is not None:
            self.tap.answered(self.rest.root + request.path, reply.status, reply.body, now_ms)
        if reply.status != HTTPStatus.OK:
            self.counts.requests_refused[reply.status] += 1
            log.warning(
                "feed.request_refused",
                venue=self.assembler.venue,
                path=request.path,
                status=reply.status,
                retry_after_s=reply.retry_after_s,
            )
        try:
            events = self.assembler.http_response(
                request, reply.status, reply.body, now_ms, reply.retry_after_s
            )
        except UnknownSymbol as exc:
            self._unlisted(exc)
        except FeedError as exc:
            self._complain(RefusedFrame(reply.body, exc, now_ms, path=request.path))
        else:
            self._accept(events)
        self._pay()

    # --- inside ---

    def _accept(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is BookDelta or type(event) is BookSnapshot:
                self._care.moved(event.symbol, event.ts_recv_ms)
            elif self.tap is not None and type(event) is FeedStatus and event.status == "gap":
                self.tap.gap(event.symbol, event.reason, event.ts_recv_ms)
        if events:
            self.counts.clock.saw(events[-1].ts_event_ms, events[-1].ts_recv_ms)
        self._sink.accept(self.assembler.venue, events)

    def _unlisted(self, error: UnknownSymbol) -> None:
        symbol = self._symbols.get(error.symbol, error.symbol)
        self._sink.unlisted(self.assembler.venue, symbol)

    def _complain(self, refused: RefusedFrame) -> None:
        self.counts.errors += 1
        self._sink.frame_refused(self.assembler.venue, refused)
        now_s = self._now_s()
        if now_s - self._complained_s >= ERROR_LOG_EVERY_S:
            self._complained_s = now_s
            log.error(
                "feed.frame_refused",
                venue=self.assembler.venue,
                error=str(refused.error),
                errors=self.counts.errors,
            )

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _abort(leg: Leg) -> None:
    leg.ws.transport.abort()
