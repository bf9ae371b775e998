"""A reader, its store and a writer of reports as processes, for those who read."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tests.support import commands
from tests.support.reader_process import Serving, serving

SPREADS = {"BTCUSDT": 1, "ETHUSDT": 30}
"""Of the symbols that are written, in ticks of 0.1."""

WAIT_S = 20.0


@asynccontextmanager
async def child(*argv: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is ended, with all that it has started, however the test ends."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=commands.environment(PYTHONUNBUFFERED="1", **variables),
        cwd=commands.ROOT,
        process_group=0,
        limit=1 << 22,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # all of it may have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


@asynccontextmanager
async def writing(
    redis_url: str, node: str = "w1", spreads: Mapping[str, int] = SPREADS
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A writer that has written each symbol."""
    pairs = [f"{symbol}={ticks}" for symbol, ticks in spreads.items()]
    argv = [sys.executable, "-m", "tests.support.example_writer", redis_url, node, *pairs]
    async with child(*argv) as process:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while (line := await process.stdout.readline()) != b"ready\n":
                assert line, "the writer ended"  # else a line of its log
        yield process


@dataclass
class House:
    """A reader, its store, and who writes."""

    server: Serving
    redis_url: str
    writer: asyncio.subprocess.Process


@asynccontextmanager
async def reading_house(redis_url: str, **variables: str) -> AsyncIterator[House]:
    """All of it, with settings of the reader."""
    async with (
        serving(REDIS_URL=redis_url, **variables) as server,
        writing(redis_url) as process,
    ):
        yield House(server, redis_url, process)
