"""Half an hour with a restart of everything, and more load than one worker can take.

    python -m tests.soak [--minutes 30] [--rate 5000] [--restart-every-s 180] [--json] [--plot FILE]
    python -m tests.soak overload [--factor 3] [--seconds 120] [--json] [--plot FILE]

A real Kafka and a real Redis that keeps its data, the simulated exchange, and the product's own
processes. Exit status 1 where a claim fails; one that this machine can't tell of is called "not
shown", and is neither.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import mix
from tests.soak.alarms import RULES
from tests.soak.house import PARTITIONS, SHORT_SEGMENTS
from tests.soak.venue import BASES, SYMBOL_S

WARM_UP_MINUTES = 30.0
"""The longest window: until it is full, state grows."""


def soak_options() -> argparse.ArgumentParser:
    """Of the soak."""
    options = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    options.add_argument("--minutes", type=float, default=30.0, help="with restarts")
    options.add_argument(
        "--warm-up-minutes",
        type=float,
        default=WARM_UP_MINUTES,
        help="before, without: windows of 30 minutes fill",
    )
    options.add_argument("--rate", type=float, default=5000.0, help="records a second, all symbols")
    options.add_argument(
        "--restart-every-s", type=float, default=180.0, help="each component once in this time"
    )
    options.add_argument("--symbols", type=int, default=15, help=f"at most {len(BASES)}")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--bridges", type=int, default=1)
    options.add_argument(
        "--rate-within", type=float, default=0.95, help="share of the rate that must be reached"
    )
    options.add_argument("--rules", default=str(RULES), help="alert rules for Prometheus")
    options.add_argument(
        "--alerts-quiet-s",
        type=float,
        default=1200.0,
        help="how long alerts may take to fall silent behind the last restart: rules look back",
    )
    options.set_defaults(flow_symbol_s=SYMBOL_S)
    _common(options)
    return options


def overload_options() -> argparse.ArgumentParser:
    """Of the overload."""
    options = argparse.ArgumentParser(prog="python -m tests.soak overload", description=__doc__)
    options.add_argument("--factor", type=float, default=3.0, help="of what one worker can take")
    options.add_argument("--seconds", type=float, default=120.0)
    options.add_argument(
        "--burn-us",
        type=float,
        default=150.0,
        help="what a record costs the worker more, so that this machine can write three times as much",
    )
    options.add_argument("--symbols", type=int, default=len(mix.MARKETS))
    options.add_argument("--baseline-s", type=float, default=30.0, help="of idling before")
    options.add_argument("--calibration-s", type=float, default=8.0)
    _common(options)
    options.set_defaults(period_s=1.0)
    return options


def _common(options: argparse.ArgumentParser) -> None:
    options.add_argument("--partitions", type=int, default=PARTITIONS, help="of the events topic")
    options.add_argument("--period-s", type=float, default=5.0, help="between two looks")
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--plot", default="", help="an SVG file to write")
    options.add_argument("--keep", default="", help="a folder for logs and figures")
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options.set_defaults(broker=SHORT_SEGMENTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    overload = words[:1] == ["overload"]
    args = (overload_options() if overload else soak_options()).parse_args(words[overload:])
    if args.seed is None:
        args.seed = random.randrange(10**6)
    if overload:
        from tests.soak.overload import run as work
    else:
        from tests.soak.run import run as work
    found: dict[str, Any] = asyncio.run(work(args))
    if args.json:
        print(json.dumps(found))
    return 0 if found["well"] else 1


if __name__ == "__main__":
    sys.exit(main())
