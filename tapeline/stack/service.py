"""What every local service can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from tapeline.stack.processes import ChildProcess


class Service(ABC):
    """A server that this process started and will stop.

    ``async with`` starts and stops it. `start` returns when it answers; after `stop` or `kill`
    it may be started again, at the same URL.

    Attributes:
        name: What errors and log lines call it.
    """

    name: str

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it; the same through restarts."""

    @property
    @abstractmethod
    def child(self) -> ChildProcess:
        """The process that serves."""

    @abstractmethod
    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            StackError: It did not start; says why, with its last lines.
        """

    @property
    def pid(self) -> int:
        """The process id of the one that serves."""
        return self.child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.child.running

    async def stop(self, grace_s: float = 5.0) -> None:
        """Ask it to end, and kill it where it has not after ``grace_s``."""
        await self.child.stop(grace_s)

    def kill(self) -> None:
        """SIGKILL. `stop` still has to be awaited, if only to reap it."""
        self.child.kill()

    async def restart(self) -> None:
        """Stop and start, at the same URL."""
        await self.stop()
        await self.start()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:  # a cancelled start, too, must not leave a child
            await self.stop(grace_s=0)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
