"""One websocket client of the simulated venue: subscriptions, a bounded queue, ping and pong."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

STREAMS_MAX: Final = 1024
INBOUND_PER_S: Final = 5
METHODS: Final = (
    "SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY",
)  # fmt: skip


class Session:
    """Speaks with one client.

    Attributes:
        streams: Subscribed streams, in order of subscription.
        combined: Payloads are wrapped as ``{"stream":..,"data":..}``.
        sent: Frames written, by stream; replies under the empty name.
        sent_bytes: Characters of those frames.
        ended: Why the venue ended the session; empty while it has not.
    """

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.BaseTransport | None,
        streams: Iterable[str],
        *,
        combined: bool,
        queue_frames: int,
    ) -> None:
        """Wrap a prepared socket; `run` serves it."""
        self.ws = ws
        self.streams: dict[str, None] = dict.fromkeys(streams)
        self.combined = combined
        self.sent: dict[str, int] = {}
        self.sent_bytes = 0
        self.ended = ""
        self.pong_at = time.monotonic()
        self._transport = transport
        self._limit = queue_frames
        self._queue: deque[tuple[str, str]] = deque()
        self._wake = asyncio.Event()
        self._inbound: deque[float] = deque(maxlen=INBOUND_PER_S)

    def offer(self, stream: str, text: str) -> None:
        """Queue a frame; a client that is too far behind is cut off."""
        if self.ended:
            return
        if len(self._queue) >= self._limit:
            self.abort("slow")
            return
        self._queue.append((stream, text))
        self._wake.set()

    def abort(self, why: str) -> None:
        """Cut the connection without a goodbye: its queue may be what is stuck."""
        self.ended = self.ended or why
        self._queue.clear()
        self._wake.set()
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    async def close(self, why: str) -> None:
        """Close with a going-away frame."""
        self.ended = self.ended or why
        self._queue.clear()
        self._wake.set()
        with suppress(ConnectionError, TimeoutError):
            await self.ws.close(code=WSCloseCode.GOING_AWAY, message=why.encode())

    async def run(self, ping_every_s: float, pong_within_s: float) -> None:
        """Serve the client until either side ends it."""
        helpers = [
            asyncio.create_task(self._write(), name="simulator-write"),
            asyncio.create_task(self._ping(ping_every_s, pong_within_s), name="simulator-ping"),
        ]
        try:
            await self._read()
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

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
            if time.monotonic() - self.pong_at > within_s:
                self.abort("no_pong")
                return
            with suppress(ConnectionError):
                await self.ws.ping(str(round(time.time() * 1000)).encode())

    async def _read(self) -> None:
        while True:
            message = await self.ws.receive()
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
                self.offer("", json.dumps(self.reply(message.data), separators=(",", ":")))

    def _too_many(self) -> bool:
        now = time.monotonic()
        recent = self._inbound
        full = len(recent) == INBOUND_PER_S and now - recent[0] < 1
        recent.append(now)
        return full

    def reply(self, text: str) -> dict[str, Any]:
        """Act on a control frame and answer it."""
        try:
            frame = json.loads(text)
        except ValueError as exc:
            return {"code": 3, "msg": f"Invalid JSON: {exc}"}
        if not isinstance(frame, dict):
            return {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}
        ident = frame.get("id")
        if "id" not in frame:
            return _invalid("missing field `id`", None)
        if isinstance(ident, bool) or not (ident is None or isinstance(ident, (int, str))):
            return _invalid("`id` must be an integer, a string of up to 36, or null", None)
        method, params = frame.get("method"), frame.get("params", [])
        if method not in METHODS:
            known = ", ".join(f"`{name}`" for name in METHODS)
            return _invalid(f"unknown variant `{method}`, expected one of {known}", ident)
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(self.streams), "id": ident}
        if method == "GET_PROPERTY":
            return {"result": self.combined, "id": ident}
        if not isinstance(params, list) or not params:
            return _invalid("`params` must be a list that is not empty", ident)
        if method == "SET_PROPERTY":
            if params[0] != "combined" or not isinstance(params[-1], bool):
                return _invalid('the only property is "combined", true or false', ident)
            self.combined = params[1]
            return {"result": None, "id": ident}
        if not all(isinstance(stream, str) and "@" in stream for stream in params):
            return _invalid("each stream must be a text such as btcusdt@depth", ident)
        if method == "UNSUBSCRIBE":
            for stream in params:
                self.streams.pop(stream, None)
        elif len(self.streams.keys() | set(params)) > STREAMS_MAX:
            return _invalid(f"more than {STREAMS_MAX} streams on one connection", ident)
        else:
            self.streams.update(dict.fromkeys(params))
        return {"result": None, "id": ident}


def _invalid(why: str, ident: object) -> dict[str, Any]:
    return {"code": 2, "msg": f"Invalid request: {why}", "id": ident}
