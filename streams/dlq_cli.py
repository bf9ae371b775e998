"""``tapeline dlq``: what could not be parsed or applied, and trying it again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from streams.dead_letter_topic import Letters, Progress, letters_of, reenter
from streams.dead_letters import Letter, Position, letters_topic
from streams.escaping import escaped, json_line
from streams.reentry import Decision, decide
from streams.symbols import Listing, parse_symbols
from tapeline.config import Settings, load_settings
from tapeline.errors import ConfigError
from tapeline.logging import configure_logging

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130

MESSAGE_SHOWN: Final = 100
TOLD_MAX: Final = 1_000
"""Letters that a retry of all tells of one by one in its JSON."""

TOLD_ON_SCREEN: Final = 50

app = typer.Typer(help="Look at dead letters, and try them again.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line on stdout.")]
TopicOption = Annotated[
    str | None,
    typer.Option("--topic", help="Whose letters, such as orders.requests.v1; the events topic's."),
]


@app.callback()
def dlq() -> None:
    """Look at dead letters, and try them again."""


@app.command("list")
def list_(
    topic: TopicOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest dead letters, the newest last.

    Exit status 1 where no broker answers or it has no such topic.
    """
    settings = _settings()
    name = letters_topic(topic or settings.suffixed(settings.events_topic))

    async def work(letters: Letters, progress: Progress) -> tuple[int, list[Letter]]:
        return letters.total, await letters.newest(limit, progress)

    total, found = _run(settings, name, work)
    if as_json:
        body = {"topic": name, "total": total, "letters": [each.as_json() for each in found]}
        typer.echo(json_line(body))
        return
    for letter in found:
        typer.echo(_line(letter))
    what = f"{len(found):,} of {total:,}" if total else "no"
    typer.echo(f"{what} dead letters in {escaped(name)}", err=True)


