"""``tapeline audit``: its options and what it prints."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
import typer
from redis.asyncio import Redis

from streams.symbols import is_symbol
from tapeline.audit import Audit, Auditor, NoReport, Verdict, worst
from tapeline.config import Settings, load_settings
from tapeline.errors import ConfigError
from tapeline.logging import configure_logging

EXIT_UNHEALTHY = 3
EXIT_INTERRUPTED = 130
SHOWN_MAX = 160

app = typer.Typer()


@app.command()
def audit(
    symbol: Annotated[str, typer.Argument(help="Canonical symbol, such as BTCUSDT")],
    times: Annotated[
        int, typer.Option(min=1, help="Audit this many reports, each a later one.")
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line on stdout.")
    ] = False,
) -> None:
    """Compute SYMBOL's report once more from the topic, and compare it with the one in Redis.

    Exit status 0 where every field is equal (writer, seq and updatedAt aside), 1 where one is not,
    2 where the writer runs another engine version, 3 where the topic no longer holds enough. The
    settings of the analytics must be those of the worker.
    """
    if not is_symbol(symbol):
        raise ConfigError("SYMBOL", symbol, "a canonical symbol such as BTCUSDT")
    settings = load_settings(require=("kafka_url", "redis_url"), log_level="WARNING")
    configure_logging(settings, "audit")
    try:
        audits = asyncio.run(_run(settings, symbol, times, quiet=as_json))
    except NoReport as error:
        typer.echo(f"ERROR: {error}", err=True)
        raise typer.Exit(EXIT_UNHEALTHY) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        typer.echo(orjson.dumps(summary(symbol, audits)).decode())
    raise typer.Exit(int(worst(audits)))


async def _run(settings: Settings, symbol: str, times: int, *, quiet: bool) -> list[Audit]:
    async with Redis.from_url(settings.redis_url) as redis:
        auditor = Auditor(settings, symbol, redis)
        return await auditor.run(times, lambda one: None if quiet else _print(symbol, one))


def summary(symbol: str, audits: list[Audit]) -> dict[str, Any]:
    """For ``--json``."""
    counts = {
        verdict.name.lower(): sum(one.verdict is verdict for one in audits) for verdict in Verdict
    }
    return {
        "symbol": symbol,
        "verdict": worst(audits).name.lower(),
        **counts,
        "audits": [one.as_json() for one in audits],
    }


def _print(symbol: str, one: Audit) -> None:
    what = one.reason or f"{one.records:,} records"
    verdict = one.verdict.name.lower().replace("_", " ")
    typer.echo(f"{symbol} token {one.token} seq {one.seq}: {verdict} ({what}, {one.seconds:.2f} s)")
    for path, published, recomputed in one.differences:
        typer.echo(f"  {path}: published {_shown(published)}, recomputed {_shown(recomputed)}")


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."
