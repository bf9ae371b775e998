"""How fast a topic is replayed, and that every replay of it gives the same bytes.

    python -m benchmarks replay [--records 2000000] [--json]

`tapeline replay --json` of a topic that holds the standard mix, all of it, reports at 4 Hz of
record time and their digest included: with one process, with two, and with one again, each a
process as a user starts it. Its figure is records over its own time, start-up included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any

from benchmarks import mix
from benchmarks.commands import json_of
from benchmarks.machine import ROOT, described, machine
from benchmarks.servers import Bench, servers

PARTITIONS = 16
GOAL_PER_S = 100_000
RUNS = (1, 2, 1)
TIMEOUT_S = 900.0


def replay(env: dict[str, str], workers: int) -> dict[str, Any]:
    """One replay's summary, and how long the command took."""
    began = time.perf_counter()
    found = json_of(
        "replay:",
        [sys.executable, "-m", "tapeline.cli", "replay", "--json", "--workers", str(workers)],
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        timeout_s=TIMEOUT_S,
    )
    found["command_s"] = round(time.perf_counter() - began, 3)
    return found


async def measured(records: int) -> dict[str, Any]:
    """Fill a topic, replay it."""
    made = mix.cached(records)
    runs = []
    async with servers() as running:
        bench = Bench(running, made.listings, PARTITIONS)
        async with bench.topics():
            print("replay: filling the topic", file=sys.stderr)
            await bench.fill(made)
            env = bench.environment("replay")
            for workers in RUNS:
                found = await asyncio.to_thread(replay, env, workers)
                runs.append(
                    {
                        "workers": workers,
                        "records_per_s": round(found["records"] / found["command_s"]),
                        "reports": found["reports"],
                        "failed": found["failed"],
                        "digest": found["digest"],
                        "seconds": found["command_s"],
                    }
                )
                print(
                    f"{workers} process{'es' if workers > 1 else ''}: "
                    f"{runs[-1]['records_per_s']:,} records/s, digest {found['digest'][:16]}",
                    file=sys.stderr,
                )
    return {
        "records": records,
        "runs": runs,
        "same": len({run["digest"] for run in runs}) == 1 and not any(r["failed"] for r in runs),
        "machine": machine(),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, and print; 1 where the goal is not reached or digests differ."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--records", type=int, default=mix.RECORDS)
    options.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = options.parse_args(argv)
    found = asyncio.run(measured(args.records))
    print(described(found["machine"]), file=sys.stderr)
    print(f"same bytes each time: {found['same']}; goal {GOAL_PER_S:,} records/s", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    reached = max(run["records_per_s"] for run in found["runs"]) >= GOAL_PER_S
    return 0 if reached and found["same"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
