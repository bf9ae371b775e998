"""``python -m tests.simulation --seeds N [--first N] [--plan mixed|single|heavy] [--json]``.

Exit status 1 if a seed fails; it is then shrunk and shown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.simulation.faults import BEGIN_S, Plan, heavy, mixed, single
from tests.simulation.run import Result, carry_out, gaps_of
from tests.simulation.shrink import shrunk, told

PROGRESS_S: Final = 5.0
SHOWN: Final = 3
"""So many failing seeds are shrunk and shown; of the rest the number is said."""


def carry_out_single(plan: Plan) -> Result:
    """A run with one fault, of which no symbol may notice much."""
    result = carry_out(plan)
    result.violations += gaps_of(result, BEGIN_S)
    return result


PLANS: Final[dict[str, tuple[Callable[[int], Plan], Callable[[Plan], Result]]]] = {
    "mixed": (mixed, carry_out),
    "heavy": (heavy, carry_out),
    "single": (single, carry_out_single),
}


def main() -> int:
    """Run seeds; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, metavar="N", help="how many")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first")
    parser.add_argument("--plan", choices=sorted(PLANS), default="mixed")
    parser.add_argument("--trace", action="store_true", help="show the trace of every run")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = parser.parse_args()
    plan_of, run = PLANS[args.plan]
    began_s = said_s = time.monotonic()
    failed: list[int] = []
    virtual_s, writes = 0.0, 0
    digest = hashlib.sha256()
    for done, seed in enumerate(range(args.first, args.first + args.seeds)):
        result = run(plan_of(seed))
        virtual_s += result.plan.ends_s
        writes += len(result.history.writes)
        if args.json:
            digest.update(result.digest().encode())
        if args.trace:
            _say("\n".join([*map(str, result.plan.faults), *result.trace]))
        if result.violations:
            failed.append(seed)
            if len(failed) <= SHOWN:
                _say(told(shrunk(result, run)))
        if time.monotonic() - said_s > PROGRESS_S:
            said_s = time.monotonic()
            _say(f"{done + 1} of {args.seeds}, {len(failed)} failed")
    took_s = time.monotonic() - began_s
    _say(
        f"{args.seeds} seeds from {args.first}: {len(failed)} failed {failed[:20] or ''}; "
        f"{virtual_s:.0f} s simulated in {took_s:.1f} s, {writes} writes accepted"
    )
    if args.json:
        found = {
            "plan": args.plan,
            "first": args.first,
            "seeds": args.seeds,
            "failed": failed,
            "simulated_s": round(virtual_s, 1),
            "took_s": round(took_s, 1),
            "writes": writes,
            "digest": digest.hexdigest()[:16],
        }
        print(json.dumps(found))
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
