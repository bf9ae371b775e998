"""A TCP proxy between one process and a server: cuts, delays, holds, and turns to another server.

What a cut is: bytes are taken and dropped, connections stay open and nobody is told. That is what
a lost route looks like, and what a half-open connection is.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

CHUNK = 65_536


class Proxy:
    """Forwards connections to a target.

    Args:
        target: Port on this machine.
        port: Where to listen; 0 for any.

    Attributes:
        target: New connections go there.
        delay_s: Each chunk is this much late, both ways.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target, self.port = target, port
        self.delay_s = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._dropping = False
        self._held: list[tuple[asyncio.StreamWriter, bytes]] | None = None
        self._hold_from: bytes | None = None
        self._released = asyncio.Event()
        self._released.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()

    # --- faults --------------------------------------------------------------------------------

    def cut(self) -> None:
        """Nothing comes through any more; new connections are taken and get no answer."""
        self._dropping = True

    def heal(self) -> None:
        """As before; what was cut is reset, as its peers have lost count."""
        self._dropping = False
        self.reset()

    def reset(self) -> None:
        """All connections end at once."""
        self._released.set()
        for writer in list(self._writers):
            writer.transport.abort()

    def hold(self, beginning: bytes) -> None:
        """Keep what the client sends, from the first chunk with these bytes on; answers
        come through."""
        self._hold_from = beginning

    def release(self) -> int:
        """Send what was kept, now; how many chunks there were."""
        held, self._held, self._hold_from = self._held or [], None, None
        for writer, data in held:
            with contextlib.suppress(OSError, RuntimeError):
                writer.write(data)
        self._released.set()
        return len(held)

    # --- forwarding ----------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        try:
            await asyncio.gather(
                self._forward(reader, far_writer, upstream=True),
                self._forward(far_reader, writer, upstream=False),
            )
        finally:
            for end in (writer, far_writer):
                self._writers.discard(end)
                end.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upstream: bool
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(CHUNK):
                if self._dropping:
                    continue
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if upstream and self._hold_from is not None and self._hold_from in data:
                    self._held, self._hold_from = [], None
                    self._released.clear()
                if upstream and self._held is not None:
                    self._held.append((writer, data))
                    continue
                writer.write(data)
                await writer.drain()
        if upstream:
            # What was sent before the end arrives, however late.
            await self._released.wait()
            with contextlib.suppress(OSError):
                await writer.drain()
        # The other direction ends with this one, but not while the link is cut: then no end is
        # heard of either.
        if not self._dropping:
            writer.transport.abort()
