"""``tapeline dev``: the whole system, and what it shows of itself.

What is imported here is imported by every ``tapeline`` command; the rest waits for `_run`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from tapeline.errors import StackError

if TYPE_CHECKING:
    from tapeline.stack.dev import DevStack

EXIT_FAILURE = 1
UNHURRIED_S = 5.0
HASTY_S = 2.0

# The same as `tapeline.stack.dev.DEFAULT_SYMBOLS`, which is not imported yet.
_SYMBOLS = "binance:BTCUSDT,binance:ETHUSDT"


def dev(
    symbols: Annotated[
        str, typer.Option(help="What the simulated exchange lists, as in SYMBOLS.")
    ] = _SYMBOLS,
    once: Annotated[bool, typer.Option("--once", help="Stop after one complete report.")] = False,
    duration: Annotated[
        float, typer.Option(min=0, help="Stop after this many seconds; 0 runs until Ctrl-C.")
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line on stdout.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the parts' logs.")] = False,
) -> None:
    """Run broker, store, simulated exchange, bridge, worker and reader on free loopback ports.

    KAFKA_URL and REDIS_URL take the place of the embedded broker and store.
    """
    raise typer.Exit(
        asyncio.run(_run(symbols, once=once, duration_s=duration, as_json=as_json, verbose=verbose))
    )


async def _run(symbols: str, *, once: bool, duration_s: float, as_json: bool, verbose: bool) -> int:
    began = _process_began()
    from tapeline.stack.dev import DevStack  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    stack = DevStack(
        symbols=symbols, say=_say, on_line=_log if verbose else _ignore, counted_from=began
    )
    body: dict[str, object] = {"report": None, "seconds_to_fresh_report": None, "urls": stack.urls}
    session = asyncio.create_task(_session(stack, body, once=once, duration_s=duration_s))
    stopping = asyncio.create_task(stop.wait())
    error = ""
    try:
        await asyncio.wait({session, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if session.done():
            session.result()
        elif once:
            error = "interrupted before a complete report"
    except StackError as failure:
        error = str(failure)
    finally:
        # The session ends first, and nothing interrupts the closing: a second signal only sets
        # an event that is set.
        for task in (session, stopping):
            task.cancel()
        await asyncio.gather(session, stopping, return_exceptions=True)
        await stack.close(HASTY_S if error else UNHURRIED_S)
    if error:
        sys.stderr.write(f"ERROR: {error}\n")
        body["error"] = error
    if as_json:
        sys.stdout.write(orjson.dumps(body).decode() + "\n")
    return EXIT_FAILURE if error else 0


async def _session(
    stack: DevStack, body: dict[str, object], *, once: bool, duration_s: float
) -> None:
    """Start, wait for reports, stay as long as asked.

    Raises:
        StackError: A part did not start, or has died.
    """
    await stack.start()
    # While the parts start, so that these cost no time.
    from serving.reader import aged  # noqa: PLC0415
    from serving.terminal import one_line  # noqa: PLC0415
    from tapeline.clock import SystemClock  # noqa: PLC0415

    died = asyncio.create_task(stack.died())
    try:
        report = await _or_death(stack.fresh_report(), died)
        fresh = aged(orjson.dumps(report), SystemClock().now_ms())
        _say("report", one_line(fresh), f"after {stack.seconds_to_fresh_report:.1f} s")
        body.update(report=report, seconds_to_fresh_report=stack.seconds_to_fresh_report)
        if once:
            body["report"] = await _or_death(stack.complete_report(), died)
            return
        await asyncio.wait({died}, timeout=duration_s or None)
        if died.done():
            raise StackError(died.result())
    finally:
        died.cancel()
        await asyncio.gather(died, return_exceptions=True)


async def _or_death(
    work: Coroutine[Any, Any, dict[str, Any]], died: asyncio.Task[str]
) -> dict[str, Any]:
    """What ``work`` gives, unless a child dies first."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StackError(died.result())
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _process_began() -> float:
    """When this process began, on the monotonic clock: its imports are part of the wait."""
    now = time.monotonic()
    try:
        # Field 22 of proc(5)'s stat, counted behind the name, which may hold spaces.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        age_s = time.process_time()  # macOS: nearly all that it has done so far is imports
    return now - age_s


def _say(part: str, where: str, remark: str) -> None:
    sys.stderr.write(f" ✓ {part:<9} {where}  {remark}\n")


def _log(name: str, line: str) -> None:
    sys.stderr.write(f"{name:>9} | {line}\n")


def _ignore(_name: str, _line: str) -> None:
    pass
