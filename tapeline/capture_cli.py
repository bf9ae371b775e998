"""``tapeline capture``: checking recordings, and playing them through the whole path."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
import typer
from rich.console import Console

from streams.capture.cli import AsJson, Files, Symbols, app, complain, frames_bar
from streams.capture.dialects import dialect_of
from streams.capture.formats import CaptureError
from streams.capture.player import listings_of
from tapeline.capture_run import CaptureRun, run_capture
from tapeline.config import load_settings
from tapeline.logging import configure_logging

__all__ = ["app"]


@app.command()
def run(
    files: Files,
    venue: Annotated[str, typer.Option(help="Whose recording it is.")] = "binance",
    symbol: Symbols = None,
    kill_worker_at: Annotated[
        int | None,
        typer.Option(min=1, help="SIGKILL the worker at this frame, and start it again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play recordings through bridge, a real Kafka, a worker and Redis, and check what comes out.

    KAFKA_URL and REDIS_URL name them; without, a local Apache Kafka (Java and Maven) and an
    embedded store are used. Exit status 1 where something was lost or wrong, or where the last
    report is not the one that the topic's records give.
    """
    configure_logging(load_settings(log_level="WARNING"), "capture")
    errors = Console(stderr=True)
    try:
        listings = listings_of(dialect_of(venue), symbol or ())
        with frames_bar(errors) as bar:
            task = bar.add_task("frames", total=None)
            result = asyncio.run(
                run_capture(
                    venue,
                    files,
                    listings=listings,
                    kill_worker_at=kill_worker_at,
                    on_frames=lambda done, total: bar.update(task, completed=done, total=total),
                    on_stage=lambda text: bar.update(task, description=text),
                )
            )
    except CaptureError as error:
        complain(errors, error)
        raise typer.Exit(1) from error
    for problem in result.problems:
        complain(errors, problem)
    if as_json:
        typer.echo(orjson.dumps(result.as_json()).decode())
    else:
        _print(result)
    if not result.ok:
        raise typer.Exit(1)


def _print(result: CaptureRun) -> None:
    body = result.as_json()
    body.pop("report")
    body.pop("reports", None)
    for name, value in body.items():
        typer.echo(f"{name:<32} {orjson.dumps(value).decode()}")
