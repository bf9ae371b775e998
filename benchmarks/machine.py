"""The machine, the versions, and what processes cost: read from the system, no library."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEERS_PYTHON = ROOT / ".cache" / "venv-bench" / "bin" / "python"
CRYPTOFEED_PYTHON = ROOT / ".cache" / "venv-cryptofeed" / "bin" / "python"

_OURS = ("faust-streaming", "aiokafka", "msgspec", "numpy", "orjson", "redis")
_PEERS = ("quixstreams", "bytewax", "confluent-kafka", "msgspec", "numpy")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "loop_s": round(loop_seconds(), 2),
    }


def loop_seconds() -> float:
    """How long ten million additions take: how fast these cores are just now.

    Shared cores change their speed by half and more while nothing runs that one could see.
    """
    began, total = time.perf_counter(), 0
    for n in range(10_000_000):
        total += n
    return time.perf_counter() - began


def described(found: dict[str, Any]) -> str:
    """The same in a sentence, for the documentation."""
    load = found["load_before"][0]
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gb']} GB, {found['system']}, "
        f"Python {found['python']}, load {load} before the run, ten million additions in "
        f"{found.get('loop_s', '?')} s"
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def versions() -> dict[str, str]:
    """Of what the product's environment measures."""
    found = {}
    for name in _OURS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def peers_ready(name: str = "bench") -> str:
    """Make an environment of peers; why there is none, "" where there is one."""
    made = subprocess.run(
        [str(ROOT / "requirements" / "bench.sh"), name],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode == 0:
        return ""
    lines = made.stderr.strip().splitlines() or ["no reason given"]
    return f"requirements/bench.sh: {lines[-1]}"


def peer_versions() -> dict[str, str]:
    """Of what the peers' environment holds; none where it has not been made."""
    if not PEERS_PYTHON.exists():
        return {}
    ask = "import sys, importlib.metadata as m; print(*(m.version(n) for n in sys.argv[1:]))"
    asked = subprocess.run(
        [str(PEERS_PYTHON), "-c", ask, *_PEERS], capture_output=True, text=True, check=False
    )
    return dict(zip(_PEERS, asked.stdout.split(), strict=False))


def cpu_seconds(pid: int | None) -> float:
    """Processor time a process has used so far, its threads included; 0 where nobody tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS_PER_S


def waited_seconds(pid: int | None) -> float:
    """Time a process's threads have been ready to run while others had the cores; 0 if unknown."""
    waited_ns = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            waited_ns += int(thread.read_text(encoding="utf-8").split()[1])
    return waited_ns / 1e9


def memory_mb(pid: int | None, field: str = "VmRSS") -> float:
    """Resident memory of a process now, or at its most (``VmHWM``); 0 where nobody tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)
