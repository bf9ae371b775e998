"""Running the reader as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from serving.api import create_api
from tapeline.config import Settings
from tapeline.errors import TapelineError
from tapeline.logging import get_logger

log = get_logger("serve")


class _Server(uvicorn.Server):
    """A signal that asks it to end ends it well.

    Uvicorn's own raises the signal again once it has stopped, and the process ends by it.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for signum in signals:
            loop.add_signal_handler(signum, self.handle_exit, signum, None)
        try:
            yield
        finally:
            for signum in signals:
                loop.remove_signal_handler(signum)


def run_serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Raises:
        TapelineError: The port can't be listened on.
    """
    config = uvicorn.Config(
        create_api(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    with _listen(settings.bind_host, settings.serve_port) as sock:
        port = sock.getsockname()[1]
        log.info("serve.starting", host=settings.bind_host, port=port)
        server = _Server(config)
        server.run(sockets=[sock])
    return 0 if server.started else 1


def _listen(host: str, port: int) -> socket.socket:
    # Not left to uvicorn, which says on a taken port neither which setting names it nor, for
    # port 0, which one it got.
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With the protocol said: asyncio switches Nagle's algorithm off for no other, and
        # header and body of an answer would lie 40 ms apart.
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen()
        except OSError:
            sock.close()
            raise
        return sock
    except OSError as error:
        reason = error.strerror or str(error)
        raise TapelineError(
            f"can't listen on {host} port {port}: {reason}; NT_BIND_HOST and NT_SERVE_PORT "
            "say where, port 0 picks a free one"
        ) from None
