"""One consumer's run over a prefilled topic: start it, time it, see what it costs, end it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.machine import PEERS_PYTHON, ROOT, cpu_seconds, memory_mb
from benchmarks.peers.meter import DONE, FIRST
from benchmarks.servers import Bench, metrics_text, samples, total
from tapeline.errors import StackError
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program

START_S = 120.0
"""Longest from a program's start to its first batch."""

LATE_S = 30.0
POLL_S = 0.1
SELDOM_S = 1.0


class ConsumerFailed(Exception):
    """A consumer did not get to its end; the message says why."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """Something that reads the topic.

    Attributes:
        name: Whose figure it is, such as ``quix``.
        label: For people.
        handler: What it does with a record.
        module: Its runner; "" for the real worker.
        peer: Whether it runs in the peers' environment.
    """

    name: str
    label: str
    handler: str
    module: str = ""
    peer: bool = False

    @property
    def key(self) -> str:
        """Name and handler."""
        return f"{self.name}:{self.handler}"


@dataclass(slots=True)
class Run:
    """What one run showed.

    Attributes:
        records: Done behind the first batch.
        seconds: From the first batch to the last.
        cpu: Processor time a second, of the consumer; 1.0 is one core.
        broker_cpu: The same of the broker.
        rss_max_mb: The consumer's memory at its most.
        start_s: From its start to its first batch.
        detail: What else it told.
    """

    records: int
    seconds: float
    cpu: float
    broker_cpu: float
    rss_max_mb: float
    start_s: float
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Records a second."""
        return self.records / self.seconds if self.seconds > 0 else 0.0


async def run(consumer: Consumer, bench: Bench, records: int, seconds_max: float) -> Run:
    """One run, all of the topic or ``seconds_max`` of it, under a group of its own.

    Raises:
        ConsumerFailed: It did not start, or not get to its end, or got something wrong.
    """
    group = f"{bench.name}-{consumer.name}-{time.monotonic_ns() % 10**9}"
    measure = _measure_runner if consumer.module else _measure_worker
    await bench.apply_topics(group)
    try:
        return await measure(consumer, bench, group, records, seconds_max)
    except StackError as error:
        raise ConsumerFailed(str(error)) from error
    finally:
        await bench.delete_topics(group)


# --- a runner that times itself ------------------------------------------------------------------


