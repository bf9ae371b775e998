"""What is seen of a running house from outside, every few seconds: memory, lag, ages, counters."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from benchmarks.machine import cpu_seconds, memory_mb
from benchmarks.servers import metrics_text, samples
from streams.topics import bootstrap_servers
from tests.soak.claims import say
from tests.soak.house import TOPIC, House
from tests.soak.memory import Resident

PERIOD_S: Final = 5.0
AGE_PERIOD_S: Final = 1.0
ENDS_S: Final = 3.0
METRICS_S: Final = 3.0

COUNTED: Final = {
    "reports_published": "nt_reports_published_total",
    "cycles_skipped": "tapeline_cycles_skipped_total",
    "dead_letters": "tapeline_dead_letters_total",
    "records_skipped": "tapeline_records_skipped_total",
    "records_applied": "tapeline_records_applied_total",
    "stalls": "tapeline_stalls_total",
}
"""Of a worker, summed over labels."""

TWICE: Final = ("duplicate_records", "duplicate_trades", "stale_feed", "gap.feed_seq")
"""What an engine notices where a record comes again, or one does not come."""


class Age(NamedTuple):
    """One look through the reader.

    Attributes:
        ms: Of the oldest symbol's newest data; None where the reader does not answer.
        stale: Symbols that it calls stale.
        missing: Symbols without a report, or without data.
        down: Symbols whose report says ``ingestion.status`` ``down``; ``degraded``: likewise.
    """

    at_s: float
    ms: int | None
    stale: int = 0
    missing: int = 0
    down: int = 0
    degraded: int = 0


class Lag(NamedTuple):
    """Records on the topic that no worker has applied yet, all partitions."""

    at_s: float
    records: int


@dataclass(slots=True)
class Seen:
    """All looks of a run.

    Attributes:
        memory: By process.
        ages, lags: In the order of time; while something is away there are none.
        counts: By (process, pid): counters of workers, as they stood last.
        applied: (time, records applied by all workers that answered).
        cpu: By (process, pid): (first look, processor seconds then, last look, then).
    """

    memory: dict[str, list[Resident]] = field(default_factory=lambda: defaultdict(list))
    ages: list[Age] = field(default_factory=list)
    lags: list[Lag] = field(default_factory=list)
    counts: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    ends: list[tuple[float, int]] = field(default_factory=list)
    cpu: dict[tuple[str, int], tuple[float, float, float, float]] = field(default_factory=dict)

    def counted(self, name: str) -> int:
        """Of all workers and all their lives."""
        return int(sum(each.get(name, 0.0) for each in self.counts.values()))

    def cores(self) -> dict[str, float]:
        """Processor seconds a second of each process, over all its lives."""
        used: dict[str, float] = defaultdict(float)
        spans: dict[str, float] = defaultdict(float)
        for (name, _), (begin_s, before, end_s, after) in self.cpu.items():
            used[name] += after - before
            spans[name] += end_s - begin_s
        return {name: round(used[name] / span, 2) for name, span in spans.items() if span}


class Watcher:
    """Looks until it is cancelled."""

    def __init__(self, house: House, period_s: float = PERIOD_S) -> None:
        self.seen = Seen()
        self._house, self._period_s = house, period_s
        self._consumer: AIOKafkaConsumer | None = None

    async def run(self) -> None:
        """Everything, each at its own pace."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ages())
            group.create_task(self._rest())

    async def _ages(self) -> None:
        house = self._house
        while True:
            began = time.monotonic()
            self.seen.ages.append(await age_of(house))
            await asyncio.sleep(max(0.05, AGE_PERIOD_S - (time.monotonic() - began)))

    async def _rest(self) -> None:
        try:
            while True:
                began = time.monotonic()
                try:
                    self._processes()
                    await self._lag(await self._workers())
                except Exception as error:
                    # A look that fails while half of the house is away must not end the run.
                    say(f"a look has failed: {error!r}")
                await asyncio.sleep(max(0.05, self._period_s - (time.monotonic() - began)))
        finally:
            if self._consumer is not None:
                await self._consumer.stop()

    def _processes(self) -> None:
        now_s = self._house.now_s
        for name, pid in self._house.pids().items():
            mb = memory_mb(pid)
            if not mb:
                continue
            self.seen.memory[name].append(Resident(now_s, mb))
            used = cpu_seconds(pid)
            first_s, first, *_ = self.seen.cpu.get((name, pid), (now_s, used))
            self.seen.cpu[name, pid] = (first_s, first, now_s, used)

    async def _workers(self) -> dict[int, int]:
        """Next offset to apply, by partition, of whoever is furthest."""
        reached: dict[int, int] = {}
        for part in self._house.workers():
            if not part.running:
                continue
            found = await worker_samples(part.port)
            if not found:
                continue
            counts = self.seen.counts.setdefault((part.name, part.pid), {})
            counts |= {name: _total(found, family) for name, family in COUNTED.items()}
            for what in TWICE:
                counts[what] = sum(
                    value
                    for name, value in found.items()
                    if "_events_total" in name and f'event="{what}"' in name
                )
            for partition, offset in positions(found).items():
                reached[partition] = max(offset, reached.get(partition, 0))
        return reached

    async def _lag(self, reached: dict[int, int]) -> None:
        ends = await self._ends(reached)
        if ends is not None and reached:
            now_s = self._house.now_s
            behind = sum(max(0, ends[p] - offset) for p, offset in reached.items() if p in ends)
            self.seen.lags.append(Lag(now_s, behind))
            self.seen.ends.append((now_s, sum(ends.values())))

    async def _ends(self, partitions: Iterable[int]) -> dict[int, int] | None:
        tps = [TopicPartition(TOPIC, partition) for partition in partitions]
        if not tps:
            return None
        try:
            async with asyncio.timeout(ENDS_S):
                if self._consumer is None:
                    self._consumer = AIOKafkaConsumer(
                        bootstrap_servers=bootstrap_servers(self._house.kafka.url)
                    )
                    await self._consumer.start()
                found: dict[Any, int] = await self._consumer.end_offsets(tps)
        except (KafkaError, TimeoutError, OSError):
            await self._forget_consumer()
            return None
        return {tp.partition: end for tp, end in found.items()}

    async def _forget_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(KafkaError, TimeoutError, OSError):
                async with asyncio.timeout(ENDS_S):
                    await consumer.stop()


async def age_of(house: House) -> Age:
    """One look through the reader."""
    entries = await house.reports()
    now_s = house.now_s
    if entries is None:
        return Age(now_s, None)
    ages = [one["read"]["data_age_ms"] for one in entries]
    known = [age for age in ages if age is not None]
    states = [(one["report"].get("ingestion") or {}).get("status") for one in entries]
    return Age(
        now_s,
        max(known, default=None),
        stale=sum(bool(one["read"]["stale"]) for one in entries),
        missing=len(house.symbols) - len(known),
        down=states.count("down"),
        degraded=states.count("degraded"),
    )


async def worker_samples(port: int) -> dict[str, float]:
    """A worker's metrics; none where it does not answer in time."""
    try:
        async with asyncio.timeout(METRICS_S):
            return samples(await metrics_text(port))
    except TimeoutError:
        return {}


def positions(found: dict[str, float]) -> dict[int, int]:
    """Next offset to apply, by partition, as a worker's metrics say."""
    name = "tapeline_position{"
    return {
        int(key.partition('partition="')[2].partition('"')[0]): int(value)
        for key, value in found.items()
        if key.startswith(name)
    }


def _total(found: dict[str, float], family: str) -> float:
    return sum(v for k, v in found.items() if k == family or k.startswith(f"{family}{{"))
