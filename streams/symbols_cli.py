"""``tapeline symbols``: what the bridges follow, and having them follow more, or less."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from streams.commands import Acknowledgement, Command, Key, MergeCommand, RoutingState
from streams.control_client import (
    ControlClient,
    control_client,
    merged_subscribe,
    merged_unsubscribe,
    subscribe,
    unsubscribe,
)
from streams.merged import EVENTS_MAX, MERGEABLE, WINDOW_S
from streams.symbols import Listing, check_venue, is_symbol, parse_symbols
from tapeline.config import Settings, load_settings, mask
from tapeline.errors import ConfigError, TopicError

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNHEALTHY: Final = 3

TIMEOUT_S: Final = 10.0
SYMBOLS_MAX: Final = 1000

app = typer.Typer(
    help="Follow more symbols, or fewer, while the bridge runs.", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line on stdout.")]
Timeout = Annotated[
    float, typer.Option(min=0.1, max=600, help="Seconds to wait for the bridge's answer.")
]
Result = TypeVar("Result")
AnyCommand = Command | MergeCommand


@app.callback()
def symbols_() -> None:
    """Follow more symbols, or fewer, while the bridge runs."""


@app.command()
def add(
    listings: Annotated[
        list[str],
        typer.Argument(
            metavar="VENUE:SYMBOL...",
            help="As in SYMBOLS: binance:SOLUSDT, or kraken:BTC/USD>BTCUSD.",
        ),
    ],
    timeout: Timeout = TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Have the bridges follow symbols from now on, also after a restart.

    Ends when the venue's data has come. Exit status 1 where one is refused, 2 for an argument that
    can't be right, 3 where no bridge answers in time: the command is kept, and carried out when one
    can.
    """
    try:
        wanted = listings_of(listings)
    except ConfigError as error:
        _fail(error, EXIT_USAGE)
    settings = _settings()

    async def send(client: ControlClient) -> list[tuple[AnyCommand, Acknowledgement | None]]:
        return await _sent(client, [subscribe(listing) for listing in wanted], timeout)

    _conclude(_run(settings, send), "added", timeout, as_json=as_json)


