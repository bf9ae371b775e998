"""Reports: one, several, and which there are."""

from __future__ import annotations

import asyncio
import base64
import binascii
import difflib
import time
from functools import cache
from typing import Annotated, Any, Final

import msgspec
import orjson
from fastapi import APIRouter, Header, Query, Response
from fastapi.exceptions import RequestValidationError

from serving.contracts import report_fields
from serving.models import ReportsAnswer, SymbolsAnswer
from serving.parts import Parts
from serving.reader import SYMBOL_PATTERN, StoredReport, check_symbol
from serving.routes.documented import header, json_bytes, problems
from tapeline.errors import ReportError

SYMBOLS_MAX: Final = 500
LIMIT: Final = 100
YIELD_EVERY: Final = 16
"""Reports decoded before others get their turn."""

_REPORT: Final[dict[str, Any]] = {
    "description": "The report, or null.",
    "content": {
        "application/json": {
            "schema": {"anyOf": [{"$ref": "#/components/schemas/Report"}, {"type": "null"}]}
        }
    },
    "headers": {
        "X-Report-Order": header("`token.seq`: its place in the order of all.", type="string"),
        "X-Report-Age-Ms": header("Since it was written.", type="integer", minimum=0),
        "X-Data-Age-Ms": header("Since its newest data came.", type="integer", minimum=0),
        "X-Report-Stale": header("`true` above 2000 ms, or without data.", type="string"),
        "ETag": header("Of the stored object; its age is no part of it.", type="string"),
    },
}
_encode: Final = msgspec.json.Encoder().encode
_Symbol = Annotated[
    str,
    Query(
        description="Canonical symbol, such as BTCUSDT.",
        json_schema_extra={"pattern": f"^{SYMBOL_PATTERN}$"},
        examples=["BTCUSDT"],
    ),
]


