"""Faults on real processes: ``python -m tests.chaos SCENARIO [--runs N] [--json]``.

A real Kafka with stock settings, a real Redis, real workers behind TCP proxies, a feeder of 40
events a second a symbol, and an observer that hears every accepted report. A gap is the longest
time, on the observer's monotonic clock, between accepted reports of a symbol whose source offset
advanced.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from typing import Any

from tests.chaos.run import run
from tests.chaos.scenarios import SCENARIOS


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--symbols", type=int, default=15)
    parser.add_argument("--rate", type=int, default=40, help="events a second of each symbol")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--off", default="", help="safeguards to take away, by name")
    parser.add_argument("--logs", default="", help="a folder for the workers' logs")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser


def main() -> int:
    args = options().parse_args()
    if args.seed is None:
        args.seed = random.randrange(10**6)
    found: dict[str, Any] = asyncio.run(run(args))
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:20} {value}", file=sys.stderr)
    return 0 if found["well"] else 1


if __name__ == "__main__":
    sys.exit(main())
