"""``/metrics`` and ``/health`` of a process that is not a web server otherwise."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tapeline.metrics.exposition import exposition

HealthCheck = Callable[[], tuple[bool, dict[str, Any]]]
"""Whether the process is well, and what ``/health`` says of it."""


class ProbeServer:
    """A small HTTP server for operators.

    Attributes:
        port: The port listened on; the chosen one when 0 was asked for.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, health: HealthCheck
    ) -> None:
        self.host, self.port = host, port
        self._registry, self._health = registry, health
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken, or not ours to take.
        """
        app = web.Application()
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/health", self._get_health)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError:
            await self.stop()
            raise
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        """Root of what it serves."""
        return f"http://{self.host}:{self.port}"

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=await exposition(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _get_health(self, _request: web.Request) -> web.Response:
        well, body = self._health()
        return web.Response(
            status=200 if well else 503, body=orjson.dumps(body), content_type="application/json"
        )


def reachable(url: str) -> str:
    """A server's URL as others may use it: one that listens everywhere is at this host's name."""
    return url.replace("//0.0.0.0:", f"//{socket.gethostname()}:").replace(
        "//[::]:", f"//{socket.gethostname()}:"
    )
