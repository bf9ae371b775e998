"""Reports on a terminal: ``tapeline report``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson

from lua import Keys
from serving.reader import ReportReader, StoredReport, StoreUnavailable, reader_client
from tapeline.config import Settings, allowed
from tapeline.errors import ConfigError

RETRY_S: Final = 0.5
PATIENCE_S: Final = 2.0
"""For an answer: a person at a terminal has more of it than a trading bot."""

UNHEALTHY: Final = 3


def one_line(report: StoredReport) -> str:
    """What matters of a report, in one line."""
    body = orjson.loads(report.payload)
    age = "no data" if report.data_age_ms is None else f"age {report.data_age_ms} ms"
    parts = [
        body["symbol"],
        f"mid {body['mid_price']}" if body["mid_price"] is not None else "no book",
        f"spread {body['spread_bps']:.2f} bps" if body["spread_bps"] is not None else "",
        f"last {body['last_price']}" if body["last_price"] is not None else "",
        f"flow {body['flow']['net_flow']:+.4g} in 30 s",
        f"health {body['health']['score']:.0f}",
        f"gaps {body['gaps']['count']}",
        age,
        "STALE" if report.stale else "",
        "synthetic" if body["synthetic"] else "",
    ]
    return "  ".join(part for part in parts if part)


def with_age(report: StoredReport) -> dict[str, Any]:
    """The report object untouched, its reading beside it."""
    return {
        "report": orjson.loads(report.payload),
        "read": {
            "age_ms": report.age_ms,
            "data_age_ms": report.data_age_ms,
            "stale": report.stale,
        },
    }


async def run_report(settings: Settings, symbol: str, *, watch: bool, as_json: bool) -> int:
    """Print one report, or each new one; the exit status is 3 when there is none, or a stale one.

    Raises:
        BadSymbol: ``symbol`` can't be a symbol.
        ConfigError: Neither is a Redis named nor does a reader answer on this machine.
        StoreUnavailable: Redis did not answer; while watching it is waited for.
        ReportError: What is stored is no report.
    """
    async with _reader(settings) as reader:
        if watch:
            await _watch(reader, symbol, as_json=as_json)
        report = await reader.get(symbol)
        if report is None:
            sys.stderr.write(f"no report of {symbol}\n")
            if as_json:
                sys.stdout.write("null\n")
            return UNHEALTHY
        _print(report, as_json=as_json, whole=True)
        return UNHEALTHY if report.stale else 0


@asynccontextmanager
async def _reader(settings: Settings) -> AsyncGenerator[ReportReader, None]:
    """Of Redis; where none is named, of the `tapeline serve` on this machine, such as dev's."""
    if settings.redis_url:
        keys = Keys.of(settings)
        async with reader_client(settings.redis_url) as redis:
            yield ReportReader(redis, keys, timeout_s=PATIENCE_S)
        return
    import aiohttp  # noqa: PLC0415 - not needed with a Redis, and slow to import

    url = f"http://127.0.0.1:{settings.serve_port}"
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as http:

        async def fetch(symbol: str) -> bytes | None:
            try:
                async with http.get("/get_report", params={"symbol": symbol}) as response:
                    body = await response.read()
            except (aiohttp.ClientError, OSError) as error:
                raise StoreUnavailable(f"{url} did not answer: {error!r}") from None
            if not response.ok:
                raise StoreUnavailable(f"{url} answered {response.status}: {body.decode()}")
            return None if body == b"null" else body

        try:
            async with http.get("/health"):
                pass
        except (aiohttp.ClientError, OSError):
            raise ConfigError(
                "REDIS_URL",
                None,
                f"{allowed(Settings.model_fields['redis_url'])}, or a `tapeline serve` on {url}",
            ) from None
        yield ReportReader(fetch)


async def _watch(reader: ReportReader, symbol: str, *, as_json: bool) -> None:
    """Until cancelled; that there is no report, or no Redis, is said once and waited out."""
    said = ""
    while True:
        try:
            if not said and await reader.get(symbol) is None:
                said = f"no report of {symbol} yet"
                sys.stderr.write(f"{said}\n")
            async for report in reader.watch(symbol):
                said = ""
                _print(report, as_json=as_json)
        except StoreUnavailable as error:
            if said != str(error):
                said = str(error)
                sys.stderr.write(f"{said}; trying again\n")
            await asyncio.sleep(RETRY_S)


def _print(report: StoredReport, *, as_json: bool, whole: bool = False) -> None:
    if as_json:
        text = orjson.dumps(with_age(report)).decode()
    elif whole:
        body = orjson.dumps(orjson.loads(report.payload), option=orjson.OPT_INDENT_2).decode()
        text = f"{body}\n{one_line(report)}"
    else:
        text = one_line(report)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