async def _measure_runner(
    consumer: Consumer, bench: Bench, group: str, records: int, seconds_max: float
) -> Run:
    first, done = asyncio.Event(), asyncio.Event()
    broker = bench.servers.broker_pid
    seen: dict[str, Any] = {}

    def on_line(_name: str, line: str) -> None:
        if line == FIRST:
            seen["broker"] = cpu_seconds(broker)
            first.set()
        elif line.startswith(DONE):
            seen["done"] = json.loads(line.removeprefix(DONE))
            seen["broker"] = cpu_seconds(broker) - seen["broker"]
            done.set()

    with tempfile.TemporaryDirectory(prefix="tapeline-peer-") as state:
        child = ChildProcess(
            consumer.key,
            [
                str(PEERS_PYTHON) if consumer.peer else sys.executable,
                "-m",
                f"benchmarks.peers.{consumer.module}",
                *("--kafka", bench.servers.kafka_url.removeprefix("kafka://")),
                *("--topic", bench.topic),
                *("--partitions", str(bench.partitions)),
                *("--group", group),
                *("--handler", consumer.handler),
                *("--records", str(records)),
                *("--seconds", str(seconds_max)),
                *("--state-dir", state),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            cwd=state,
            on_line=on_line,
        )
        began = time.perf_counter()
        await child.start()
        try:
            await _until(first, child, START_S, "no first batch")
            start_s = time.perf_counter() - began
            await _until(done, child, seconds_max + LATE_S, "no end")
        finally:
            await child.stop(grace_s=0)
    told = seen["done"]
    if told.get("problems"):
        raise ConsumerFailed(f"its engines found {told['problems']}")
    return Run(
        records=told.pop("records"),
        seconds=told["seconds"],
        cpu=told.pop("cpu"),
        broker_cpu=seen["broker"] / told.pop("seconds"),
        rss_max_mb=told.pop("rss_max_mb"),
        start_s=start_s,
        detail=told,
    )


async def _until(event: asyncio.Event, child: ChildProcess, timeout_s: float, what: str) -> None:
    waiting = asyncio.create_task(event.wait())
    ended = asyncio.create_task(child.wait())
    try:
        await asyncio.wait({waiting, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        # Its last line may still be in the pipe when it has ended.
        if not event.is_set():
            state = f"ended with {child.returncode}" if not child.running else f"{timeout_s:g} s"
            raise ConsumerFailed(f"{what} ({state}); its last lines:\n{child.tail()[-2000:]}")
    finally:
        waiting.cancel()
        ended.cancel()


# --- the real worker, seen through its metrics -----------------------------------------------------

APPLIED = "tapeline_records_applied_total"
WRONG: dict[str, Callable[[dict[str, float]], float]] = {
    "dead letters": lambda found: total(found, "tapeline_dead_letters_total"),
    "engine events": lambda found: total(found, "tapeline_engine_events_total"),
    "leases lost": lambda found: total(found, "tapeline_leases_lost_total"),
    "refused writes": lambda found: total(found, "tapeline_publish_failures_total"),
}
"""What must be zero at the end of a run."""


async def _measure_worker(
    consumer: Consumer, bench: Bench, group: str, records: int, seconds_max: float
) -> Run:
    await bench.forget_reports()
    env = bench.environment(group, NT_CLOCK="records", **bench.env)
    port = int(env["NT_METRICS_PORT"])
    child = program("worker", env=env, label=consumer.key)
    began = time.perf_counter()
    await child.start()
    try:
        first, found = await _sample(child, port, began + START_S, at_least=1)
        start_s = time.perf_counter() - began
        cpu, broker = cpu_seconds(child.pid), cpu_seconds(bench.servers.broker_pid)
        done_at_first, first_at = total(found, APPLIED), first
        last, found = await _sample(child, port, first + seconds_max, at_least=records)
        seconds = last - first_at
        cpu = (cpu_seconds(child.pid) - cpu) / seconds
        broker = (cpu_seconds(bench.servers.broker_pid) - broker) / seconds
        wrong = {name: count(found) for name, count in WRONG.items() if count(found)}
        if wrong:
            raise ConsumerFailed(f"the worker counted {wrong}\n{child.tail()[-2000:]}")
        return Run(
            records=int(total(found, APPLIED) - done_at_first),
            seconds=seconds,
            cpu=round(cpu, 3),
            broker_cpu=broker,
            rss_max_mb=round(memory_mb(child.pid, "VmHWM"), 1),
            start_s=start_s,
            detail={
                "reports": int(total(found, "nt_reports_published_total")),
                "checkpoints": int(total(found, "tapeline_checkpoints_total")),
                "checkpoint_bytes": int(total(found, "tapeline_checkpoint_bytes_total")),
                "cycles_skipped": int(total(found, "tapeline_cycles_skipped_total")),
            },
        )
    finally:
        await child.stop(grace_s=5)


async def _sample(
    child: ChildProcess, port: int, deadline: float, *, at_least: int
) -> tuple[float, dict[str, float]]:
    """The first look at the metrics that shows so many records applied, or the last one in time.

    A look costs the worker some milliseconds: ten a second only near the end, one before.
    """
    began: tuple[float, float] | None = None
    while True:
        found = samples(await metrics_text(port))
        now = time.perf_counter()
        done = total(found, APPLIED)
        if done >= at_least or (at_least > 1 and found and now >= deadline):
            return now, found
        if not child.running or now >= deadline + LATE_S:
            raise ConsumerFailed(f"no end of it; its last lines:\n{child.tail()[-2000:]}")
        wait_s = POLL_S
        if found and at_least > 1:
            if began is None:
                began = now, done
            elif done > began[1]:
                left_s = (at_least - done) * (now - began[0]) / (done - began[1])
                wait_s = min(SELDOM_S, max(POLL_S, left_s * 0.9))
        await asyncio.sleep(wait_s)
