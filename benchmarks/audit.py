"""Live reports of a worker under load, each computed once more from the topic.

    python -m benchmarks audit [--times 100] [--symbols 15] [--rate 5000] [--json]

``tapeline audit`` as an operator runs it, beside a real worker on a real Kafka that reads the
standard mix while it is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import mix
from benchmarks.latency import PARTITIONS, WARM_UP_S, spread
from benchmarks.loaded import loaded
from benchmarks.machine import described, machine, versions
from benchmarks.servers import Bench, servers

TIMES = 100
SYMBOL = "BTCUSDT"
AUDIT_S_MAX = 12.0
"""Of one audit: how long the load has to last."""


async def measured(times: int, symbols: int, rate: int) -> dict[str, Any]:
    """Verdicts of that many audits, and what they took."""
    about: dict[str, Any] = {"machine": machine(), "versions": versions()}
    async with servers() as running:
        bench = Bench(running, mix.listings(symbols), PARTITIONS)
        with tempfile.TemporaryDirectory(prefix="tapeline-bench-") as folder:
            async with (
                bench.topics(),
                loaded(
                    bench, symbols, rate, WARM_UP_S + times * AUDIT_S_MAX, Path(folder) / "records"
                ) as system,
            ):
                await asyncio.sleep(WARM_UP_S)
                body = await _audited(times, system.env)
                if not (system.worker.running and system.feeder.running):
                    raise SystemExit("audit: the load ended before the audits did")
        about["broker"] = running.broker
    audits = body.pop("audits")
    return {
        **body,
        "times": times,
        "symbols": symbols,
        "rate": rate,
        "records": spread([float(one["records"]) for one in audits], digits=0),
        "seconds": spread([float(one["seconds"]) for one in audits], digits=2),
        **about,
    }


async def _audited(times: int, env: dict[str, str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tapeline.cli", "audit", SYMBOL),
        *("--times", str(times), "--json"),
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = out.decode().splitlines()
    if not lines:
        raise SystemExit(f"audit: it ended with {process.returncode} and said nothing")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 where a report differs from the topic's."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=TIMES)
    options.add_argument("--symbols", type=int, default=len(mix.MARKETS))
    options.add_argument("--rate", type=int, default=5_000, help="events a second, all symbols")
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args(argv)
    found = asyncio.run(measured(args.times, args.symbols, args.rate))
    print(
        f"{found['equal']} of {args.times} reports of {SYMBOL} equal, {args.symbols} symbols at "
        f"{args.rate:,} events/s; {described(found['machine'])}",
        file=sys.stderr,
    )
    for name in ("records", "seconds"):
        print(f"{name:<10} {found[name]}", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    return 0 if found["equal"] == args.times else 1


if __name__ == "__main__":
    raise SystemExit(main())
