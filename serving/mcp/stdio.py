"""``tapeline mcp``: the server on stdin and stdout. Whoever may start it may read everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any, Final, cast

import anyio
from mcp.server.stdio import stdio_server

from serving.mcp.build import build
from serving.parts import Parts
from tapeline.config import Settings
from tapeline.log_level import levels_followed
from tapeline.logging import get_logger
from tapeline.tracing import start_tracing

LINE_MAX_BYTES: Final = 1 << 20
log = get_logger("mcp")


class _Lines:
    """Lines of stdin as they come.

    The SDK's own reader blocks a thread, which no signal ends while the host keeps the pipe open.
    """

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[str]:
        return self._each()

    async def _each(self) -> AsyncIterator[str]:
        while True:
            try:
                line = await self._stream.readline()
            except ValueError:  # longer than any message of ours: refused as no JSON
                line = b"?\n"
            if not line:
                return
            yield line.decode(errors="replace")


async def run_stdio(settings: Settings) -> int:
    """Serve until stdin ends, or SIGTERM or SIGINT; returns the exit status."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, task.cancel)
    log.info("mcp.starting", transport="stdio")
    tracing = start_tracing(settings, "mcp")
    parts = Parts.of(settings, tracing=tracing)
    named, reads_from = parts.keys.log_level, settings.redis_reader_url or settings.redis_url
    try:
        protocol = build(parts)
        server = protocol.server
        async with (
            levels_followed(settings, reads_from, named(settings.node_id), named("*")),
            protocol.running(),
            _stdin() as stdin,
            stdio_server(stdin=stdin) as (reads, writes),
        ):
            await server.run(reads, writes, server.create_initialization_options())
    except asyncio.CancelledError:
        pass  # by a signal
    finally:
        await parts.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.stop)
    log.info("mcp.stopped")
    return 0


@contextlib.asynccontextmanager
async def _stdin() -> AsyncIterator[anyio.AsyncFile[str] | None]:
    """Lines of stdin; None where it is a file, which the SDK reads by itself."""
    reader = asyncio.StreamReader(LINE_MAX_BYTES)
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader),
            os.fdopen(os.dup(sys.stdin.fileno()), "rb"),
        )
    except (ValueError, OSError):
        yield None
        return
    try:
        yield cast("Any", _Lines(reader))
    finally:
        transport.close()
