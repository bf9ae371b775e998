"""Free loopback ports, and whether somebody answers on one."""

from __future__ import annotations

import asyncio
import random
import socket

from tapeline.errors import StackError

LOOPBACK = "127.0.0.1"

# Below the range that Linux and macOS hand to outgoing connections. A port from that range can
# be taken while a service restarts, even by its own client: a connect to a closed loopback port
# may pick that very port as its source and reach itself.
_FIRST, _LAST = 20_000, 32_000


def free_port(taken: frozenset[int] = frozenset()) -> int:
    """A loopback port nobody listens on, and not one of ``taken``.

    Raises:
        StackError: No free one was found.
    """
    # Seeded by the system: two runs on one machine should not try the same ports.
    for port in random.SystemRandom().sample(range(_FIRST, _LAST), 200):
        if port not in taken and is_free(port):
            return port
    raise StackError(f"no free port between {_FIRST} and {_LAST} on {LOOPBACK}")


def is_free(port: int) -> bool:
    """Whether ``port`` can be listened on, on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        # As servers do it: connections of a predecessor in TIME_WAIT are no obstacle.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def check_free(name: str, *ports: int) -> None:
    """Before a server is started: an answer on its port would be taken for its own.

    Raises:
        StackError: Somebody listens there already.
    """
    for port in ports:
        if not is_free(port):
            raise StackError(f"{name}: port {port} on {LOOPBACK} is in use")


async def answers(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody accepts connections there."""
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        return False
    return True
