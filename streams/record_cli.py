"""``tapeline record``: its options and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streams.escaping import json_line
from streams.record import MEBIBYTE, run_record
from streams.symbols import parse_symbols
from tapeline.config import load_settings
from tapeline.logging import configure_logging

app = typer.Typer()


@app.command()
def record(
    symbols: Annotated[
        list[str],
        typer.Argument(metavar="VENUE:SYMBOL...", help="As in SYMBOLS, such as binance:BTCUSDT."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the files; made if it is not there.")] = Path(
        "."
    ),
    rotate_mb: Annotated[
        int | None, typer.Option(min=1, max=1_048_576, help="A file's size, in MiB; 256.")
    ] = None,
    rotate_s: Annotated[
        int | None, typer.Option(min=1, max=604_800, help="A file's age, in seconds; 3600.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Stop after this long; 0 is until SIGTERM or Ctrl-C.")
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line on stdout.")
    ] = False,
) -> None:
    """Record what venues send, as capture files with a gap report beside each.

    `tapeline capture check` reads them, in order, as one tape. Exit status 1 where something that
    came is not on disk, 2 where no venue lists any of the symbols.
    """
    import uvloop  # noqa: PLC0415

    listings = parse_symbols(",".join(symbols), name="VENUE:SYMBOL")
    given: dict[str, Any] = {"record_rotate_mb": rotate_mb, "record_rotate_s": rotate_s}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    configure_logging(settings, "record")
    recorded = uvloop.run(run_record(settings, listings, out, seconds=seconds))
    if as_json:
        typer.echo(json_line({"out": str(out), "venues": recorded.venues}))
    else:
        for venue, told in recorded.venues.items():
            _print(venue, told)
    raise typer.Exit(recorded.status)


def _print(venue: str, told: dict[str, Any]) -> None:
    typer.echo(
        f"{venue}: {told['recorded']:,} of {told['frames']:,} frames in {len(told['files'])} files, "
        f"{told['gaps']:,} gaps, {sum(told['reconnects'].values()):,} reconnects, "
        f"{told['dropped']:,} not recorded"
    )
    for file in told["files"]:
        size = f"{file['file_bytes'] / MEBIBYTE:,.1f} MiB"
        typer.echo(f"  {file['file']}  {file['frames']:>10,} frames  {size:>12}")
