"""Two bridges, three venues with faults: ``python -m tests.feeds [--minutes 10] [--json]``.

A real Kafka, a real Redis, the simulated exchange and two bridges, each a process of its own. Faults
strike by chance; the bridge that writes is killed and stopped in turn. Each round ends in quiet: the
markets stand still, and the books that an engine has built off the topic are compared with the
venues' own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from typing import Any

from tests.feeds.run import run


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.feeds", description=__doc__)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--rate", type=float, default=20.0, help="events a second of each symbol")
    options.add_argument(
        "--rules", nargs="*", default=["all%0.001"], help="faults, as docs/simulator.md has them"
    )
    options.add_argument("--faults-s", type=float, default=45.0, help="of each round")
    options.add_argument(
        "--quiet-s", type=float, default=33.0, help="then: longer than a socket stays silent"
    )
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = options.parse_args()
    if args.seed is None:
        args.seed = random.randrange(10**6)
    found: dict[str, Any] = asyncio.run(run(args))
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:16} {value}", file=sys.stderr)
    return 0 if found["well"] else 1


if __name__ == "__main__":
    sys.exit(main())