def router(parts: Parts) -> APIRouter:
    """Routes on these parts."""
    routes = APIRouter(tags=["reports"])
    ages = cache(parts.metrics.report_age.labels)

    @routes.get(
        "/get_report",
        responses={
            200: _REPORT,
            304: {"description": "The report is still the one of `If-None-Match`."},
            **problems("malformed-symbol", "unreadable-report", "store-unavailable"),
        },
    )
    async def get_report(
        symbol: _Symbol, if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        """The newest report, byte for byte as written, or null.

        Its age is in the headers: ``X-Report-Age-Ms`` since it was written,
        ``X-Data-Age-Ms`` since its newest data was received, ``X-Report-Stale`` true when that
        is more than 2000 ms. They come with 304, too: an unchanged report grows older.
        """
        answers = parts.answers
        began_ns = time.time_ns() if answers is not None else 0
        report = await parts.reader.get(symbol)
        if report is None:
            return json_bytes(b"null")
        if answers is not None:
            answers.answered(symbol, report.token, report.seq, "http", began_ns)
        headers = _headers(report)
        if report.data_age_ms is not None:
            ages(symbol).observe(report.data_age_ms / 1000)
        if if_none_match is not None and _matches(if_none_match, headers["ETag"]):
            return Response(status_code=304, headers={"Cache-Control": "no-store", **headers})
        return json_bytes(report.payload, headers)

    @routes.get(
        "/reports",
        responses={
            200: {"model": ReportsAnswer},
            **problems("malformed-symbol", "invalid-parameter", "store-unavailable"),
        },
    )
    async def get_reports(
        symbols: Annotated[
            str,
            Query(
                description="Comma-separated; all where empty.",
                json_schema_extra={"pattern": f"^({SYMBOL_PATTERN}(,{SYMBOL_PATTERN})*)?$"},
                examples=["BTCUSDT,ETHUSDT"],
            ),
        ] = "",
        fields: Annotated[
            str,
            Query(
                description="Fields to keep, comma-separated, dotted: `mid_price,depth.imbalance`; "
                "the whole report where empty.",
                json_schema_extra={"pattern": r"^([A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*,?)*$"},
                examples=["mid_price,depth.imbalance"],
            ),
        ] = "",
        limit: Annotated[int, Query(ge=1, le=SYMBOLS_MAX, description="Of a page.")] = LIMIT,
        cursor: Annotated[
            str,
            Query(
                description="`next_cursor` of the page before.",
                json_schema_extra={"pattern": "^[A-Za-z0-9_-]*$"},
            ),
        ] = "",
    ) -> Response:
        """Reports by symbol, whole or some fields of each, with their ages beside them."""
        wanted = _paths(fields)
        names = _names(symbols) if symbols else await parts.directory.names()
        after = _after(cursor)
        names = [name for name in names if name > after]
        page, more = names[:limit], len(names) > limit
        payloads = await parts.directory.payloads(page)
        found: list[bytes] = []
        missing: list[str] = []
        for n, (symbol, payload) in enumerate(zip(page, payloads, strict=True)):
            if n % YIELD_EVERY == YIELD_EVERY - 1:
                await asyncio.sleep(0)
            try:
                report = await parts.reader.settle(symbol, payload) if payload is not None else None
            except ReportError:
                report = None
            if report is None:
                missing.append(symbol)
            else:
                found.append(_entry(symbol, report, wanted, parts.clock.now_ms()))
        tail = {"missing": missing, "next_cursor": _cursor(page[-1]) if more and page else None}
        body = b'{"reports":[' + b",".join(found) + b"]," + orjson.dumps(tail)[1:]
        return json_bytes(body)

    @routes.get(
        "/symbols",
        responses={200: {"model": SymbolsAnswer}, **problems("store-unavailable")},
    )
    async def get_symbols() -> Response:
        """All symbols that Redis knows of, and how each is; at most 250 ms old."""
        rows = await parts.directory.look()
        return json_bytes(_encode({"symbols": rows}))

    return routes


def _headers(report: StoredReport) -> dict[str, str]:
    order = f"{report.token}.{report.seq}"
    headers = {
        "X-Report-Age-Ms": str(report.age_ms),
        "X-Report-Stale": "true" if report.stale else "false",
        "X-Report-Order": order,
        # Weak: packed or not, it is the same object.
        "ETag": f'W/"{order}"',
    }
    if report.data_age_ms is not None:
        headers["X-Data-Age-Ms"] = str(report.data_age_ms)
    return headers


def _matches(if_none_match: str, etag: str) -> bool:
    """By RFC 9110's weak comparison."""
    plain = etag.removeprefix("W/")
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or plain in tags


def _entry(symbol: str, report: StoredReport, wanted: list[list[str]], now_ms: int) -> bytes:
    head = {
        "symbol": symbol,
        "token": report.token,
        "seq": report.seq,
        "read": {
            "now_ms": now_ms,
            "age_ms": report.age_ms,
            "data_age_ms": report.data_age_ms,
            "stale": report.stale,
        },
    }
    body = report.payload
    if wanted:
        body = orjson.dumps(_picked(orjson.loads(body), wanted))
    return orjson.dumps(head)[:-1] + b',"report":' + body + b"}"


def _picked(report: dict[str, Any], wanted: list[list[str]]) -> dict[str, Any]:
    """The wanted fields where they stand; null where there is no such part in this report."""
    found: dict[str, Any] = {}
    for path in wanted:
        value: Any = report
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        into = found
        for name in path[:-1]:
            inner = into.setdefault(name, {})
            if not isinstance(inner, dict):
                break  # the whole of it was asked for, too
            into = inner
        else:
            into[path[-1]] = value
    return found


def _paths(fields: str) -> list[list[str]]:
    """Dotted names, shorter ones first, so that a whole part wins over pieces of it.

    Raises:
        RequestValidationError: A report has no such field.
    """
    paths = []
    for text in filter(None, (one.strip() for one in fields.split(","))):
        path = text.split(".")
        if path[0] not in report_fields():
            near = difflib.get_close_matches(path[0], report_fields(), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise invalid("fields", f"a report has no field {path[0][:64]!r}{hint}")
        paths.append(path)
    return sorted(paths, key=len)


def _names(symbols: str) -> list[str]:
    """Symbols of a list, each once, by name.

    Raises:
        BadSymbol: One can't be a symbol.
        RequestValidationError: They are too many.
    """
    names = sorted({name.strip(" ") for name in symbols.split(",") if name.strip(" ")})
    if len(names) > SYMBOLS_MAX:
        raise invalid("symbols", f"{len(names)} of them; at most {SYMBOLS_MAX} at once")
    for name in names:
        check_symbol(name)
    return names


def _cursor(symbol: str) -> str:
    return base64.urlsafe_b64encode(symbol.encode()).decode().rstrip("=")


def _after(cursor: str) -> str:
    if not cursor:
        return ""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        check_symbol(text)
    except (binascii.Error, ValueError, ReportError):
        raise invalid("cursor", "it is none of this call") from None
    return text


def invalid(name: str, message: str) -> RequestValidationError:
    """A parameter that the types alone can't refuse."""
    return RequestValidationError([{"loc": ("query", name), "msg": message, "type": "value"}])
