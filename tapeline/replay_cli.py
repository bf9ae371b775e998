"""``tapeline replay``: its options, its progress, its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streams.capture.cli import complain
from tapeline.config import load_settings
from tapeline.errors import ConfigError
from tapeline.logging import configure_logging
from tapeline.replay import Replay, Request, run_replay
from tapeline.replay_parquet import check_parquet
from tapeline.replay_range import parse_edge
from tapeline.replay_redis import check_prefix

EXIT_INTERRUPTED = 130

app = typer.Typer()


@app.command()
def replay(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="Recordings, in the order they were made; the events topic if none.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="First report: ISO time, ms since the epoch, or offset:N."),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Where to stop, itself left out; likewise.")
    ] = None,
    symbols: Annotated[
        str | None,
        typer.Option(help="Comma-separated; all of SYMBOLS, or of the recordings, if not given."),
    ] = None,
    venue: Annotated[str, typer.Option(help="Whose recordings they are.")] = "binance",
    speed: Annotated[
        float, typer.Option(min=0, help="0 is as fast as it goes, 1 as it was, 10 ten times that.")
    ] = 0.0,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes; symbols are dealt out to them.")
    ] = 1,
    out: Annotated[
        Path | None, typer.Option(help="File of the reports: NAME.ndjson or NAME.parquet.")
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="Keep each newest report at PREFIX:report:SYMBOL."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line on stdout.")
    ] = False,
) -> None:
    """Compute the reports of a topic range or of recordings again, on the records' own time.

    The same input gives the same bytes at any speed and with any number of workers: `digest`
    says so. A range of the topic is read from 35 minutes before --from.
    """
    request = Request(
        files=tuple(files or ()),
        venue=venue,
        symbols=tuple(filter(None, (name.strip() for name in (symbols or "").split(",")))),
        begin=parse_edge("--from", since),
        end=parse_edge("--to", to),
        speed=speed,
        workers=workers,
        out=None if out is None else _checked(out),
        prefix="" if redis is None else check_prefix(redis),
    )
    require = ([] if files else ["kafka_url"]) + ([] if redis is None else ["redis_url"])
    settings = load_settings(require=tuple(require), log_level="WARNING")
    configure_logging(settings, "replay")
    errors = Console(stderr=True)
    try:
        with _bar(errors) as bar:
            task = bar.add_task("records" if not files else "frames", total=None)
            result = run_replay(
                settings,
                request,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
                note=lambda text: errors.print(text, highlight=False, soft_wrap=True),
            )
    except KeyboardInterrupt:
        complain(errors, "interrupted: no file was written")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        typer.echo(orjson.dumps(result.as_json()).decode())
    else:
        _print(result)


def _checked(out: Path) -> Path:
    if out.suffix not in (".ndjson", ".parquet"):
        raise ConfigError("--out", str(out), "a name that ends in .ndjson or .parquet")
    if not out.parent.is_dir():
        raise ConfigError("--out", str(out), "a file in a folder that there is")
    if out.suffix == ".parquet":
        check_parquet(out)
    return out


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _print(result: Replay) -> None:
    for name, value in result.as_json().items():
        if name != "symbols":
            typer.echo(f"{name:<20} {orjson.dumps(value).decode()}")
    for symbol, outcome in result.symbols.items():
        typer.echo(f"{symbol:<20} {outcome.records} records, {outcome.reports} reports")
