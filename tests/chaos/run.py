"""One scenario, some times over: what it comes to."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tapeline.stack.kafka_local import AT_ONCE
from tapeline.stack.ports import LOOPBACK
from tapeline.stack.processes import ChildProcess
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.figures import gap_s, handovers_s, spread
from tests.chaos.history import Accepted, calls, judged, overdue, regranted
from tests.chaos.scenarios import DURABLE, FROM_ONE, SCENARIOS, Fault

LEASE_TTL_S = 2.0


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


async def run(
    args: argparse.Namespace,
    *,
    quick: bool = False,
    enough: Callable[[Cluster], Awaitable[object]] | None = None,
) -> dict[str, Any]:
    """Bring the fault about as often as asked, and say what was seen.

    Args:
        args: As `tests.chaos.__main__.options` has them.
        quick: A group that forms at once, no audit, no count of what Redis is asked.
        enough: Whether what is looked for has been seen, and no more runs are needed.
    """
    chance = random.Random(args.seed)
    scenario = SCENARIOS[args.scenario]
    say(f"{args.scenario}: {args.nodes} nodes, {args.symbols} symbols, seed {args.seed}")
    faults: list[Fault] = []
    settled: list[float] = []
    async with cluster(
        args.nodes,
        args.symbols,
        rate=args.rate,
        started=1 if args.scenario in FROM_ONE else None,
        durable=args.scenario in DURABLE,
        env={"CHAOS_OFF": args.off} if args.off else None,
        broker=AT_ONCE if quick else None,
    ) as running:
        try:
            for number in range(args.runs):
                await asyncio.sleep(2.5 + chance.random())  # no move follows another at once
                fault = await scenario(running, chance)
                faults.append(fault)
                settled.append(await running.settled())
                say(f"run {number + 1}: {_line(running, fault)}; settled in {settled[-1]:.1f} s")
                if enough is not None and await enough(running):
                    break
            ops = {} if quick else await operations(running)
            twice = await applied_twice(running)
            differing = [] if quick else await audited(running)
        finally:
            if args.logs:
                _keep_logs(running, Path(args.logs))
        return _found(args, running, faults, settled, differing, twice, ops)


def _gaps(
    history: dict[str, list[Accepted]], symbols: list[str], fault: Fault
) -> tuple[list[float], list[float]]:
    """Of the symbols that were hit, and of the others."""
    gaps = {s: gap_s(history[s], fault.began_s, fault.ended_s) for s in symbols}
    return (
        [gap for symbol, gap in gaps.items() if symbol in fault.hit],
        [gap for symbol, gap in gaps.items() if symbol not in fault.hit],
    )


def _any_write_gaps(running: Cluster, faults: list[Fault]) -> list[float]:
    """The same gaps, were a report of the same records again a report."""
    found = []
    for fault in faults:
        for symbol in fault.hit:
            heard = [w.heard_s for w in running.observer.writes[symbol]]
            spans = [b - a for a, b in pairwise(heard) if b > fault.began_s and a < fault.ended_s]
            found.append(max(spans, default=fault.ended_s - fault.began_s))
    return found


def _line(running: Cluster, fault: Fault) -> str:
    hit, others = _gaps(running.history(), running.symbols, fault)
    told = "".join(f", {name} {value}" for name, value in fault.told.items())
    return (
        f"{len(hit)} symbols hit, gap {max(hit, default=0):.3f} s,"
        f" others {max(others, default=0):.3f} s{told}"
    )


def _found(
    args: argparse.Namespace,
    running: Cluster,
    faults: list[Fault],
    settled: list[float],
    differing: list[str],
    twice: int,
    ops: dict[str, float],
) -> dict[str, Any]:
    history = running.history()
    gaps = [_gaps(history, running.symbols, fault) for fault in faults]
    handovers = [
        gap
        for fault in faults
        for writes in history.values()
        for gap in handovers_s(writes, fault.began_s, fault.ended_s)
    ]
    verdict = judged(history, fenced_reader=args.scenario == "redis-stale-replica")
    made = calls(running.folder)
    verdict.overdue, verdict.regranted = overdue(made, LEASE_TTL_S), regranted(made)
    told: dict[str, list[Any]] = {}
    for fault in faults:
        for name, value in fault.told.items():
            told.setdefault(name, []).append(value)
    return {
        "scenario": args.scenario,
        "runs": len(faults),
        "nodes": args.nodes,
        "symbols": args.symbols,
        "seed": args.seed,
        "gap_s": spread(gap for hit, _ in gaps for gap in hit),
        "handover_s": spread(handovers),
        "handovers": len(handovers),
        "any_write_gap_s": spread(_any_write_gaps(running, faults)),
        "others_gap_s": spread(gap for _, others in gaps for gap in others),
        "stale_accepted": verdict.stale,
        "duplicate_accepted": verdict.duplicate,
        "regranted": verdict.regranted,
        "overdue_sent": verdict.overdue,
        "applied_twice": twice,
        "lost": len(differing),
        "settled_s": spread(settled),
        "redis_ops_per_s": ops,
        **told,
        "well": verdict.well() and not differing and not twice,
    }


TWICE = ("duplicate_records", "duplicate_trades", "stale_feed", "gap.feed_seq")


async def applied_twice(running: Cluster) -> int:
    """Records that engines were given again, or missed, by the nodes' own counts."""
    found = 0.0
    for node in running.running():
        metrics = await node.metrics()
        found += sum(
            value
            for name, value in metrics.items()
            if "_events_total" in name and any(f'event="{what}"' in name for what in TWICE)
        )
    return int(found)


