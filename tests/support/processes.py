"""What is there to be seen of a process from outside: its children, its limits, its ports. Linux."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path


def children_of(parent: int) -> Iterator[tuple[int, str]]:
    """Each child that runs, with its command line."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, ppid = _stat(int(entry.name))[:2]
            line = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(ppid) == parent and state != "Z":
            yield int(entry.name), line


def limits_of(pid: int) -> str:
    """As the system lists them."""
    return Path(f"/proc/{pid}/limits").read_text()


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return state_of(pid) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def state_of(pid: int) -> str:
    """One letter, as the system has it: ``T`` stopped, ``Z`` ended and not reaped."""
    return _stat(pid)[0]


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex((host, port)) == 0


def _stat(pid: int) -> list[str]:
    """What stands behind the name, which may hold anything: state, parent and more."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
