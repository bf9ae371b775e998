"""The application that ``tapeline serve`` runs: parts, routes, and the front door before them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from redis.asyncio import Redis
from starlette.exceptions import HTTPException

from serving import contracts, dashboard, models
from serving.access.front import Front
from serving.feeds import FeedControl
from serving.hub.events import MakeEvents
from serving.mcp.http import mount
from serving.parts import Parts
from serving.problems import kind_of_status, problem
from serving.reader import BadSymbol, StoreUnavailable
from serving.routes import contracts as contract_routes
from serving.routes import health, queries, reports, sockets, status, stream_socket, streams, ticks
from tapeline.config import Settings
from tapeline.errors import ReportError
from tapeline.tasks import end_all
from tapeline.tracing import Tracing

VERSION: Final = "0.1.0"
DESCRIPTION: Final = (
    "Market reports that can be trusted: one object, the same bytes wherever it is read, with its "
    "age beside it. On loopback no key is needed; elsewhere a key goes into `Authorization: "
    "Bearer` or `X-API-Key`, never into a URL."
)
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_PUBLIC_TAGS: Final = frozenset({"operations", "contracts"})


def create_api(
    settings: Settings,
    redis: Redis | None = None,
    control: FeedControl | None = None,
    events: MakeEvents | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The application that ``tapeline serve`` runs.

    Args:
        settings: ``redis_url`` names the store unless ``redis`` is given.
        redis: A client to read with; closed by whoever made it.
        control: Has bridges follow more feeds, or less; without it nobody can ask for that.
        events: Where the hub has events from, in place of the Redis Streams.
        tracing: Makes spans; stopped by whoever made it.
    """
    return assembled(Parts.of(settings, redis, control=control, events=events, tracing=tracing))


def assembled(parts: Parts) -> FastAPI:
    """The application on these parts, which are in its ``state.parts`` too."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(parts.history.run(), name="query history"),
            asyncio.create_task(sockets.watch_keys(parts), name="keys of websockets"),
        ]
        await parts.hub.start()
        with contextlib.suppress(ReportError):
            await parts.reader.get("WARM")  # the first to ask should not wait for a connection
        try:
            async with mcp.running():
                yield
        finally:
            await parts.hub.stop()
            await end_all(tasks)
            with contextlib.suppress(Exception):  # Redis may be away; the process must end
                await parts.history.flush()
            await parts.close()

    app = FastAPI(
        title="Tapeline",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; nothing of ours leaves the machine.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.parts = parts
    app.add_middleware(
        Front,
        settings=parts.settings,
        ring=parts.ring,
        history=parts.history,
        metrics=parts.metrics,
        clock=parts.clock,
    )
    _answer_errors(app)
    for routes in (reports, ticks, queries, status, streams, health, sockets, stream_socket):
        app.include_router(routes.router(parts))
    app.include_router(contract_routes.router(app))
    mcp = mount(app, parts)
    dashboard.mount(app, parts.clock)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _answer_errors(app: FastAPI) -> None:
    """Every error is a problem by RFC 9457; those that nobody meant are the front door's."""

    async def bad_symbol(_request: Request, error: Exception) -> Response:
        return problem("malformed-symbol", str(error))

    async def unavailable(_request: Request, error: Exception) -> Response:
        return problem("store-unavailable", str(error), {"Retry-After": "1"})

    async def unreadable(_request: Request, error: Exception) -> Response:
        return problem("unreadable-report", str(error))

    async def invalid(_request: Request, error: Exception) -> Response:
        found = [
            {"name": str(one["loc"][-1]), "message": str(one["msg"])}
            for one in cast("RequestValidationError", error).errors()
        ]
        if [one["name"] for one in found] == ["symbol"]:
            return problem("malformed-symbol", str(BadSymbol("")))
        detail = "; ".join(f"{one['name']}: {one['message']}" for one in found)
        return problem("invalid-parameter", detail, errors=found)

    async def bare(_request: Request, error: Exception) -> Response:
        status, headers = cast("HTTPException", error).status_code, error.headers  # type: ignore[attr-defined]
        return problem(kind_of_status(status), _WORDS.get(status, str(error)), headers)

    app.add_exception_handler(BadSymbol, bad_symbol)
    app.add_exception_handler(StoreUnavailable, unavailable)
    app.add_exception_handler(ReportError, unreadable)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, bare)


_WORDS: Final = {
    404: "there is no such path; /openapi.json lists all",
    405: "the path is there, the method is not; Allow lists those that are",
}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1, made once: the routes, the report's own schema, problems and keys."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (models.Problem, models.InvalidProblem, models.TickAnswer):
        own = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(own.pop("$defs", {}))
        schemas[model.__name__] = own
    report = contracts.components(contracts.REPORT, "Report", "Report")
    assert not report.keys() & schemas.keys(), report.keys() & schemas.keys()
    schemas.update(report)
    for foreign in ("HTTPValidationError", "ValidationError"):  # ours are problems
        schemas.pop(foreign, None)
    document["components"]["securitySchemes"] = _SECURITY
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]  # a text of a path is never invalid
            public = set(operation.get("tags", ())) <= _PUBLIC_TAGS
            operation["security"] = [{}] if public else [{}, {"bearer": []}, {"key": []}]
    app.openapi_schema = document
    return document
