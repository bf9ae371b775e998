"""Where the dashboard's pages and files are, and where pages tell of their errors."""

from __future__ import annotations

import re
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from serving.dashboard.assets import PAGE_HEADERS, PREFIX, Asset, Assets
from serving.dashboard.page_errors import BODY_BYTES_MAX, Allowance, BadPageError, read
from serving.problems import problem
from serving.reader import SYMBOL_PATTERN
from tapeline.clock import Clock, SystemClock
from tapeline.logging import get_logger

PAGES: Final = ("/", "/status-ui", "/topics", "/connect")
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_SYMBOL: Final = re.compile(SYMBOL_PATTERN, re.ASCII)

log = get_logger("dashboard")


def mount(app: FastAPI, clock: Clock | None = None, assets: Assets | None = None) -> None:
    """Add pages, files and ``POST /errors``.

    Args:
        app: What they are added to.
        clock: What the rate of errors is told by.
        assets: Other files than those beside this module.
    """
    files = assets or Assets()
    time = clock or SystemClock()
    allowance = Allowance()

    async def page(request: Request) -> Response:
        symbol = request.path_params.get("symbol")
        known = symbol is None or _SYMBOL.fullmatch(symbol) is not None
        tag = f'"{files.digest}"'
        headers = {**PAGE_HEADERS, "Cache-Control": "no-cache", "ETag": tag}
        if known and tag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return _answer(files.page, request, headers, 200 if known else 404)

    async def asset(digest: str, name: str, request: Request) -> Response:
        found = files.get(digest, name)
        if found is None:
            return problem("not-found", "this release of the dashboard has no such file")
        return _answer(found, request, {"Cache-Control": _FOR_EVER})

    async def errors(request: Request) -> Response:
        if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            return problem("malformed-request", "send application/json")
        if not allowance.take(time.monotonic_ms()):
            return problem("rate-limited", "this error was not taken", {"Retry-After": "2"})
        try:
            told = read(await _bounded(request))
        except (BadPageError, ClientDisconnect) as error:
            return problem("invalid-parameter", str(error))
        log.warning("page.error", **told, refused_before=allowance.refused)
        allowance.refused = 0
        return Response(status_code=204)

    for path in (*PAGES, "/s/{symbol}"):
        app.add_api_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route(
        f"{PREFIX}/{{digest}}/{{name:path}}",
        asset,
        methods=["GET", "HEAD"],
        include_in_schema=False,
    )
    app.add_api_route("/errors", errors, methods=["POST"], include_in_schema=False)


async def _bounded(request: Request) -> bytes:
    """The body, as far as it is looked at."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            break
    return body


def _answer(asset: Asset, request: Request, headers: dict[str, str], status: int = 200) -> Response:
    headers = {**headers, "Vary": "Accept-Encoding"}
    # Weighed by no client that runs this: one that names gzip at all takes it.
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(asset.gzipped, status, headers, asset.media_type)
    return Response(asset.body, status, headers, asset.media_type)
