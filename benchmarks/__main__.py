"""``python -m benchmarks [NAME [OPTIONS]]``: one benchmark, or all of them in turn.

``python -m benchmarks all [RECORDING ...]`` gives those that can read a recording one. What they
find is kept in ``.cache/benchmarks/results``; ``python -m benchmarks docs`` writes it into
``docs/benchmarks.md``.
"""

from __future__ import annotations

import sys

from benchmarks import (
    bridge,
    cold_start,
    docs,
    engine,
    latency,
    memory,
    replay,
    results,
    simulator_likeness,
    subscribe,
    throughput,
)

BENCHMARKS: dict[str, results.Main] = {
    "engine": engine.main,
    "bridge": bridge.main,
    "simulator_likeness": simulator_likeness.main,
    "throughput": throughput.main,
    "latency": latency.main,
    "cold_start": cold_start.main,
    "memory": memory.main,
    "replay": replay.main,
    "subscribe": subscribe.main,
}

ALL: dict[str, tuple[str, list[str]]] = {
    "engine": ("engine", []),
    "bridge": ("bridge", []),
    "simulator_likeness": ("simulator_likeness", []),
    "throughput": ("throughput", []),
    "latency": ("latency", []),
    "latency_200_symbols": ("latency", ["--symbols", "200", "--rate", "10000"]),
    "latency_100_ms": ("latency", ["--symbols", "50", "--period-ms", "100"]),
    "cold_start": ("cold_start", []),
    "memory": ("memory", []),
    "replay": ("replay", []),
    "subscribe": ("subscribe", []),
}
"""What `all` runs, by the name its result is kept under."""

TAKE_RECORDINGS = {"engine", "bridge", "simulator_likeness", "throughput"}


def kept_as(name: str, argv: list[str]) -> str:
    """Under which name a result is kept: the loads of one benchmark are told apart."""
    plain = [word for word in argv if word != "--json"]
    for key, (of, options) in ALL.items():
        if of == name and options and plain[: len(options)] == options:
            return key
    return name


def run_all(recordings: list[str]) -> int:
    """Each in turn; the highest exit status."""
    status = 0
    for key, (name, options) in ALL.items():
        print(f"== {' '.join([name, *options])}", file=sys.stderr)
        argv = [*options, *(recordings if name in TAKE_RECORDINGS else [])]
        status = max(status, results.run_and_keep(key, name, BENCHMARKS[name], argv))
    return status


def main(argv: list[str]) -> int:
    name, *options = argv or ["all"]
    if name == "all":
        return run_all(options)
    if name == "docs":
        return docs.main(options)
    if name not in BENCHMARKS:
        expected = ", ".join([*BENCHMARKS, "all", "docs"])
        print(f"no benchmark {name!r}; expected one of {expected}", file=sys.stderr)
        return 2
    if "-h" in options or "--help" in options:
        return BENCHMARKS[name](options)
    return results.run_and_keep(kept_as(name, options), name, BENCHMARKS[name], options)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