@app.command()
def remove(
    symbols: Annotated[
        list[str],
        typer.Argument(
            metavar="SYMBOL...", help="BTCUSDT, or binance:BTCUSDT to leave other venues' alone."
        ),
    ],
    timeout: Timeout = TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Have the bridges follow symbols no longer, also after a restart, whatever SYMBOLS says.

    Exit status as that of `add`. A symbol that is not followed is no failure.
    """
    try:
        named = [named_symbol(text) for text in dict.fromkeys(symbols)]
    except ConfigError as error:
        _fail(error, EXIT_USAGE)
    settings = _settings()

    async def send(client: ControlClient) -> list[tuple[AnyCommand, Acknowledgement | None]]:
        state = await client.state() if any(not venue for venue, _ in named) else None
        keys = keys_of(named, state)
        return await _sent(client, [unsubscribe(key) for key in keys], timeout)

    results = _run(settings, send)
    gone = {command.symbol for command, _ in results}
    for _, symbol in named:
        if symbol not in gone:
            typer.echo(f"{symbol} is not followed: nothing to remove", err=True)
    _conclude(results, "removed", timeout, as_json=as_json)


@app.command()
def merge(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Canonical, such as BTCUSD.")],
    kind: Annotated[
        list[str], typer.Option(help=f"Of events, repeatable: {', '.join(MERGEABLE)}.")
    ],
    venue: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable; all that list the symbol, where none is given."),
    ] = None,
    window_s: Annotated[
        float, typer.Option(min=0.1, max=3600, help="A window's length.")
    ] = WINDOW_S,
    max_events: Annotated[
        int, typer.Option(min=1, max=10_000, help="So many events close it before.")
    ] = EVENTS_MAX,
    timeout: Timeout = TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Have windows of several venues' events of a symbol written to md.merged.v1 from now on.

    A window in which a venue is missing is not written. Exit status as that of `add`.
    """
    _checked(symbol, kind, venue or ())
    command = merged_subscribe(symbol, kind, venue or (), window_s, max_events)
    results = _run(_settings(), lambda client: _sent(client, [command], timeout))
    _conclude(results, "merged", timeout, as_json=as_json)


@app.command()
def unmerge(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Canonical, such as BTCUSD.")],
    kind: Annotated[
        list[str] | None, typer.Option(help="Repeatable; all kinds, where none is given.")
    ] = None,
    timeout: Timeout = TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Have a symbol's windows merged no longer. Exit status as that of `add`."""
    _checked(symbol, kind or (), ())
    command = merged_unsubscribe(symbol, kind or ())
    results = _run(_settings(), lambda client: _sent(client, [command], timeout))
    _conclude(results, "merged no more", timeout, as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show what the bridges follow, as the one that changed it last has kept it.

    Exit status 3 where none has kept it yet: it is kept with the first command.
    """
    state = _run(_settings(), lambda client: client.state())
    if state is None:
        typer.echo(
            "ERROR: no bridge has kept yet what it follows: with the first command one does. Until "
            "then each follows its own SYMBOLS",
            err=True,
        )
        raise typer.Exit(EXIT_UNHEALTHY)
    body = described(state)
    if as_json:
        typer.echo(json.dumps(body))
        return
    table = Table(title=f"routing version {state.routing_version}")
    for column in ("symbol", "venue", "venue's name", "by"):
        table.add_column(column)
    for row in body["symbols"]:
        table.add_row(row["symbol"], row["venue"], row["venue_symbol"], row["by"])
    Console().print(table)
    for merged in state.merges:
        typer.echo(
            f"merged: {merged.symbol} {merged.kind} of {', '.join(merged.venues)}, windows of "
            f"{merged.window_s:g} s or {merged.max_events} events"
        )


# --- arguments --------------------------------------------------------------------------------------


def listings_of(texts: Sequence[str]) -> tuple[Listing, ...]:
    """Arguments of `add`, each once.

    Raises:
        ConfigError: One that does not parse, or two that do not go together.
    """
    expected = "VENUE:SYMBOL or VENUE:VENUE_SYMBOL>SYMBOL, such as kraken:BTC/USD>BTCUSD"
    for text in dict.fromkeys(texts):
        try:
            (_,) = parse_symbols(text, name="VENUE:SYMBOL") if "," not in text else ()
        except (ConfigError, ValueError):
            venue, colon, _ = text.partition(":")
            if colon and venue and "," not in text:
                check_venue(venue, name="VENUE")
            raise ConfigError("VENUE:SYMBOL", text, expected) from None
    return parse_symbols(",".join(dict.fromkeys(texts)), name="VENUE:SYMBOL")


def _checked(symbol: str, kinds: Sequence[str], venues: Sequence[str]) -> None:
    """End with a usage error where an argument of `merge` or `unmerge` can't be right."""
    try:
        if not is_symbol(symbol):
            raise ConfigError("SYMBOL", symbol, "a canonical symbol such as BTCUSD")
        for kind in kinds:
            if kind not in MERGEABLE:
                raise ConfigError("--kind", kind, f"one of {', '.join(MERGEABLE)}")
        for venue in venues:
            check_venue(venue, name="--venue")
    except ConfigError as error:
        _fail(error, EXIT_USAGE)


def named_symbol(text: str) -> Key:
    """An argument of `remove`: (venue or empty, canonical symbol).

    Raises:
        ConfigError: It can't be a symbol, or no venue has that name.
    """
    venue, colon, symbol = text.rpartition(":")
    if not is_symbol(symbol) or (colon and not venue):
        raise ConfigError("SYMBOL", text, "a canonical symbol such as BTCUSDT or binance:BTCUSDT")
    if colon:
        check_venue(venue, name="SYMBOL")
    return venue, symbol


def keys_of(named: Sequence[Key], state: RoutingState | None) -> list[Key]:
    """What is meant: those without a venue at every venue where they are followed."""
    followed = [_listing(text) for text in state.symbols] if state else []
    keys: dict[Key, None] = {}
    for venue, symbol in named:
        if venue:
            keys[venue, symbol] = None
        else:
            keys |= {(each.venue, symbol): None for each in followed if each.symbol == symbol}
    return list(keys)


def described(state: RoutingState) -> dict[str, Any]:
    """For ``list --json``."""
    by_command = {(d.venue, d.symbol) for d in state.decisions if d.venue_symbol}
    return {
        "routing_version": state.routing_version,
        "symbols": [
            {
                "symbol": listing.symbol,
                "venue": listing.venue,
                "venue_symbol": listing.venue_symbol,
                "by": "command" if (listing.venue, listing.symbol) in by_command else "SYMBOLS",
            }
            for listing in map(_listing, state.symbols)
        ],
        "removed": [f"{d.venue}:{d.symbol}" for d in state.decisions if not d.venue_symbol],
        "merges": msgspec.to_builtins(state.merges),
    }


def _listing(text: str) -> Listing:
    """As a bridge has written it: not checked, for its version may know more venues."""
    venue, _, rest = text.partition(":")
    venue_symbol, _, symbol = rest.partition(">")
    return Listing(venue, venue_symbol, symbol or venue_symbol)


# --- the broker -------------------------------------------------------------------------------------


async def _sent(
    client: ControlClient, commands: Sequence[AnyCommand], timeout_s: float
) -> list[tuple[AnyCommand, Acknowledgement | None]]:
    if not commands:
        return []
    answers = await client.send(commands, timeout_s)
    return [(command, answers.get(command.command_id)) for command in commands]


def _settings() -> Settings:
    try:
        return load_settings(require=("kafka_url",))
    except ConfigError as error:
        _fail(error, EXIT_USAGE)


def _run(settings: Settings, work: Callable[[ControlClient], Awaitable[Result]]) -> Result:
    async def session() -> Result:
        async with control_client(settings) as client:
            return await work(client)

    try:
        return asyncio.run(session())
    except TopicError as error:
        _fail(error, EXIT_FAILURE)


def _fail(error: Exception, status: int) -> NoReturn:
    typer.echo(f"ERROR: {mask(str(error))}", err=True)
    raise typer.Exit(status)


def _conclude(
    results: Sequence[tuple[AnyCommand, Acknowledgement | None]],
    word: str,
    timeout_s: float,
    *,
    as_json: bool,
) -> None:
    """Say what became of each, and leave with the worst status."""
    status = 0
    for command, answer in results:
        name = _name(command)
        if answer is None:
            status = EXIT_UNHEALTHY
            typer.echo(
                f"ERROR: {name}: no bridge has answered within {timeout_s:g} s; the command is kept "
                "and is carried out when a bridge and its venue can",
                err=True,
            )
        elif answer.status == "error":
            status = max(status, EXIT_FAILURE)
            typer.echo(f"ERROR: {name}: {answer.error}", err=True)
        elif not as_json:
            what = word if answer.changed else f"{word} already"
            typer.echo(f"{name}: {what} (routing version {answer.routing_version})")
    if as_json:
        typer.echo(json.dumps({"commands": [_row(*result) for result in results]}))
    raise typer.Exit(status)


def _name(command: AnyCommand) -> str:
    if isinstance(command, MergeCommand):
        return " ".join((command.symbol, *command.kinds))
    return f"{command.venue}:{command.symbol}"


def _row(command: AnyCommand, answer: Acknowledgement | None) -> dict[str, Any]:
    return {
        "command_id": command.command_id,
        "type": command.type,
        "venue": command.venue,
        "symbol": command.symbol,
        "status": answer.status if answer else "unanswered",
        "error": answer.error if answer else "",
        "changed": answer.changed if answer else None,
        "routing_version": answer.routing_version if answer else None,
        "node_id": answer.node_id if answer else None,
    }
