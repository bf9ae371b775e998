"""``tapeline compare``: its options and what it prints."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from streams.symbols import is_symbol
from tapeline.compare.fields import Rules, parse_tolerance
from tapeline.compare.files import ENDINGS, compare_files
from tapeline.compare.live import LiveComparison
from tapeline.compare.outcome import Comparison
from tapeline.config import Settings, load_settings
from tapeline.config_beside import checked_suffix
from tapeline.errors import ConfigError, ReportError
from tapeline.logging import configure_logging
from tapeline.replay_parquet import check_parquet

EXIT_UNHEALTHY: Final = 3
EXIT_INTERRUPTED: Final = 130
LIVE_PAIRS: Final = 10
FILE_PAIRS: Final = 1
LIVE: Final = "live"

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

app = typer.Typer()


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="live, live:SUFFIX, or a replay's file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise; two live ones, or two files.")],
    symbols: Annotated[
        str | None, typer.Option(help="Comma-separated; all that are found if not given.")
    ] = None,
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long to listen: 60s, 5m. Live only.")
    ] = "60s",
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=ABS|REL%",
            help="How far numbers may lie apart: mid_price=0.01, flow=2%. Again and again.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="Not compared: health, custom.*. Again and again."),
    ] = None,
    near: Annotated[
        str,
        typer.Option(metavar="TIME", help="Also pair reports of other records, so far apart."),
    ] = "0",
    min_pairs: Annotated[
        int | None, typer.Option(min=1, help="Of each symbol; 10 live, 1 of files.")
    ] = None,
    fail_on: Annotated[int, typer.Option(min=1, help="Status 1 from so many fields on.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line on stdout.")
    ] = False,
) -> None:
    """Compare the reports of two systems, or of two replays, field by field.

    Exit status 0 where no field differs by more than it may, 1 where one does, 2 for what can't be
    right, 3 where too few reports belong together, or Redis does not answer.
    """
    sources = _source("A", a), _source("B", b)
    names = tuple(filter(None, (name.strip() for name in (symbols or "").split(","))))
    for name in names:
        if not is_symbol(name):
            raise ConfigError("--symbols", name, "canonical symbols such as BTCUSDT")
    suffixes = [source for source in sources if isinstance(source, str)]
    if len(suffixes) == 1:
        raise ConfigError(
            "B", b, "two live systems, or two files; `tapeline audit` compares live reports with "
            "what the topic's records give",
        )  # fmt: skip
    if sources[0] == sources[1]:
        raise ConfigError("B", b, "another one than A")
    seconds = _seconds("--for", for_)
    near_ms = round(_seconds("--near", near, zero=True) * 1000)
    if near_ms and not suffixes:
        raise ConfigError("--near", near, "0 with files: their reports are of the same moments")
    comparison = Comparison(
        Rules(
            [parse_tolerance(each) for each in tolerance or ()],
            ignore or (),
            same_moment=not suffixes,
        ),
        min_pairs=min_pairs or (LIVE_PAIRS if suffixes else FILE_PAIRS),
        fail_on=fail_on,
        symbols=names,
        in_parts=bool(suffixes),
    )
    settings = load_settings(require=("redis_url",) if suffixes else (), log_level="WARNING")
    configure_logging(settings, "compare")
    began_s = time.monotonic()
    try:
        if suffixes:
            _run_live(settings, (suffixes[0], suffixes[1]), names, comparison, seconds, near_ms)
        else:
            _run_files(sources, names, comparison)
    except ReportError as error:
        typer.echo(f"ERROR: {error}", err=True)
        raise typer.Exit(EXIT_UNHEALTHY) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    body = {
        "a": a,
        "b": b,
        "mode": "live" if suffixes else "files",
        "seconds": round(time.monotonic() - began_s, 3),
        **comparison.as_json(),
    }
    if as_json:
        typer.echo(orjson.dumps(body).decode())
    else:
        _print(body)
    raise typer.Exit(int(comparison.verdict))


def _source(name: str, text: str) -> str | Path:
    """A live system's suffix, or a file.

    Raises:
        ConfigError: Neither.
    """
    kind, _, suffix = text.partition(":")
    if kind == LIVE and not Path(text).exists():
        try:
            return checked_suffix(suffix)
        except ValueError:
            pass
    path = Path(text)
    wanted = f"{LIVE}, {LIVE}:SUFFIX, or a file NAME{' or NAME'.join(ENDINGS)}"
    if path.suffix not in ENDINGS:
        raise ConfigError(name, text, wanted)
    if not path.is_file():
        raise ConfigError(name, text, f"a file that there is, or {LIVE}, {LIVE}:SUFFIX")
    if path.suffix == ".parquet":
        check_parquet(path)
    return path


def _seconds(name: str, text: str, *, zero: bool = False) -> float:
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _UNITS_S[found[2] or "s"] if found else -1.0
    if seconds < 0 or not (seconds or zero):
        raise ConfigError(name, text, "a time such as 60s, 5m or 250ms")
    return seconds


def _run_live(
    settings: Settings,
    suffixes: tuple[str, str],
    symbols: tuple[str, ...],
    comparison: Comparison,
    seconds: float,
    near_ms: int,
) -> None:
    live = LiveComparison(settings, suffixes, symbols, comparison, near_ms)
    with _bar() as bar:
        task = bar.add_task("", total=None)

        def progress(gone_s: float, pairs: int) -> None:
            bar.update(task, description=f"{gone_s:.0f} of {seconds:g} s, {pairs:,} pairs")

        asyncio.run(live.run(seconds, progress))


def _run_files(
    sources: tuple[str | Path, ...], symbols: tuple[str, ...], comparison: Comparison
) -> None:
    paths = [source for source in sources if isinstance(source, Path)]
    with _bar() as bar:
        task = bar.add_task("", total=None)
        compare_files(
            paths[0],
            paths[1],
            symbols,
            comparison,
            lambda read: bar.update(task, description=f"{read:,} reports"),
        )


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True
    )


def _print(body: dict[str, Any]) -> None:
    for name, one in body["symbols"].items():
        alone, reports = one["unpaired"], one["reports"]
        typer.echo(
            f"{name:<12} {one['pairs'] + one['near_pairs']} pairs of {reports['a']} and "
            f"{reports['b']} reports ({one['same_moment_pairs']} of one moment, "
            f"{one['near_pairs']} near; {one['slow_pairs']} of slow parts); "
            f"alone: {alone['a']} and {alone['b']}"
        )
    for one in body["fields"]:
        example = one["example"]
        beyond = one["differing"] + one["drifted"]
        typer.echo(
            f"{one['verdict']:<9}  {one['field']}: {beyond} of {one['compared']} pairs"
            f"{_largest(one)}; {example['symbol']} offset {example['offset']} "
            f"{example['field']}: {_said(example['a'])} and {_said(example['b'])}"
        )
    if body["too_few_pairs"]:
        typer.echo(
            f"too few pairs ({body['min_pairs']} wanted): {', '.join(body['too_few_pairs'])}"
        )
    verdict = body["verdict"].replace("_", " ")
    typer.echo(f"{verdict}: {body['different']} fields differ in {body['pairs']} pairs")


def _largest(one: dict[str, Any]) -> str:
    if one["max_abs"] is None:
        return ""
    return f", at most {one['max_abs']:.6g} ({one['max_rel']:.2%})"


def _said(value: Any) -> str:
    return orjson.dumps(value).decode()
