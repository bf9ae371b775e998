"""``tapeline capture``: what to do with recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streams.capture.check import CheckResult
from streams.capture.check import check as check_capture
from streams.capture.documents import Decimals
from streams.capture.formats import CaptureError
from tapeline.errors import ConfigError

app = typer.Typer(help="Check recordings of what a venue sent.", no_args_is_help=True)

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="In the order they were recorded: one continuous tape.",
        exists=True,
        dir_okay=False,
        readable=True,
    ),
]
Symbols = Annotated[
    list[str] | None,
    typer.Option(help="The venue's name of a symbol; repeat it. All on the tape if not given."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line on stdout.")]


def frames_bar(console: Console) -> Progress:
    """A progress bar over a tape's frames, gone when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def complain(console: Console, problem: object) -> None:
    """One line in red, as it is."""
    console.print(str(problem), style="red", markup=False, highlight=False, soft_wrap=True)


def decimals_of(text: str | None) -> Decimals | None:
    """Raises ConfigError for what is not two numbers up to 18."""
    if text is None:
        return None
    px, slash, sz = text.partition("/")
    if not slash or not all(n.isdecimal() and n.isascii() and int(n) <= 18 for n in (px, sz)):
        raise ConfigError("--decimals", text, "PX/SZ, two numbers from 0 to 18, such as 1/8")
    return Decimals(int(px), int(sz))


@app.callback()
def capture() -> None:
    """Check recordings of what a venue sent."""


@app.command()
def check(
    files: Files,
    venue: Annotated[str, typer.Option(help="Whose recording it is, such as binance.")],
    symbol: Symbols = None,
    decimals: Annotated[
        str | None,
        typer.Option(
            metavar="PX/SZ",
            help="Decimals of prices and sizes, such as 1/8, of a Kraken recording whose numbers a "
            "JSON library has printed anew.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play recordings through the venue's assembler and count.

    Exit status 1 where a book has a gap or is crossed, a frame is refused, or a book is not what
    the venue's own checksum or quote says.
    """
    errors = Console(stderr=True)
    with frames_bar(errors) as bar:
        task = bar.add_task("frames", total=None)
        try:
            result = check_capture(
                venue,
                files,
                symbols=symbol or (),
                decimals=decimals_of(decimals),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except ConfigError as exc:
            raise typer.BadParameter(str(exc)) from exc
        except CaptureError as exc:
            complain(errors, exc)
            raise typer.Exit(1) from exc
    for problem in result.problems:
        complain(errors, problem)
    unbridged = [name for name in result.symbols if name not in result.bridged]
    if unbridged:
        why = "no snapshot on the tape was continued by a diff"
        errors.print(f"no book of {', '.join(unbridged)}: {why}", style="yellow", soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    else:
        Console().print(_table(result))
    if not result.ok:
        raise typer.Exit(1)


def _table(result: CheckResult) -> Table:
    counts = result.counts
    tops = f"{counts.tops_equal:,} of {counts.tops_compared:,}"
    books = f"{len(result.bridged)} of {len(result.symbols)}"
    table = Table(title=f"{result.venue}: {'ok' if result.ok else 'NOT OK'}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("symbols", ", ".join(result.symbols))
    table.add_row("seconds", f"{result.seconds:,.1f}")
    table.add_row("frames", f"{result.frames:,}")
    for kind, count in result.wire.items():
        table.add_row(f"  {kind}", f"{count:,}")
    table.add_section()
    for kind, count in sorted(counts.events.items()):
        table.add_row(kind, f"{count:,}")
    table.add_section()
    table.add_row("books bridged", books)
    table.add_row("diffs the snapshot covers", f"{counts.stale:,}")
    table.add_row("gaps", f"{result.gaps:,}")
    if counts.sequence_first is not None:
        table.add_row("numbers", f"{counts.sequence_first:,} to {counts.sequence_last or 0:,}")
    if counts.checksums_ok or counts.checksums_failed:
        checked = counts.checksums_ok + counts.checksums_failed
        table.add_row("checksums equal", f"{counts.checksums_ok:,} of {checked:,}")
    table.add_row("books distrusted", f"{counts.resyncs:,}")
    table.add_row("crossed books", f"{counts.crossed:,}")
    table.add_row("tops equal to quotes", tops)
    table.add_row(
        "trades twice / missing", f"{counts.trade_duplicates:,} / {counts.trades_missing:,}"
    )
    table.add_row("errors", f"{result.errors:,}")
    return table
