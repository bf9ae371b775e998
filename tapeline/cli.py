"""The ``tapeline`` command.

Exit status: 0 ok, 1 failure, 2 usage, 3 unhealthy. With ``--json`` the last line on stdout is
one JSON object; logs and progress go to stderr.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final

import orjson
import typer
from typer.core import TyperGroup
from typer.main import get_command

from tapeline.config import Settings, load_settings, mask, shown, unknown_variables
from tapeline.errors import ConfigError, TapelineError
from tapeline.own_packages import check_packages
from tapeline.stack.dev_cli import dev

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_UNHEALTHY = 3
EXIT_INTERRUPTED = 130
"""What a shell reports of a command that Ctrl-C has ended."""

ELSEWHERE: Final = {
    "audit": "tapeline.audit_cli",
    "capture": "tapeline.capture_cli",
    "compare": "tapeline.compare.cli",
    "dlq": "streams.dlq_cli",
    "doctor": "tapeline.doctor.cli",
    "keys": "serving.keys_cli",
    "loglevel": "tapeline.log_level_cli",
    "record": "streams.record_cli",
    "replay": "tapeline.replay_cli",
    "symbols": "streams.symbols_cli",
    "top": "serving.top_cli",
    "topics": "streams.topics_cli",
}
"""Commands, and groups of them, that live beside their work: the module whose ``app`` each is."""


class _Commands(TyperGroup):
    """Imports a command of `ELSEWHERE` when it is asked for.

    Bridge and reader start by this command too, and would pay for the imports of all others.
    Contexts and commands are of click, or of the copy of it that newer Typers carry.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *ELSEWHERE]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        command = get_command(import_module(ELSEWHERE[cmd_name]).app)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="tapeline",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]


def print_json(body: Any) -> None:
    """One JSON object on one line of stdout."""
    sys.stdout.write(orjson.dumps(body).decode() + "\n")
    sys.stdout.flush()


def settings_for(*require: str, **overrides: Any) -> Settings:
    """Settings of this process; says what is wrong and exits with 2 where they can't be."""
    settings = load_settings(require=require, **overrides)
    for name, nearest in unknown_variables().items():
        hint = f"; did you mean {nearest}?" if nearest else ""
        typer.echo(f"WARNING: {name} is not a setting{hint}", err=True)
    return settings


def _version_asked(asked: bool) -> None:
    if asked:
        print_version()
        raise typer.Exit


@app.callback()
def _every_command(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version_asked, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Exchange websockets into market reports that can be trusted."""


@app.command("version")
def print_version() -> None:
    """Print the version."""
    try:
        typer.echo(version("tapeline"))
    except PackageNotFoundError:
        typer.echo("not installed: running from a checkout")


@app.command()
def config(as_json: JsonFlag = False) -> None:
    """Print every setting as this environment has it, secrets masked."""
    values = shown(settings_for())
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        typer.echo(f"{name}={value}")


@app.command()
def bridge() -> None:
    """Run the bridge: venues' websockets to the events topic."""
    import uvloop  # noqa: PLC0415

    from streams.bridge_process import run_bridge  # noqa: PLC0415
    from tapeline.collector import relax  # noqa: PLC0415
    from tapeline.uncaught import configure_process  # noqa: PLC0415

    settings = load_settings(require=("kafka_url", "redis_url", "symbols"))
    configure_process(settings, "bridge")
    relax()
    raise typer.Exit(uvloop.run(run_bridge(settings)))


@app.command()
def serve() -> None:
    """Run a reader: reports over HTTP."""
    from serving.run import run_serve  # noqa: PLC0415
    from tapeline.reader_kafka import KafkaFeedControl, events_of  # noqa: PLC0415
    from tapeline.uncaught import configure_process  # noqa: PLC0415

    settings = load_settings(require=("redis_url",))
    configure_process(settings, "serve")
    control = KafkaFeedControl(settings) if settings.kafka_url else None
    raise typer.Exit(run_serve(settings, control, events_of(settings)))


@app.command()
def mcp() -> None:
    """Run an MCP server on stdin and stdout, for an AI agent that starts it. Read-only."""
    import uvloop  # noqa: PLC0415

    from serving.mcp.stdio import run_stdio  # noqa: PLC0415
    from tapeline.uncaught import configure_process  # noqa: PLC0415

    settings = load_settings(require=("redis_url",))
    configure_process(settings, "mcp")
    raise typer.Exit(uvloop.run(run_stdio(settings)))


@app.command()
def report(
    symbol: Annotated[str, typer.Argument(help="Canonical symbol, such as BTCUSDT")],
    watch: Annotated[bool, typer.Option("--watch", help="Go on until interrupted.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print the newest report of SYMBOL, with its age.

    From REDIS_URL; where that is not set, from the reader on this machine (NT_SERVE_PORT), such
    as that of `tapeline dev`.
    """
    from serving.reader import BadSymbol  # noqa: PLC0415
    from serving.terminal import run_report  # noqa: PLC0415

    settings = settings_for()
    try:
        status = asyncio.run(run_report(settings, symbol, watch=watch, as_json=as_json))
    except BadSymbol as error:
        typer.echo(f"ERROR: {error}", err=True)
        status = EXIT_USAGE
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    raise typer.Exit(status)


app.command()(dev)


def main() -> None:
    """Entry point: errors raised on purpose become one line and an exit status."""
    try:
        check_packages()
        app()
    except ConfigError as error:
        typer.echo(f"ERROR: {error}", err=True)
        raise SystemExit(EXIT_USAGE) from None
    except TapelineError as error:
        typer.echo(f"ERROR: {mask(str(error))}", err=True)
        raise SystemExit(EXIT_FAILURE) from None


if __name__ == "__main__":
    main()
