"""How often writes are refused and groups assign, in health and in trouble: what thresholds rest on."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from tests.alerts.faults import FAULTS
from tests.alerts.run import say
from tests.alerts.system import SYMBOLS, System

CONFLICTS: Final = "nt_lease_conflicts_total"
ASSIGNMENTS: Final = "nt_hrw_rebalances_total"
STEP_S: Final = 1.0


class Counted:
    """Counters of all workers, through their restarts."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._last: dict[tuple[str, str], float] = {}
        self.sums: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """Looks each second, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(STEP_S)

    async def look(self) -> None:
        """Add what has come since the last look; a counter that is lower began anew."""
        for name in ("w1", "w2", "w3"):
            text = await self._system.metrics(name)
            for family in text_string_to_metric_families(text or ""):
                for sample in family.samples:
                    if sample.name in (CONFLICTS, ASSIGNMENTS):
                        key = name, sample.name
                        last = self._last.get(key, 0.0)
                        new = sample.value - (last if sample.value >= last else 0.0)
                        self._last[key] = sample.value
                        self.sums[key] = self.sums.get(key, 0.0) + new

    def conflicts(self) -> float:
        """Of all workers."""
        return sum(value for (_, name), value in self.sums.items() if name == CONFLICTS)

    def assignments(self) -> dict[str, float]:
        """By worker: each serves all of its group's."""
        return {node: value for (node, name), value in self.sums.items() if name == ASSIGNMENTS}


async def _healthy(system: System, lasting_s: float) -> None:
    await asyncio.sleep(lasting_s)


async def _deploy(system: System, lasting_s: float) -> None:
    for name in ("w1", "w2"):
        await system.restart(name)
        await system.settled()


async def _kill(system: System, lasting_s: float) -> None:
    await system.kill("w2")
    await asyncio.sleep(10)
    await system.start("w2")
    await system.settled()


async def _pause(system: System, lasting_s: float) -> None:
    system.freeze(system.children["w1"])
    await asyncio.sleep(10)
    system.thaw(system.children["w1"])
    await system.settled()


async def _redis(system: System, lasting_s: float) -> None:
    system.store.pause()
    await asyncio.sleep(10)
    system.store.resume()
    await system.settled()


async def _broker(system: System, lasting_s: float) -> None:
    system.freeze(system.kafka.child)
    await asyncio.sleep(10)
    system.thaw(system.kafka.child)
    await system.settled()


def _fault(name: str) -> Callable[[System, float], Awaitable[None]]:
    async def brought(system: System, lasting_s: float) -> None:
        async with FAULTS[name].brought(system):
            await asyncio.sleep(lasting_s)
        await system.settled()

    return brought


EPISODES: Final[dict[str, tuple[bool, Callable[[System, float], Awaitable[None]]]]] = {
    "nothing happens": (True, _healthy),
    "both workers replaced, one by one": (True, _deploy),
    "a worker killed, started 10 s later": (True, _kill),
    "a worker stopped for 10 s": (True, _pause),
    "Redis stopped for 10 s": (True, _redis),
    "the broker stopped for 10 s": (True, _broker),
    "a worker restarted every few seconds": (False, _fault("restarts")),
    "another NT_APP_ID on the same Redis": (False, _fault("second-house")),
}
"""By what happens: whether no alert is due, and what brings it about."""


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Each episode: refused writes, and assignments as the worker saw them that saw most."""
    rows = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tapeline-alerts-")))
        system = await stack.enter_async_context(System(folder))
        for what, (healthy, episode) in EPISODES.items():
            await system.settled()
            say(what)
            counted = Counted(system)
            await counted.look()
            counted.sums.clear()
            looking = asyncio.create_task(counted.run())
            began_s = time.monotonic()
            try:
                await episode(system, args.measure_s)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
            await counted.look()
            lasted_s = time.monotonic() - began_s
            conflicts, assignments = counted.conflicts(), max(counted.assignments().values())
            rows.append(
                {
                    "what": what,
                    "healthy": healthy,
                    "lasted_s": round(lasted_s, 1),
                    "conflicts": conflicts,
                    "conflicts_a_symbol_in_5_min": round(
                        conflicts / max(lasted_s / 300, 1) / len(SYMBOLS), 2
                    ),
                    "assignments": assignments,
                    "assignments_in_5_min": round(assignments / max(lasted_s / 300, 1), 2),
                }
            )
            say(f"  {conflicts:g} conflicts, {assignments:g} assignments in {lasted_s:.0f} s")
    return {"symbols": len(SYMBOLS), "rows": rows, "well": True}


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'what':40} {'s':>6} {'conflicts':>10} {'assignments':>12}"]
    lines += [
        f"{row['what']:40} {row['lasted_s']:6.0f} {row['conflicts']:10g} {row['assignments']:12g}"
        for row in found["rows"]
    ]
    return "\n".join(lines)
