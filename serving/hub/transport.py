"""Sockets as the hub wants them: many frames in one write, and no waiting.

ASGI sends one message at a time, each through layers that cost more than all the rest of a frame's
way. `FrameProtocol` is uvicorn's own WebSocket protocol, which also lets an application hand it
whole frames; where a server has no such thing, `AsgiSink` sends the plain way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.protocol import OPEN

from serving.hub.protocol import MESSAGE_BYTES_MAX, Close
from serving.hub.wire import payload_of

EXTENSION: Final = "tapeline.frames"

BUFFER_BYTES: Final = 131_072
"""What may lie in a connection's buffer before its client counts as behind."""

REASON_BYTES_MAX: Final = 123
CLOSE_S: Final = 5.0

_QUIET: Final = logging.getLogger("tapeline.socket")
_QUIET.setLevel(logging.WARNING)


class Sink(Protocol):
    """Where one client's frames go.

    Attributes:
        on_writable: Called when it can be written to again, or is over.
    """

    on_writable: Callable[[], None]

    @property
    def writable(self) -> bool:
        """Whether it can be written to now."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        ...

    def write(self, frames: Sequence[bytes]) -> None:
        """Hand on whole frames; only while `writable`."""
        ...

    def close(self, code: Close, reason: str) -> None:
        """End it, behind what has been written."""
        ...

    async def gone(self) -> None:
        """Leave nothing running."""
        ...


def _nothing() -> None:
    pass


class FrameProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's protocol with a way in for whole frames.

    The application finds a `FrameSink` in ``scope["extensions"]``.
    """

    sink: FrameSink | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Uvicorn says each connection's whole address at INFO, and somebody may have put a
        # secret into it.
        self.logger = self.conn.logger = _QUIET

    async def run_asgi(self) -> None:
        self.sink = FrameSink(self)
        cast("dict[str, Any]", self.scope)["extensions"][EXTENSION] = self.sink
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)
        await super().run_asgi()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.sink is not None:
            self.sink.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.sink is not None:
            self.sink.on_writable()  # whoever waits for it to be is to see that it is over

    def shutdown(self) -> None:
        """The server ends, which its clients are told as what it is."""
        if self.handshake_complete and self.sink is not None and not self.sink.closed:
            self.sink.close(Close.GOING_AWAY, "the server ends")
        super().shutdown()


SOCKET_OPTIONS: Final[dict[str, Any]] = {
    "ws": FrameProtocol,
    "ws_max_size": MESSAGE_BYTES_MAX,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    # Each client gets frames of its own; to deflate them costs more than loopback or a data
    # centre's network ever will.
    "ws_per_message_deflate": False,
}
"""What uvicorn is to be told."""


class FrameSink:
    """The way in. See `Sink`."""

    def __init__(self, protocol: FrameProtocol) -> None:
        self._protocol = protocol
        self.on_writable: Callable[[], None] = _nothing

    @property
    def writable(self) -> bool:
        return self._protocol.writable.is_set() and not self.closed

    @property
    def closed(self) -> bool:
        protocol = self._protocol
        return protocol.close_sent or protocol.disconnected or protocol.transport.is_closing()

    def write(self, frames: Sequence[bytes]) -> None:
        if not self.closed and self._protocol.conn.state is OPEN:
            self._protocol.transport.writelines(frames)

    def close(self, code: Close, reason: str) -> None:
        protocol = self._protocol
        if self.closed:
            return
        with contextlib.suppress(InvalidState):
            protocol.conn.send_close(code, _cut(reason))
            protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
        protocol.queue.put_nowait(
            {"type": "websocket.disconnect", "code": int(code), "reason": reason}
        )
        if protocol.read_paused:
            protocol.read_paused = False
            protocol.transport.resume_reading()
        # Not `close`, which waits for a client that takes nothing for as long as it takes nothing.
        protocol.close_timer = protocol.loop.call_later(
            protocol.close_timeout, protocol.transport.abort
        )
        self.on_writable()

    async def gone(self) -> None:
        """Nothing runs."""


class AsgiSink:
    """Frame by frame, by a task for each write. See `Sink`."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._sending: asyncio.Task[None] | None = None
        self._closing: tuple[Close, str] | None = None
        self._closed = False
        self.on_writable: Callable[[], None] = _nothing

    @property
    def writable(self) -> bool:
        return self._sending is None and not self.closed

    @property
    def closed(self) -> bool:
        return self._closed or self._closing is not None

    def write(self, frames: Sequence[bytes]) -> None:
        self._sending = asyncio.create_task(self._send([payload_of(frame) for frame in frames]))

    def close(self, code: Close, reason: str) -> None:
        if not self.closed:
            self._closing = (code, reason)
            if self._sending is None:
                self._sending = asyncio.create_task(self._send([]))
            self.on_writable()

    async def _send(self, payloads: Sequence[bytes]) -> None:
        try:
            for payload in payloads:
                await self._websocket.send_text(payload.decode())
            if self._closing is not None:
                await self._websocket.close(self._closing[0], _cut(self._closing[1]))
        except Exception:
            self._closed = True
        finally:
            self._sending = None
        self.on_writable()

    async def gone(self) -> None:
        sending = self._sending
        if sending is not None:
            if self._closing is not None:  # the last word may still go out
                await asyncio.wait({sending}, timeout=CLOSE_S)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


def sink_of(websocket: WebSocket) -> Sink:
    """The quickest way to a client that its server has."""
    found = websocket.scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, FrameSink) else AsgiSink(websocket)


def _cut(reason: str) -> str:
    return reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
