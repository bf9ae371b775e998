"""``tapeline doctor``: its options and what it prints."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.text import Text

from tapeline.config import Settings, load_settings, mask
from tapeline.doctor import broker, machine, store, venues
from tapeline.doctor.model import Check, Result, Status, as_json, chosen, run, worst

EXIT_UNHEALTHY: Final = 3
EXIT_INTERRUPTED: Final = 130

_STYLES: Final = {
    Status.OK: "green",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
    Status.SKIP: "dim",
}

app = typer.Typer()


@app.command()
def doctor(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="This check, or group of checks, alone. Again and again."
        ),
    ] = None,
    disk: Annotated[
        list[Path] | None,
        typer.Option(help="Another folder to look at, such as Kafka's data. Again and again."),
    ] = None,
    as_json_: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line on stdout.")
    ] = False,
) -> None:
    """Look whether everything is here that bridge, worker and reader need, and how to mend it.

    Changes nothing. Exit status 0, with warnings too; 2 for a wrong setting; 3 where a check fails.
    """
    settings = load_settings()
    # Clients say in their own words what the checks say in ours.
    logging.disable(logging.CRITICAL)
    checks = chosen(all_checks(settings, disk or ()), only or ())
    try:
        results = asyncio.run(run(checks))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json_:
        typer.echo(orjson.dumps(as_json(results)).decode())
    else:
        _print(results)
    raise typer.Exit(EXIT_UNHEALTHY if worst(results) is Status.FAIL else 0)


def all_checks(settings: Settings, disks: Sequence[Path] = ()) -> list[Check]:
    """Every check, in the order in which they are shown."""
    return [
        *machine.checks(settings, disks),
        *broker.checks(settings),
        *store.checks(settings),
        *venues.checks(settings),
    ]


def _print(results: Sequence[Result]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(result.name) for result in results)
    for result in results:
        finding = result.finding
        line = Text(f"{finding.status.value:<4} ", style=_STYLES[finding.status])
        line.append(f"{result.name:<{width}}  {mask(finding.found)}", style="default")
        console.print(line)
        if finding.status in (Status.FAIL, Status.WARN):
            console.print(Text(f"{'':<{width + 7}}expected: {mask(finding.expected)}"))
            console.print(Text(f"{'':<{width + 7}}fix: {mask(finding.fix)}"))
    counts = as_json(results)["counts"]
    console.print(Text(", ".join(f"{count} {status}" for status, count in counts.items() if count)))
