"""Running the reader as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from lua import Keys
from serving.access.front import is_loopback, keys_needed
from serving.access.ring import KeyRing, KeysUnknown
from serving.app import create_api
from serving.connections import patient
from serving.feeds import FeedControl
from serving.hub.events import MakeEvents
from serving.hub.transport import SOCKET_OPTIONS
from serving.reader import reader_client
from tapeline.collector import relax
from tapeline.config import Settings
from tapeline.errors import ConfigError, TapelineError
from tapeline.log_level import levels_followed
from tapeline.logging import get_logger
from tapeline.tracing import start_tracing

log = get_logger("serve")

CONNECTIONS_MAX = 20_000
BACKLOG = 2048
YOUNG = 5_000
"""New objects before the collector looks at them: some 4 ms if all of them are garbage."""


class _Server(uvicorn.Server):
    """A signal that asks it to end ends it well.

    Uvicorn's own raises the signal again once it has stopped, and the process ends by it.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; the level of logs may be changed meanwhile."""
        settings = self._settings
        keys = Keys.of(settings)
        async with levels_followed(
            settings,
            # Its user may read what lies beside heartbeats.
            settings.redis_reader_url or settings.redis_url,
            keys.log_level(settings.node_id),
            keys.log_level("*"),
        ):
            await super().serve(sockets)

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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what would not end by itself, then waits for the rest as uvicorn does."""
        for end in getattr(getattr(self.config.app, "state", None), "ends", ()):
            end()
        await super().shutdown(sockets)


def server_config(app: FastAPI, settings: Settings, **more: Any) -> uvicorn.Config:
    """How the application is served, here and in tests.

    Args:
        app: Of `create_api`.
        settings: Limits.
        more: Settings of uvicorn that win over these.
    """
    options = {
        "http": patient(settings.http_read_timeout_s),
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # What a proxy says of its clients is not believed: whoever is refused should not choose
        # the address that it is refused by.
        "proxy_headers": False,
        "limit_concurrency": CONNECTIONS_MAX,
        "timeout_graceful_shutdown": 2,
        **SOCKET_OPTIONS,
        **more,
    }
    return uvicorn.Config(app, **options)


def run_serve(
    settings: Settings, control: FeedControl | None = None, events: MakeEvents | None = None
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Args:
        settings: Of this process.
        control: Has bridges follow more feeds, or less; None without Kafka.
        events: Where the hub has events from, in place of the Redis Streams.

    Raises:
        ConfigError: Others than this machine would reach it without a key.
        TapelineError: The port can't be listened on.
    """
    asyncio.run(check_keys(settings))
    tracing = start_tracing(settings, "serve")
    app = create_api(settings, control=control, events=events, tracing=tracing)
    # The SDK of agents comes later, and is half of all there is to search.
    app.state.mcp.loaded = partial(relax, YOUNG)
    config = server_config(app, settings)
    with _listen(settings.bind_host, settings.serve_port) as sock:
        port = sock.getsockname()[1]
        log.info("serve.starting", host=settings.bind_host, port=port)
        server = _Server(config, settings)
        relax(YOUNG)
        try:
            server.run(sockets=[sock])
        finally:
            if tracing is not None:
                tracing.stop()
    return 0 if server.started else 1


async def check_keys(settings: Settings) -> None:
    """See that nobody from elsewhere reads without a key.

    Without Redis nobody can tell which keys there are. The reader starts all the same, as a start
    should not hang on the order that machines come up in: it needs keys, so it answers 503 until
    they are known, and then 401 to all but their owners.

    Raises:
        ConfigError: ``NT_BIND_HOST`` is not loopback and no key is in force.
    """
    if not keys_needed(settings):
        if not is_loopback(settings.bind_host):
            log.warning("serve.open", host=settings.bind_host, require_keys=settings.require_keys)
        return
    async with reader_client(settings.redis_url) as redis:
        ring = KeyRing(redis, Keys.of(settings))
        try:
            await ring.refresh()
        except KeysUnknown as error:
            log.warning("serve.keys_unknown", reason=str(error))
            return
    if not ring.in_force and not is_loopback(settings.bind_host):
        raise ConfigError(
            "NT_BIND_HOST",
            settings.bind_host,
            "a loopback address while there is no API key: others would read without one. "
            "`tapeline keys create --name NAME --scope reports:read,ticks:read,status:read` makes "
            "one; NT_REQUIRE_KEYS=never says that something else decides who reaches the port",
        )


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
            sock.listen(BACKLOG)
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
