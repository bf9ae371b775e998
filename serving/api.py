"""The HTTP API: reports out of Redis, with their age in headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio import Redis
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lua import Keys
from serving.reader import BadSymbol, ReportReader, StoreUnavailable, reader_client
from tapeline.clock import SystemClock
from tapeline.config import Settings
from tapeline.errors import ReportError

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.5)
_NOT_STORED = {"Cache-Control": "no-store"}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {"application/problem+json": {}}}
    for status, title in (
        (422, "Malformed symbol"),
        (502, "What is stored is no report"),
        (503, "Redis did not answer within 150 ms"),
    )
}
_AGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 30.0, 300.0)


class ReaderMetrics:
    """Metrics of one reader process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tapeline_http_requests_total",
            "HTTP requests",
            ("route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tapeline_http_request_seconds",
            "Time to answer",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.report_age = Histogram(
            "tapeline_report_age_seconds",
            "Age of a report's newest data when it is read",
            ("symbol",),
            buckets=_AGE_BUCKETS,
            registry=self.registry,
        )


class _Measure:
    """Counts and times requests, also those that fail.

    Plain ASGI: Starlette's decorated kind hands each answer through a queue and a task of its
    own, which costs a third of the time of a request.
    """

    def __init__(self, app: ASGIApp, metrics: ReaderMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(perf_counter() - began)


def problem(status: int, title: str, detail: str) -> Response:
    """An error as RFC 9457 wants it."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Response(orjson.dumps(body), status, media_type="application/problem+json")


def create_api(settings: Settings, redis: Redis | None = None) -> FastAPI:
    """The application that ``tapeline serve`` runs.

    Args:
        settings: ``redis_url`` names the store unless ``redis`` is given.
        redis: A client to read with; closed by whoever made it.
    """
    own = reader_client(settings.redis_url) if redis is None else None
    client = redis or own
    assert client is not None
    started = SystemClock().now_ms()
    metrics = ReaderMetrics()
    reader = ReportReader(client, Keys(cluster=settings.redis_cluster_keys))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        if own is not None:
            await own.aclose()

    app = FastAPI(title="Tapeline", version="0.1.0", lifespan=lifespan)

    app.add_middleware(_Measure, metrics=metrics)

    @app.get("/get_report", responses=_PROBLEMS)
    async def get_report(
        symbol: Annotated[str, Query(description="Canonical symbol, such as BTCUSDT")] = "",
    ) -> Response:
        """The newest report, byte for byte as written, or null.

        Its age is in the headers: ``X-Report-Age-Ms`` since it was written,
        ``X-Data-Age-Ms`` since its newest data was received, ``X-Report-Stale`` true when that
        is more than 2000 ms.
        """
        try:
            report = await reader.get(symbol)
        except BadSymbol as error:
            return problem(422, "Malformed symbol", str(error))
        except StoreUnavailable as error:
            return problem(503, "Store unavailable", str(error))
        except ReportError as error:
            return problem(502, "Unreadable report", str(error))
        if report is None:
            return Response(b"null", media_type="application/json", headers=_NOT_STORED)
        headers = {
            **_NOT_STORED,
            "X-Report-Age-Ms": str(report.age_ms),
            "X-Report-Stale": "true" if report.stale else "false",
            "X-Report-Order": f"{report.token}.{report.seq}",
        }
        if report.data_age_ms is not None:
            headers["X-Data-Age-Ms"] = str(report.data_age_ms)
            metrics.report_age.labels(symbol).observe(report.data_age_ms / 1000)
        return Response(report.payload, media_type="application/json", headers=headers)

    @app.get("/health")
    async def health() -> Response:
        """Whether this process answers and Redis does."""
        body: dict[str, Any] = {"uptime_s": (SystemClock().now_ms() - started) / 1000}
        try:
            await reader.get("HEALTH")
        except StoreUnavailable as error:
            return Response(
                orjson.dumps({**body, "status": "unhealthy", "redis": str(error)}),
                503,
                media_type="application/json",
            )
        except ReportError:
            pass
        return Response(
            orjson.dumps({**body, "status": "ok", "redis": "ok"}), media_type="application/json"
        )

    @app.get("/metrics", include_in_schema=False)
    async def get_metrics() -> Response:
        return Response(
            generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return app
