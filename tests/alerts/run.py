"""One fault after the other: how long until the receiver is told, and until it is told of the end."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from tests.alerts.faults import FAULTS, Expected
from tests.alerts.system import System, until
from tests.alerts.watch import Watch

SLACK_S: Final = 30.0
"""For what a fault takes to bite, and a machine that has other things to do."""

MENDED_S: Final = 60.0
"""Likewise after its end: processes start, venues are asked again with growing pauses."""

QUIET_S: Final = 240.0


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """A healthy time, then each fault; what was seen."""
    names = args.only or [name for name in FAULTS if not args.healthy_only]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tapeline-alerts-")))
        say("starting Kafka, Redis, the exchange, a bridge, two workers and a reader")
        system = await stack.enter_async_context(System(folder))
        (folder / "watch").mkdir()
        watch = await stack.enter_async_context(
            Watch(folder / "watch", system.targets(), args.scale)
        )
        await _quiet(system, watch)
        healthy = await _healthy(watch, args.healthy_minutes * 60)
        rows: list[dict[str, Any]] = []
        for name in names:
            rows += await _one(name, system, watch)
        annotated = [
            bool(notice.annotations.get("runbook_url")) for notice in watch.receiver.notices
        ]
    return {
        "scale": args.scale,
        "healthy_minutes": args.healthy_minutes,
        "healthy_alerts": healthy,
        "rows": rows,
        "well": not healthy and all(row["well"] for row in rows) and all(annotated),
    }


async def _healthy(watch: Watch, lasting_s: float) -> list[str]:
    """Alerts of a time in which nothing is wrong."""
    if not lasting_s:
        return []
    say(f"healthy for {lasting_s / 60:g} minutes")
    began_s = time.monotonic()
    await asyncio.sleep(lasting_s)
    found = sorted({n.name for n in watch.receiver.notices if n.heard_s >= began_s})
    say(f"healthy: {', '.join(found) or 'no alert'}")
    return found


async def _quiet(system: System, watch: Watch) -> None:
    """Until all is well, and no alert is even pending."""
    await system.settled(QUIET_S)
    said = "nothing yet"

    async def still() -> bool:
        nonlocal said
        said = await watch.unrest()
        return not said

    # Twice: what is well may be so for a moment only.
    longest_s = max(alert.lasting_s for alert in watch.alerts)
    for _ in range(2):
        try:
            await until(still, QUIET_S + longest_s, "no alert is pending")
        except AssertionError as error:
            raise AssertionError(f"{error}: {said}; {await system.ill()}") from None
        await asyncio.sleep(2)


async def _one(name: str, system: System, watch: Watch) -> list[dict[str, Any]]:
    fault = FAULTS[name]
    # What fires by itself while nothing is wrong would pass for what the fault has raised.
    await _quiet(system, watch)
    say(f"{name}: {fault.what}")
    began_s = time.monotonic()
    async with fault.brought(system):
        # Clients that are to leave come first.
        hit_s = time.monotonic() if name == "clients-leave" else began_s
        fired = [(expected, await _fired(expected, watch, hit_s)) for expected in fault.alerts]
        say(f"  told of {_told(fired)}")
        mended_s = time.monotonic()
    rows = []
    for expected, after_s in fired:
        resolved_s = None
        if after_s is not None:
            resolved_s = await _resolved(expected, watch, mended_s)
        well = after_s is not None and resolved_s is not None
        rows.append(
            {
                "alert": str(expected),
                "fault": fault.what,
                "fires_s": _rounded(after_s),
                "within_s": _rounded(_bound_s(expected, watch) + SLACK_S),
                "resolves_s": _rounded(resolved_s),
                "well": well,
            }
        )
    others = {n.name for n in watch.receiver.notices if n.firing and n.heard_s >= began_s}
    others -= {expected.name for expected in fault.alerts}
    if others:
        say(f"  also {', '.join(sorted(others))}")
    if not all(row["well"] for row in rows):
        say(system.tails())
    return rows


def _told(fired: Sequence[tuple[Expected, float | None]]) -> str:
    return ", ".join(
        f"{expected} {'never' if after_s is None else f'after {after_s:.1f} s'}"
        for expected, after_s in fired
    )


def _bound_s(expected: Expected, watch: Watch) -> float:
    """The longest that an alert's expression, its ``for`` and those who pass it on need."""
    lasting_s = max(
        rule.lasting_s
        for rule in watch.alerts
        if rule.name == expected.name and expected.labels.items() <= rule.labels.items()
    )
    return lasting_s + watch.delay_s


async def _fired(expected: Expected, watch: Watch, since_s: float) -> float | None:
    """Seconds from the fault to the notice; None where it does not come in time."""
    within_s = _bound_s(expected, watch) + SLACK_S
    try:
        async with asyncio.timeout(max(0.1, since_s + within_s - time.monotonic())):
            notice = await watch.receiver.fired(expected.name, expected.labels, since_s)
    except TimeoutError:
        return None
    return notice.heard_s - since_s


async def _resolved(expected: Expected, watch: Watch, since_s: float) -> float | None:
    """Seconds from the mend to the notice of the end; None where it does not come in time."""
    within_s = _bound_s(expected, watch) + MENDED_S
    try:
        async with asyncio.timeout(max(0.1, since_s + within_s - time.monotonic())):
            ended_s = await watch.receiver.resolved(expected.name, expected.labels, since_s)
    except TimeoutError:
        return None
    return ended_s - since_s


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def table(found: Mapping[str, Any]) -> str:
    """The rows, for people."""
    head = ("alert", "injected fault", "s to fire", "at most", "s to resolve")
    names = ("alert", "fault", "fires_s", "within_s", "resolves_s")
    rows = [head]
    rows += [tuple("-" if row[n] is None else str(row[n]) for n in names) for row in found["rows"]]
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if found["healthy_minutes"]:
        alerts = ", ".join(found["healthy_alerts"]) or "no alert"
        lines.append(f"healthy for {found['healthy_minutes']:g} minutes: {alerts}")
    return "\n".join(lines)
