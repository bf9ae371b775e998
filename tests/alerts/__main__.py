"""Alerts end to end: ``python -m tests.alerts [--scale 20] [--only NAME] [--json]``.

A real Prometheus and a real Alertmanager, on the files of ``deploy/prometheus``, look at a running
system: a Kafka, a Redis, the simulated exchange, a bridge, two workers and a reader, each a process
of its own. One fault after the other is brought about and mended; what the receiver is told of is
timed. ``--scale`` divides ``for``, windows and intervals; ``--scale 1`` is as shipped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from tests.alerts import measure, run
from tests.alerts.faults import FAULTS
from tests.alerts.watch import PROGRAMS, find


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.alerts", description=__doc__)
    parser.add_argument("--scale", type=float, default=20.0, help="how many times faster")
    parser.add_argument(
        "--only", action="append", choices=sorted(FAULTS), help="this fault alone; repeatable"
    )
    parser.add_argument("--healthy-minutes", type=float, default=0.0, help="before all faults")
    parser.add_argument("--healthy-only", action="store_true", help="no fault at all")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="no alerts: count refused writes and assignments in health and in trouble",
    )
    parser.add_argument("--measure-s", type=float, default=60.0, help="of each lasting episode")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser


def main() -> int:
    args = options().parse_args()
    if args.scale < 1:
        options().error("--scale is at least 1")
    mode = measure.measure if args.measure else run.run
    missing = [name for name in PROGRAMS if find(name) is None]
    if missing and not args.measure:
        print(
            f"this machine has no {', '.join(missing)}; see deploy/prometheus/README.md",
            file=sys.stderr,
        )
        return 1
    found: dict[str, Any] = asyncio.run(mode(args))
    print((measure if args.measure else run).table(found), file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    return 0 if found["well"] else 1


if __name__ == "__main__":
    sys.exit(main())
