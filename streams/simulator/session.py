"""One client of the simulated venue: its socket, a bounded queue, ping and pong, and its faults."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from streams.simulator.dialect import Frame, Message, Talk
from streams.simulator.faults import Line


class Session:
    """Speaks with one client.

    Attributes:
        talk: The dialect's side of it.
        line: What goes wrong on the way.
        sent: Frames written, by stream; replies under the empty name.
        sent_bytes: Characters of those frames.
        ended: Why the venue ended the session; empty while it has not.
    """

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.BaseTransport | None,
        talk: Talk,
        line: Line,
        *,
        clock_ms: Callable[[], int],
        queue_frames: int,
        inbound_per_s: int,
    ) -> None:
        """Wrap a prepared socket; `run` serves it."""
        self.ws = ws
        self.talk = talk
        self.line = line
        self.sent: dict[str, int] = {}
        self.sent_bytes = 0
        self.ended = ""
        self.pong_at = time.monotonic()
        self._transport = transport
        self._clock_ms = clock_ms
        self._limit = queue_frames
        self._queue: deque[tuple[str, str]] = deque()
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._deaf = False
        self._inbound: deque[float] = deque(maxlen=inbound_per_s)

    @property
    def streams(self) -> Mapping[str, object]:
        """Subscribed streams, in order of subscription."""
        return self.talk.streams

    def state(self) -> dict[str, Any]:
        """What the control API shows of it."""
        return {"connection": self.line.connection, "queued": len(self._queue), **self.talk.state()}

    # --- what it is sent ---

    def publish(self, message: Message, now_ms: int) -> None:
        """Send a message of a stream it hears."""
        if self.ended:
            return
        for _ in range(self.line.holes(message.symbol, message.kind, now_ms)):
            self.talk.skip()
        self.send(self.talk.frames(message), now_ms)

    def send(self, frames: Iterable[Frame], now_ms: int) -> None:
        """Send these, or what faults make of them."""
        for frame in frames:
            for sent in self.line.send(frame, now_ms):
                self.offer(sent.stream, sent.text)
        if self.line.half_open(now_ms):
            self._stop_listening()

    def tick(self, now_ms: int) -> None:
        """Time has passed: heartbeats, late frames, and what a fault does to the socket."""
        if self.ended:
            return
        self.send(self.talk.beat(now_ms), now_ms)
        for frame in self.line.due(now_ms):
            self.offer(frame.stream, frame.text)
        if self._deaf:
            if not self.line.half_open(now_ms):
                self.abort("half_open")
        elif self.line.cut:
            self.abort("cut")
        elif self.talk.overdue(now_ms):
            self.abort("overdue")

    def offer(self, stream: str, text: str) -> None:
        """Queue a frame as it is; a client that is too far behind is cut off."""
        if self.ended:
            return
        if len(self._queue) >= self._limit:
            self.abort("slow")
            return
        self._queue.append((stream, text))
        self._wake.set()

    # --- its life ---

    def abort(self, why: str) -> None:
        """Cut the connection without a goodbye: its queue may be what is stuck."""
        self._end(why)
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    async def close(self, why: str) -> None:
        """Close with a going-away frame."""
        if self._deaf:
            self.abort(why)
            return
        self._end(why)
        with suppress(ConnectionError, TimeoutError):
            await self.ws.close(code=WSCloseCode.GOING_AWAY, message=why.encode())

    async def run(self, ping_every_s: float, pong_within_s: float) -> None:
        """Serve the client until either side ends it.

        Args:
            ping_every_s: Time between two pings; 0 for none.
            pong_within_s: A client silent for longer is cut off.
        """
        helpers = [asyncio.create_task(self._write(), name="simulator-write")]
        if ping_every_s:
            ping = self._ping(ping_every_s, pong_within_s)
            helpers.append(asyncio.create_task(ping, name="simulator-ping"))
        try:
            self.send(self.talk.opened(self._clock_ms()), self._clock_ms())
            await self._read()
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    def _end(self, why: str) -> None:
        self.ended = self.ended or why
        self._queue.clear()
        self._wake.set()
        self._over.set()

    def _stop_listening(self) -> None:
        """Behave like a peer that is gone: nothing is read, so nothing is answered."""
        if not self._deaf:
            self._deaf = True
            self._queue.clear()
            if isinstance(self._transport, asyncio.Transport):
                self._transport.pause_reading()

    async def _write(self) -> None:
        queue, sent = self._queue, self.sent
        while not self.ended:
            await self._wake.wait()
            self._wake.clear()
            while queue:
                stream, text = queue.popleft()
                try:
                    await self.ws.send_str(text)
                except (ConnectionError, RuntimeError):
                    return
                sent[stream] = sent.get(stream, 0) + 1
                self.sent_bytes += len(text)

    async def _ping(self, every_s: float, within_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            if self._deaf:
                continue
            if time.monotonic() - self.pong_at > within_s:
                self.abort("no_pong")
                return
            with suppress(ConnectionError):
                await self.ws.ping(str(round(time.time() * 1000)).encode())

    async def _read(self) -> None:
        while True:
            message = await self.ws.receive()
            now_ms = self._clock_ms()
            if self._deaf:
                await self._over.wait()
                return
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                return
            if message.type is WSMsgType.ERROR:
                return
            if self._too_many():
                self.ended = self.ended or "inbound"
                await self.ws.close(code=WSCloseCode.POLICY_VIOLATION, message=b"Too many requests")
                return
            if message.type is WSMsgType.PING:
                await self.ws.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self.pong_at = time.monotonic()
            elif message.type is WSMsgType.TEXT:
                self.send(self.talk.received(message.data, now_ms), now_ms)

    def _too_many(self) -> bool:
        now = time.monotonic()
        recent = self._inbound
        full = len(recent) == recent.maxlen and now - recent[0] < 1
        recent.append(now)
        return full
