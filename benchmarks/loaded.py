"""A real worker under a live load: what the measurements of a running system share."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.feeder import DONE, READY
from benchmarks.machine import ROOT
from benchmarks.servers import Bench, metrics_text, samples, total
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program

ANSWER_S = 60.0


@dataclass(slots=True)
class Loaded:
    """A worker that reads what a feeder writes.

    Attributes:
        env: What the worker was told.
        told: What the feeder says at its end.
    """

    env: dict[str, str]
    worker: ChildProcess
    feeder: ChildProcess
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics_port(self) -> int:
        """Of the worker."""
        return int(self.env["NT_METRICS_PORT"])

    async def fed(self) -> dict[str, Any]:
        """What the feeder says, once it is done.

        Raises:
            RuntimeError: It failed, or the worker did.
        """
        async with asyncio.timeout(ANSWER_S):
            status = await self.feeder.wait()
        if status != 0 or not self.worker.running:
            raise RuntimeError(f"feeder: {self.feeder.tail()}\nworker: {self.worker.tail()}")
        return self.told


@asynccontextmanager
async def loaded(
    bench: Bench, symbols: int, rate: int, seconds: float, out: Path
) -> AsyncIterator[Loaded]:
    """The worker, and the standard mix on its way to it: each symbol has its book.

    Args:
        rate: Events a second, all symbols.
        out: Where the feeder leaves each record's offset and time.
    """
    env = bench.environment()
    ready = asyncio.Event()

    def on_line(_name: str, line: str) -> None:
        if line == READY:
            ready.set()
        elif line.startswith(DONE):
            system.told.update(json.loads(line.removeprefix(DONE)))

    feeder = ChildProcess(
        "feeder",
        [
            *(sys.executable, "-m", "benchmarks.feeder"),
            *("--kafka", bench.servers.kafka_url.removeprefix("kafka://")),
            *("--topic", bench.topic, "--out", str(out)),
            *("--symbols", str(symbols), "--rate", str(rate)),
            *("--seconds", str(seconds)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        on_line=on_line,
    )
    system = Loaded(env, program("worker", env=env), feeder)
    try:
        await system.worker.start()
        await system.worker.wait_ready(lambda: _reads(system.metrics_port), ANSWER_S)
        await feeder.start()
        async with asyncio.timeout(ANSWER_S):
            await ready.wait()
        yield system
    finally:
        await feeder.stop(grace_s=0)
        await system.worker.stop(grace_s=5)


async def _reads(port: int) -> bool:
    """Whether the worker has its partitions."""
    found = samples(await metrics_text(port))
    return total(found, "nt_symbols_assigned") > 0