AUDITED = 20
"""Most symbols that are audited: each takes seconds."""

OPS_S = 5.0


async def operations(running: Cluster) -> dict[str, float]:
    """Commands a second that clients send to Redis while nothing happens, by name."""
    before = _commands(running)
    await asyncio.sleep(OPS_S)
    after = _commands(running)
    rates = {name: (count - before.get(name, 0)) / OPS_S for name, count in after.items()}
    # What the observer asks is not the workers'; what scripts do inside is no round trip.
    asked = {n: r for n, r in rates.items() if n in ("evalsha", "eval", "pubsub|numsub", "ping")}
    return {"all": round(sum(asked.values())), **{n: round(r, 1) for n, r in asked.items() if r}}


def _commands(running: Cluster) -> dict[str, int]:
    found = {}
    for line in running.store.call("INFO", "commandstats").splitlines():
        name, _, values = line.partition(":")
        if name.startswith("cmdstat_"):
            found[name.removeprefix("cmdstat_")] = int(values.split(",")[0].removeprefix("calls="))
    return found


async def audited(running: Cluster) -> list[str]:
    """Symbols whose report is not what the topic's records make: something was lost, or twice."""
    differing = []
    step = -(-len(running.symbols) // AUDITED)
    for symbol in running.symbols[::step]:
        lines: list[str] = []
        child = ChildProcess(
            "audit",
            [sys.executable, "-m", "tapeline.cli", "audit", symbol, "--json"],
            env=_environment(running),
            on_line=lambda _name, line, lines=lines: lines.append(line),  # type: ignore[misc]
        )
        await child.start()
        if await child.wait() != 0:
            differing.append(symbol)
            say(f"audit of {symbol}: {' '.join(lines)[-400:]}")
    return differing


def _environment(running: Cluster) -> dict[str, str]:
    import os

    store = f"redis://{LOOPBACK}:{running.store.port}/0"
    root = str(Path(__file__).parents[2])
    return {**os.environ, **running.base, "REDIS_URL": store, "PYTHONPATH": root}


def _keep_logs(running: Cluster, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for node in running.nodes:
        (folder / f"{node.name}.log").write_text("\n".join(node.lines), "utf-8")
    history = {
        symbol: [(w.heard_s, w.token, w.seq, w.watermark, w.lease) for w in writes]
        for symbol, writes in running.history().items()
    }
    (folder / "history.json").write_text(json.dumps(history), "utf-8")
