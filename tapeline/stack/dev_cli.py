"""``tapeline dev``: the whole system, and what it shows of itself.

What is imported here is imported by every ``tapeline`` command; the rest waits for `_run`.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import orjson
import typer

from tapeline.errors import ConfigError, StackError
from tapeline.tasks import end, end_all

if TYPE_CHECKING:
    from tapeline.stack.dev import DevStack

T = TypeVar("T")

EXIT_FAILURE = 1
UNHURRIED_S = 5.0
HASTY_S = 2.0

WORKERS_MAX: Final = 9
AGAIN_S: Final = 30.0
"""Longer than the parts take to end well."""
KILL_AFTER_MAX_S: Final = 3600.0
BROKERS: Final = ("auto", "embedded", "kafka")

# The same as `tapeline.stack.dev.DEFAULT_SYMBOLS`, which is not imported yet.
_SYMBOLS = "binance:BTCUSDT,binance:ETHUSDT"


def dev(
    symbols: Annotated[
        str,
        typer.Option(
            help="What the simulated exchange lists, as in SYMBOLS; or how many of its markets."
        ),
    ] = _SYMBOLS,
    live: Annotated[
        str | None,
        typer.Option(
            metavar="SYMBOLS",
            help="Follow real venues, such as binance:BTCUSDT, instead of the simulated exchange.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help=f"How many workers share the symbols, 1 to {WORKERS_MAX}.")
    ] = 1,
    kill_after: Annotated[
        float | None,
        typer.Option(
            help="Kill one of the workers so many seconds after all symbols are published, watch "
            "10 s more, print each symbol's gap, and end."
        ),
    ] = None,
    broker: Annotated[
        str,
        typer.Option(
            help="embedded; kafka: an Apache Kafka on this machine's Java; auto: embedded, but "
            "kafka for --kill-after where it can be had."
        ),
    ] = "auto",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="What goes wrong between exchange and bridge; repeatable, such as drop%0.001 or "
            "disconnect@20. See docs/simulator.md."
        ),
    ] = None,
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

    With --live the exchange is the real one, where the network allows.

    KAFKA_URL and REDIS_URL take the place of the embedded broker and store. With --kill-after the
    exit status is 0 where every symbol goes on, else 1.
    """
    plan = Plan(
        symbols=listed(symbols) if live is None else live,
        live=live is not None,
        simulated=symbols != _SYMBOLS,
        workers=workers,
        kill_after_s=kill_after,
        broker=broker,
        faults=tuple(fault or ()),
        once=once,
        duration_s=duration,
    )
    plan.check()
    raise typer.Exit(asyncio.run(_run(plan, as_json=as_json, verbose=verbose)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run, and how it is to end.

    Attributes:
        symbols: A ``SYMBOLS`` value.
        workers: How many.
        kill_after_s: When one of them is killed, counted from the last symbol's first report.
        broker: One of `BROKERS`.
        faults: Rules for the simulated exchange.
        live: Real venues take its place.
        simulated: ``--symbols`` was given.
        once: End after one complete report.
        duration_s: End so long after the first report; 0 for never.
    """

    symbols: str
    workers: int = 1
    kill_after_s: float | None = None
    broker: str = "auto"
    faults: tuple[str, ...] = ()
    live: bool = False
    simulated: bool = False
    once: bool = False
    duration_s: float = 0.0

    def check(self) -> None:
        """Refuse what can't be run.

        Raises:
            ConfigError: An option out of range, or one that goes with no other.
        """
        if not 1 <= self.workers <= WORKERS_MAX:
            raise ConfigError("--workers", self.workers, f"an integer from 1 to {WORKERS_MAX}")
        if self.broker not in BROKERS:
            raise ConfigError("--broker", self.broker, "one of " + ", ".join(BROKERS))
        if self.live and self.simulated:
            raise ConfigError("--symbols", "given", "none with --live, which names them itself")
        if self.live and self.faults:
            raise ConfigError("--fault", ", ".join(self.faults), "none with --live")
        after_s = self.kill_after_s
        if after_s is None:
            return
        if not 0 <= after_s <= KILL_AFTER_MAX_S:
            raise ConfigError("--kill-after", after_s, f"seconds from 0 to {KILL_AFTER_MAX_S:g}")
        if self.workers < 2:
            raise ConfigError(
                "--workers", self.workers, f"an integer from 2 to {WORKERS_MAX} with --kill-after"
            )
        if self.once or self.duration_s:
            name = "--once" if self.once else "--duration"
            raise ConfigError(name, self.once or self.duration_s, "none with --kill-after")

    def real_kafka(self) -> bool:
        """Whether to run an Apache Kafka; KAFKA_URL, where it is set, goes before both.

        Raises:
            StackError: It is asked for, and can't be had.
        """
        if self.broker == "embedded" or (self.broker == "auto" and self.kill_after_s is None):
            return False
        from tapeline.stack.kafka_jars import unavailable  # noqa: PLC0415

        reason = unavailable()
        if reason is not None and self.broker == "kafka":
            raise StackError(f"no Apache Kafka on this machine: {reason}")
        if reason is not None and not os.environ.get("KAFKA_URL"):
            _say("broker", "no Apache Kafka", reason)
        return reason is None


def listed(symbols: str) -> str:
    """The ``SYMBOLS`` value that ``--symbols`` stands for: itself, or so many known markets.

    Raises:
        ConfigError: More markets than the simulated exchange knows, or none.
    """
    if not re.fullmatch(r"[+-]?\d+", symbols.strip(), re.ASCII):
        return symbols
    from streams.simulator.listing import KNOWN  # noqa: PLC0415

    count = int(symbols)
    if not 1 <= count <= len(KNOWN):
        raise ConfigError(
            "--symbols",
            symbols,
            f"a number of markets from 1 to {len(KNOWN)}, or VENUE:SYMBOL entries such as {_SYMBOLS}",
        )
    return ",".join(f"binance:{name}" for name in list(KNOWN)[:count])


async def _run(plan: Plan, *, as_json: bool, verbose: bool) -> int:
    began = _process_began()
    from tapeline.stack.dev import DevStack  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    stack = DevStack(
        symbols=plan.symbols,
        say=_say,
        on_line=_log if verbose else _ignore,
        workers=plan.workers,
        real_kafka=plan.real_kafka(),
        faults=plan.faults,
        live=plan.live,
        counted_from=began,
    )
    body: dict[str, object] = {"report": None, "seconds_to_fresh_report": None, "urls": stack.urls}
    session = asyncio.create_task(_session(stack, body, plan, quiet=as_json))
    stopping = asyncio.create_task(stop.wait())
    error = ""
    try:
        await asyncio.wait({session, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if session.done():
            session.result()
        elif plan.once:
            error = "interrupted before a complete report"
        elif plan.kill_after_s is not None:
            error = "interrupted before the end of the trial"
    except StackError as failure:
        error = str(failure)
    finally:
        # The session ends first, and nothing interrupts the closing: a second signal only sets
        # an event that is set.
        await end_all([session, stopping], AGAIN_S)
        await stack.close(HASTY_S if error else UNHURRIED_S)
    if error:
        sys.stderr.write(f"ERROR: {error}\n")
        body["error"] = error
    if as_json:
        sys.stdout.write(orjson.dumps(body).decode() + "\n")
    return EXIT_FAILURE if error else 0


async def _session(stack: DevStack, body: dict[str, object], plan: Plan, *, quiet: bool) -> None:
    """Start, wait for reports, stay as long as asked.

    Raises:
        StackError: A part did not start, or has died; or a symbol did not survive the trial.
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
        if plan.workers > 1:
            _say("look", f"REDIS_URL={stack.urls['kv']} tapeline top", "in another terminal")
        if plan.once:
            body["report"] = await _or_death(stack.complete_report(), died)
            return
        if plan.kill_after_s is not None:
            await _or_death(_trial(stack, body, plan.kill_after_s, quiet=quiet), died)
            return
        await asyncio.wait({died}, timeout=plan.duration_s or None)
        if died.done():
            raise StackError(died.result())
    finally:
        await end(died)


async def _trial(stack: DevStack, body: dict[str, object], after_s: float, *, quiet: bool) -> None:
    """Kill a worker and show what became of its symbols.

    Raises:
        StackError: A symbol does not go on, or it did not come to the kill.
    """
    from tapeline.stack.failover import Failover  # noqa: PLC0415

    outcome = await Failover(stack, after_s, say=_say).run()
    body["failover"] = outcome.as_json()
    if not quiet:
        sys.stdout.write(f"{outcome.table()}\n")
        sys.stdout.flush()
    if outcome.stopped:
        raise StackError(f"{', '.join(outcome.stopped)} did not go on without {outcome.killed}")


async def _or_death(work: Coroutine[Any, Any, T], died: asyncio.Task[str]) -> T:
    """What ``work`` gives, unless a child dies first."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StackError(died.result())
        return task.result()
    finally:
        await end_all([task], AGAIN_S)


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
