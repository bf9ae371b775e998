"""A child process that is watched, remembered by its last lines, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tapeline.errors import StackError

OnLine = Callable[[str, str], None]
"""Called with (name of the child, a line it wrote)."""

Probe = Callable[[], Awaitable[bool]]
"""Whether a service answers by now."""

_LAUNCHER = Path(__file__).with_name("launcher.py")
_TAIL_LINES = 40
_LINE_LIMIT = 1 << 20
_PROBE_EVERY_S = 0.02
# After the exit: for what the pipe still holds. A grandchild may keep the pipe open for ever.
_DRAIN_S = 1.0


class ChildProcess:
    """One child, in a process group of its own.

    The group keeps Ctrl-C from reaching children before the parent has decided in what order
    to stop them. On Linux a child dies with its parent, also when that is SIGKILLed; the
    kernel ties it to the *thread* that started it, so `start` belongs in a thread that lives
    as long as the parent, such as the main one.

    Attributes:
        name: What errors and log lines call it.
        argv: Program and arguments.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        data_limit_mb: int = 0,
        on_line: OnLine | None = None,
    ) -> None:
        """Prepare, start nothing.

        Args:
            name: What errors and log lines call it.
            argv: Program and arguments.
            env: The whole environment; None inherits the parent's.
            cwd: Where it runs; None for the parent's folder.
            data_limit_mb: Cap on its private writable memory, 0 for none.
            on_line: Told of each line of its stdout and stderr.
        """
        self.name, self.argv = name, list(argv)
        self._env, self._cwd = env, cwd
        self._data_limit_bytes = data_limit_mb << 20
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[int] | None = None

    async def start(self) -> None:
        """Start it; again after it has ended, if need be.

        Raises:
            StackError: It is running already.
        """
        if self.running:
            raise StackError(f"{self.name} is running already")
        self._tail.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(_LAUNCHER),
            str(os.getpid()),
            str(self._data_limit_bytes),
            *self.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_LIMIT,
            process_group=0,
            env=self._env,
            cwd=self._cwd,
        )
        self._watcher = asyncio.create_task(self._watch(self._process), name=f"watch {self.name}")

    @property
    def pid(self) -> int:
        """Its process id, which stays readable after its end.

        Raises:
            StackError: It was never started.
        """
        if self._process is None:
            raise StackError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None before the end."""
        return None if self._process is None else self._process.returncode

    def tail(self) -> str:
        """Its last lines, stdout and stderr as they came."""
        return "\n".join(self._tail)

    async def wait(self) -> int:
        """Its exit status, once it has ended.

        Raises:
            StackError: It was never started.
        """
        if self._watcher is None:
            raise StackError(f"{self.name} was not started")
        # Shielded: whoever stops waiting must not stop the watching.
        return await asyncio.shield(self._watcher)

    async def wait_ready(self, probe: Probe, timeout_s: float) -> None:
        """Until ``probe`` says yes. The child is killed where it does not in time.

        Raises:
            StackError: It ended, or did not answer in time; with its last lines.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not await probe():
            if asyncio.get_running_loop().time() >= deadline:
                await self.stop(grace_s=0)
                raise StackError(self._with_tail(f"did not answer within {timeout_s:g} s"))
            # Wakes at once if the child ends.
            ended = await self._ends_within(_PROBE_EVERY_S)
            if ended:
                raise StackError(self._with_tail(f"ended with status {self.returncode}"))
        if not self.running:
            # Somebody else answered the probe: another program holds the port.
            raise StackError(self._with_tail(f"ended with status {self.returncode}"))

    async def stop(self, grace_s: float = 5.0) -> int | None:
        """SIGTERM, then SIGKILL after ``grace_s``. Returns the status; None if never started."""
        if self._watcher is None:
            return None
        if self.running and grace_s > 0:
            self._signal(signal.SIGTERM)
            await self._ends_within(grace_s)
        self.kill()
        return await self.wait()

    def kill(self) -> None:
        """SIGKILL, to the whole group. `stop` or `wait` still has to be awaited."""
        if self.running:
            self._signal(signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)

    async def _ends_within(self, timeout_s: float) -> bool:
        assert self._watcher is not None
        done, _ = await asyncio.wait({self._watcher}, timeout=timeout_s)
        return bool(done)

    async def _watch(self, process: asyncio.subprocess.Process) -> int:
        pump = asyncio.create_task(self._read_lines(process), name=f"read {self.name}")
        try:
            status = await process.wait()
            await asyncio.wait({pump}, timeout=_DRAIN_S)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        return status

    async def _read_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                continue  # longer than the limit: asyncio has dropped it
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            if self._on_line is not None:
                self._on_line(self.name, text)

    def _with_tail(self, what: str) -> str:
        lines = f"; its last lines:\n{self.tail()}" if self._tail else ", silently"
        return f"{self.name} {what}{lines}"


async def run_to_end(
    name: str, argv: Sequence[str], *, timeout_s: float, cwd: str | os.PathLike[str] | None = None
) -> None:
    """Run a command that is expected to end well.

    Raises:
        StackError: It failed, or took longer than ``timeout_s``; with its last lines.
    """
    child = ChildProcess(name, argv, cwd=cwd)
    await child.start()
    try:
        async with asyncio.timeout(timeout_s):
            status = await child.wait()
    except TimeoutError:
        raise StackError(f"{name} took longer than {timeout_s:g} s\n{child.tail()}") from None
    finally:
        await child.stop(grace_s=0)
    if status != 0:
        raise StackError(f"{name} ended with status {status}; its last lines:\n{child.tail()}")
