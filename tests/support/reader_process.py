"""``tapeline serve`` as a process of a test's own."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support import commands

START_S = 30.0


@dataclass
class Serving:
    """A reader that listens."""

    process: asyncio.subprocess.Process
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def end(self, signum: signal.Signals) -> str:
        """What it still said after the signal."""
        self.process.send_signal(signum)
        _, err = await asyncio.wait_for(self.process.communicate(), 15)
        return err.decode()


@asynccontextmanager
async def serving(**variables: str) -> AsyncIterator[Serving]:
    process = await commands.start("serve", **{"NT_SERVE_PORT": "0", **variables})
    try:
        yield await asyncio.wait_for(_listening(process), START_S)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _listening(process: asyncio.subprocess.Process) -> Serving:
    """From its log: where it listens, and that it does."""
    assert process.stderr is not None
    where: tuple[str, int] | None = None
    async for line in process.stderr:
        said = json.loads(line)
        if said["event"] == "serve.starting":
            where = said["host"], said["port"]
        if said["event"].startswith("Application startup complete"):
            assert where is not None
            return Serving(process, *where)
    raise AssertionError("it ended")


async def raw(server: Serving, *pieces: bytes, within_s: float = 10.0) -> bytes:
    """Everything that comes back for these bytes, until the server closes the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), within_s)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
