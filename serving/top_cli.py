"""``tapeline top``: its options, and the loop that looks and shows."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.live import Live

from lua import Keys
from serving.reader import SYMBOL_PATTERN, StoreUnavailable, reader_client
from serving.survey import Survey, Surveyor
from serving.table import View, gaps_of, render
from serving.writes import Listener
from tapeline.config import Settings, load_settings, mask
from tapeline.errors import ConfigError
from tapeline.tasks import end

EXIT_FAILURE = 1
INTERVAL_MIN_S: Final = 0.2
INTERVAL_MAX_S: Final = 60.0
LISTEN_ONCE_S: Final = 0.3
"""Of `--once`: who is about to leave says so five times a second."""

CONNECT_S: Final = 2.0

Show = Callable[[View], None]

app = typer.Typer()


@app.command()
def top(
    symbols: Annotated[
        str, typer.Option(help="Show these alone, comma-separated, such as BTCUSDT,ETHUSDT.")
    ] = "",
    interval: Annotated[
        float, typer.Option(help=f"Seconds between two looks, {INTERVAL_MIN_S:g} to 60.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One snapshot, then the end.")] = False,
    health: Annotated[
        bool, typer.Option("--health/--no-health", help="Ask the nodes' /health, too.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a look, on a line of stdout.")
    ] = False,
) -> None:
    """Show nodes and symbols, live: who writes what, how old it is, and how long it was silent.

    Reads REDIS_URL, and the nodes' /health where they answer; needs no Kafka. A gap is the longest
    time without an accepted report of later records, while this command watched.
    """
    picked = picked_symbols(symbols)
    check_interval(interval)
    settings = load_settings(require=("redis_url",), log_level="WARNING")
    raise typer.Exit(
        asyncio.run(
            run_top(settings, picked, interval_s=interval, once=once, ask=health, as_json=as_json)
        )
    )


def picked_symbols(text: str) -> tuple[str, ...]:
    """Symbols out of ``--symbols``, each once; none where it is empty.

    Raises:
        ConfigError: One that can't be a symbol.
    """
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    for name in names:
        if re.fullmatch(SYMBOL_PATTERN, name, re.ASCII) is None:
            raise ConfigError("--symbols", name, "canonical symbols such as BTCUSDT,ETHUSDT")
    return names


def check_interval(seconds: float) -> None:
    """Refuse what is no pace for a person.

    Raises:
        ConfigError: Out of range.
    """
    if not INTERVAL_MIN_S <= seconds <= INTERVAL_MAX_S:
        raise ConfigError(
            "--interval", seconds, f"seconds from {INTERVAL_MIN_S:g} to {INTERVAL_MAX_S:g}"
        )


async def run_top(
    settings: Settings,
    symbols: tuple[str, ...],
    *,
    interval_s: float,
    once: bool,
    ask: bool,
    as_json: bool,
) -> int:
    """Look and show, once or until a signal.

    Returns:
        The exit status: 0 after `--once`, 1 where Redis did not answer it, 128 and the signal's
        number after a signal.
    """
    keys = Keys.of(settings)
    with _ended_by_signals() as signals:
        try:
            async with (
                reader_client(settings.redis_url) as redis,
                reader_client(settings.redis_url) as ear,
                _running(Listener(ear, keys)) as listener,
            ):
                surveyor = Surveyor(redis, keys, symbols=symbols, ask_health=ask)
                watch = _Watch(surveyor, listener, symbols)
                if once:
                    return await _once(watch, as_json=as_json)
                with _shown(as_json=as_json) as show:
                    while True:
                        show(await watch.look())
                        await asyncio.sleep(interval_s)
        except asyncio.CancelledError:
            if not signals:
                raise
            return 128 + signals[0]


class _Watch:
    """Looks, and remembers the last that was seen for when Redis is away."""

    def __init__(self, surveyor: Surveyor, listener: Listener, symbols: tuple[str, ...]) -> None:
        self._surveyor, self._listener = surveyor, listener
        self._symbols = symbols
        self._began_s = time.monotonic()
        self._last: Survey | None = None

    async def look(self) -> View:
        listener, error = self._listener, ""
        writes = listener.writes
        try:
            self._last = await self._surveyor.look(listener.draining(), list(writes.tracks))
            writes.expect([one.symbol for one in self._last.symbols], time.monotonic())
        except StoreUnavailable as failure:
            listener.lost()
            error = mask(str(failure))
        now_s = time.monotonic()
        return View(
            survey=self._last,
            error=error,
            watched_s=now_s - self._began_s,
            gaps_s=gaps_of(writes, self._last, now_s) if self._last else None,
            writes={symbol: track.writes for symbol, track in writes.tracks.items()},
        )

    async def listen(self, seconds: float) -> None:
        """Hear who is about to leave, before the one look that there will be."""
        if await self._listener.ready(CONNECT_S):
            self._began_s = time.monotonic()
            self._listener.writes.expect(self._symbols, self._began_s)
            await asyncio.sleep(seconds)


async def _once(watch: _Watch, *, as_json: bool) -> int:
    await watch.listen(LISTEN_ONCE_S)
    view = await watch.look()
    if view.error:
        sys.stderr.write(f"ERROR: {view.error}\n")
    if as_json:
        _print_json(view)
    elif not view.error:
        _print(view)
    return EXIT_FAILURE if view.error else 0


# --- showing ---------------------------------------------------------------------------------------


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Show]:
    """A way to show views: as JSON, on a terminal in place, else one below the other."""
    if as_json:
        yield _print_json
        return
    console = Console()
    if not console.is_terminal:
        yield _print
        return
    last: list[View] = []
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def show(view: View) -> None:
            last[:] = [view]
            live.update(render(view, console.width, console.height), refresh=True)

        try:
            yield show
        finally:
            live.stop()  # the terminal is as it was; what was seen last stays on it
            if last:
                console.print(render(last[0], console.width))


def _print(view: View) -> None:
    console = Console()
    console.print(render(view, console.width))
    sys.stdout.flush()


def _print_json(view: View) -> None:
    sys.stdout.write(orjson.dumps(view.as_json()).decode() + "\n")
    sys.stdout.flush()


# --- life ------------------------------------------------------------------------------------------


@asynccontextmanager
async def _running(listener: Listener) -> AsyncIterator[Listener]:
    task = asyncio.create_task(listener.run(), name="listen")
    try:
        yield listener
    finally:
        await end(task)


@contextmanager
def _ended_by_signals() -> Iterator[list[int]]:
    """Cancels this task at the first signal that asks for the end; gives the signals."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    came: list[int] = []

    def end(signum: int) -> None:
        came.append(signum)
        if len(came) == 1:  # a second one must not interrupt the closing
            task.cancel()

    ends = (signal.SIGINT, signal.SIGTERM)
    for signum in ends:
        loop.add_signal_handler(signum, end, signum)
    try:
        yield came
    finally:
        for signum in ends:
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(signum)