@app.command()
def show(
    position: Annotated[str, typer.Argument(help="PARTITION@OFFSET, as `list` prints it.")],
    topic: TopicOption = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter whole; what is not printable is escaped.

    Exit status 1 where there is none at POSITION, or no broker answers.
    """
    settings = _settings()
    wanted = Position.parse(position)
    name = letters_topic(topic or settings.suffixed(settings.events_topic))

    async def work(letters: Letters, _: Progress) -> Letter:
        return await letters.at(wanted)

    letter = _run(settings, name, work)
    if as_json:
        typer.echo(json_line(letter.as_json(whole=True)))
        return
    rows = {"position": str(letter.position), "written": _time(letter.ts_ms), **letter.headers}
    for header, text in rows.items():
        typer.echo(f"{escaped(header):<12} {escaped(text)}")
    typer.echo(f"{'key':<12} {'(none)' if letter.key is None else escaped(letter.key)}")
    kept = "none" if letter.value is None else f"{len(letter.value):,} bytes"
    if letter.truncated is not None:
        kept += f", the beginning of {letter.truncated:,}"
    typer.echo(f"{'value':<12} {kept}")
    if letter.value is not None:
        typer.echo(escaped(letter.value))


@app.command()
def retry(
    positions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[POSITION...]", help="As `list` prints them."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    topic: TopicOption = None,
    as_json: AsJson = False,
) -> None:
    """Parse dead letters anew; trades go to the events topic, if it does not have them.

    They are kept for those who read trades by `event_id`; their place in the feed's sequence is
    over, so engines pass over them. All else is refused, with the reason. Exit status 1 where one
    of the POSITIONs did not re-enter, or no broker answers.
    """
    if everything is bool(positions):
        raise ConfigError("POSITION", None, "one or more, or else --all")
    settings = _settings()
    if settings.report_suffix:
        wanted_suffix = "empty: what re-enters the events topic is read by both systems"
        raise ConfigError("NT_REPORT_SUFFIX", settings.report_suffix, wanted_suffix)
    wanted = [*dict.fromkeys(Position.parse(text) for text in positions or ())]
    name = letters_topic(topic or settings.events_topic)
    listings = _listings(settings)

    async def work(letters: Letters, progress: Progress) -> tuple[list[Decision], int]:
        decisions = [
            decide(await letters.at(position), settings.events_topic, listings)
            for position in wanted
        ]
        if everything:
            decisions += [
                _lean(decide(letter, settings.events_topic, listings))
                async for letter in letters.all(progress)
            ]
        written = await reenter(
            settings,
            settings.events_topic,
            decisions,
            dry_run=dry_run,
            progress=progress,
        )
        return written.decisions, written.trades

    decisions, trades = _run(settings, name, work)
    outcomes: Counter[str] = Counter(decision.outcome for decision in decisions)
    if as_json:
        typer.echo(json_line(_retried(name, decisions, outcomes, trades, dry_run=dry_run)))
    else:
        _print(decisions, outcomes, trades, dry_run=dry_run)
    refused = outcomes["superseded"] + outcomes["unreadable"]
    if refused and not everything:
        raise typer.Exit(EXIT_FAILURE)


def _settings() -> Settings:
    settings = load_settings(require=("kafka_url",), log_level="WARNING")
    configure_logging(settings, "dlq")
    return settings


def _listings(settings: Settings) -> tuple[Listing, ...]:
    """What is followed here; a frame's own symbol will do where that is not said."""
    with suppress(ConfigError):
        return parse_symbols(settings.symbols, quote_mixed=settings.quote_mixed)
    return ()


Result = TypeVar("Result")


def _run(
    settings: Settings, topic: str, work: Callable[[Letters, Progress], Awaitable[Result]]
) -> Result:
    """Do something with a topic's letters, under a bar that comes where it takes long."""
    console = Console(stderr=True)
    bar = ProgressBar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("letters", total=None)

        async def session() -> Result:
            async with letters_of(settings, topic) as letters:
                return await work(
                    letters,
                    lambda what, done, total: bar.update(
                        task, description=what, completed=done, total=total
                    ),
                )

        try:
            return asyncio.run(session())
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _lean(decision: Decision) -> Decision:
    """Without the bytes: a week's letters are to fit in memory."""
    letter = decision.letter
    decision.letter = Letter(letter.topic, letter.position, letter.ts_ms, letter.key, None)
    return decision


def _retried(
    topic: str, decisions: list[Decision], outcomes: Counter[str], trades: int, *, dry_run: bool
) -> dict[str, Any]:
    told = decisions[:TOLD_MAX]
    return {
        "topic": topic,
        "dry_run": dry_run,
        "letters": len(decisions),
        "trades": trades,
        **{word: outcomes[word] for word in ("reentered", "duplicate", "superseded", "unreadable")},
        "outcomes": [
            {
                "position": str(decision.letter.position),
                "outcome": decision.outcome,
                "why": decision.why,
                "event_ids": [trade.event_id for trade in decision.trades],
            }
            for decision in told
        ],
        "left_out": len(decisions) - len(told),
    }


def _print(
    decisions: list[Decision], outcomes: Counter[str], trades: int, *, dry_run: bool
) -> None:
    for decision in decisions[:TOLD_ON_SCREEN]:
        what = decision.why or f"{len(decision.trades)} trade{'s' * (len(decision.trades) != 1)}"
        typer.echo(f"{decision.letter.position!s:<12} {decision.outcome:<11} {escaped(what)}")
    if len(decisions) > TOLD_ON_SCREEN:
        typer.echo(f"... and {len(decisions) - TOLD_ON_SCREEN:,} more; --json tells of them")
    counted = ", ".join(f"{count:,} {word}" for word, count in sorted(outcomes.items()))
    verb = "would be written" if dry_run else "written"
    typer.echo(f"{len(decisions):,} letters: {counted or 'none'}; {trades:,} trades {verb}")


def _line(letter: Letter) -> str:
    key = "" if letter.key is None else escaped(letter.key, 32)
    cut = " (cut)" if letter.truncated is not None else ""
    return (
        f"{letter.position!s:<10} {_time(letter.ts_ms)} {escaped(letter.error, 24):<16} "
        f"{key:<12} {escaped(letter.origin, 60):<34} {len(letter.value or b''):>7,} B{cut}  "
        f"{escaped(letter.message, MESSAGE_SHOWN)}"
    )


def _time(ts_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(ts_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(ts_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ts_ms % 1000:03d}Z"
