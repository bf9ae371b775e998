"""``/metrics``, ``/health``, ``/live``, ``/ready`` of a process that is no web server otherwise.

Three questions, so that a supervisor does the right thing. ``/live``: does the event loop come
round? Where not, a restart helps. ``/ready``: is it at work as it should be, so that the next one
may be restarted? ``/health``: what a person looks at. What the process waits for (broker, Redis,
venue) is in the last two only: a restart mends none of it.
"""

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

ReadyCheck = Callable[[bool, dict[str, Any]], str]
"""Given what `HealthCheck` answers: why the process is not ready, or ''."""


def unwell(well: bool, body: dict[str, Any]) -> str:
    """Ready while well."""
    return "" if well else str(body.get("status", "unhealthy"))


class ProbeServer:
    """A small HTTP server for operators.

    Args:
        host, port: Where to listen.
        registry: What ``/metrics`` shows.
        health: What ``/health`` says.
        unready: What of that keeps the process from being ready.

    Attributes:
        port: The port listened on; the chosen one when 0 was asked for.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: HealthCheck,
        unready: ReadyCheck = unwell,
    ) -> None:
        self.host, self.port = host, port
        self._registry, self._health, self._unready = registry, health, unready
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken, or not ours to take.
        """
        app = web.Application()
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/health", self._get_health)
        app.router.add_get("/live", self._get_live)
        app.router.add_get("/ready", self._get_ready)
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

    async def _get_live(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _get_ready(self, _request: web.Request) -> web.Response:
        reason = self._unready(*self._health())
        body = {"ready": not reason, "reason": reason}
        return web.Response(
            status=503 if reason else 200, body=orjson.dumps(body), content_type="application/json"
        )


def reachable(url: str) -> str:
    """A server's URL as others may use it: one that listens everywhere is at this host's name."""
    return url.replace("//0.0.0.0:", f"//{socket.gethostname()}:").replace(
        "//[::]:", f"//{socket.gethostname()}:"
    )
