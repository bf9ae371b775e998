"""``python -m benchmarks [NAME [OPTIONS]]``: one benchmark, or all of them in turn.

``python -m benchmarks all [RECORDING ...] [VENUE=RECORDING ...]`` gives those that can read a
recording one, Binance's or, by its venue's name, another's. What they
find is kept in ``.cache/benchmarks/results``; ``python -m benchmarks docs`` writes it into
``docs/benchmarks.md``.
"""

from __future__ import annotations

import sys

from benchmarks import (
    audit,
    bridge,
    cold_start,
    dashboard,
    docs,
    engine,
    latency,
    mcp,
    memory,
    readers,
    readers_hub,
    replay,
    results,
    simulator_likeness,
    subscribe,
    throughput,
    venues,
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
    "audit": audit.main,
    "venues": venues.main,
    "readers": readers.main,
    "readers_hub": readers_hub.main,
    "dashboard": dashboard.main,
    "mcp": mcp.main,
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
    "audit": ("audit", []),
    "venues": ("venues", []),
    "readers": ("readers", []),
    "readers_hub": ("readers_hub", []),
    "dashboard": ("dashboard", []),
    "mcp": ("mcp", []),
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
        if name == "venues":
            given = [text for text in recordings if "=" in text]
            if not given:
                continue
        elif name in TAKE_RECORDINGS:
            given = [text for text in recordings if "=" not in text]
        else:
            given = []
        argv = [*options, *given]
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
