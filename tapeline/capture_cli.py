"""``tapeline capture``: checking recordings, and playing them through the whole path."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streams.capture.cli import app
from streams.capture.dialects import dialect_of
from streams.capture.formats import CaptureError
from streams.capture.player import listings_of, survey
from tapeline.capture_run import CaptureRun, run_capture
from tapeline.config import load_settings
from tapeline.logging import configure_logging

__all__ = ["app"]


@app.command()
def run(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="In the order they were recorded: one continuous tape.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ],
    venue: Annotated[str, typer.Option(help="Whose recording it is.")] = "binance",
    symbol: Annotated[
        list[str] | None,
        typer.Option(help="The venue's name of a symbol; repeat it. All on the tape if not given."),
    ] = None,
    kill_worker_at: Annotated[
        int | None,
        typer.Option(min=1, help="SIGKILL the worker at this frame, and start it again."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line on stdout.")
    ] = False,
) -> None:
    """Play recordings through bridge, a real Kafka, a worker and Redis, and check what comes out.

    KAFKA_URL and REDIS_URL name them; without, a local Apache Kafka (Java and Maven) and an
    embedded store are used. Exit status 1 where something was lost or wrong, or where the last
    report is not the one that the topic's records give.
    """
    configure_logging(load_settings(log_level="WARNING"), "capture")
    errors = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
    )
    try:
        dialect = dialect_of(venue)
        found = survey(dialect, files)
        with bar:
            task = bar.add_task("frames", total=found.frames)
            result = asyncio.run(
                run_capture(
                    venue,
                    files,
                    listings=listings_of(dialect, symbol or ()),
                    kill_worker_at=kill_worker_at,
                    on_frames=lambda frames: bar.update(task, completed=frames),
                    on_stage=lambda text: bar.update(task, description=text),
                )
            )
    except CaptureError as error:
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    for problem in result.problems:
        errors.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
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
