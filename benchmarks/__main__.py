"""``python -m benchmarks [NAME [OPTIONS]]``: one benchmark, or all of them in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import cold_start, engine, latency, memory, simulator_likeness, throughput

BENCHMARKS: dict[str, Callable[[list[str]], int]] = {
    "engine": engine.main,
    "simulator_likeness": simulator_likeness.main,
    "throughput": throughput.main,
    "latency": latency.main,
    "cold_start": cold_start.main,
    "memory": memory.main,
}


def main(argv: list[str]) -> int:
    if argv and argv[0] not in BENCHMARKS:
        print(f"no benchmark {argv[0]!r}; expected one of {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    if argv:
        return BENCHMARKS[argv[0]](argv[1:])
    status = 0
    for name, run in BENCHMARKS.items():
        print(f"== {name}", file=sys.stderr)
        status = max(status, run([]))
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
