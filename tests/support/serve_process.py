"""``tapeline serve`` as a process, its log read all the while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support import commands

START_S = 30.0


@dataclass
class ServeProcess:
    """A reader that listens.

    Attributes:
        process: The process.
        port: Where on loopback.
        said: Its log so far.
    """

    process: asyncio.subprocess.Process
    port: int = 0
    said: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serve_process(redis_url: str, **variables: str) -> AsyncIterator[ServeProcess]:
    """A reader on a free port; killed at the end where it still runs."""
    process = await commands.start("serve", REDIS_URL=redis_url, NT_SERVE_PORT="0", **variables)
    server, ready = ServeProcess(process), asyncio.Event()

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            said = json.loads(line)
            server.said.append(said)
            if said["event"] == "serve.starting":
                server.port = said["port"]
            if said["event"].startswith("Application startup complete"):
                ready.set()
        ready.set()

    reading = asyncio.create_task(read())
    try:
        await asyncio.wait_for(ready.wait(), START_S)
        assert server.port, server.said
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
