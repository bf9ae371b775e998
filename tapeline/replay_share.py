"""One share of a replay: some symbols, read, computed and written by one process."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from agents.timeline import Plan, Record, Timeline
from streams.capture.records import TapeRecords
from streams.record_time import recv_ms
from streams.topic_reader import Span, TopicReader
from tables.report import Report, encode_report
from tapeline.kafka_access import KafkaAccess
from tapeline.replay_redis import RedisOut

WHOLE: Final = 1 << 40
"""Reports of a replay are never split."""

LOOKAHEAD_S: Final = 2.0
"""Of a paced replay's own time: reports computed before they are due."""

TICK_S: Final = 0.02
TAPE_BATCH: Final = 1000
PROGRESS_S: Final = 0.1

Batch = dict[str, list[Record]]
Progress = Callable[[int, int], None]
"""Told of what is done, and of how much there is: records of a topic, frames of a tape."""


@dataclass(frozen=True, slots=True)
class TopicSource:
    """A range of the events topic.

    Attributes:
        spans: Offsets by partition.
        partition_of: By symbol.
    """

    access: KafkaAccess
    topic: str
    spans: Mapping[int, Span]
    partition_of: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TapeSource:
    """Capture files."""

    venue: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does.

    Attributes:
        venues: By symbol, its primary one first; the symbols of this share.
        speed: 0 for as fast as it goes, else how often faster than the records' own time.
        parts: Folder for one file of reports a symbol; None for none.
        redis_url, prefix: Where reports go as they fall due; an empty prefix for nowhere.
        ttl_ms: Life of what goes there.
    """

    source: TopicSource | TapeSource
    venues: Mapping[str, tuple[str, ...]]
    plan: Plan
    speed: float = 0.0
    parts: Path | None = None
    redis_url: str = ""
    prefix: str = ""
    ttl_ms: int = 300_000


@dataclass(slots=True)
class SymbolOutcome:
    """What a symbol's replay gave.

    Attributes:
        records: Applied within the range; ``warm_up`` before it.
        left_out: Grid times left out in silence.
        failed: Records that could not be applied, by why.
        first_ms, last_ms: Times of the first and the last report.
        digest: SHA-256 over its reports, one a line.
    """

    records: int = 0
    warm_up: int = 0
    reports: int = 0
    left_out: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    first_ms: int | None = None
    last_ms: int | None = None
    digest: str = ""


def part_of(folder: Path, symbol: str) -> Path:
    """Where a symbol's reports are kept until all are done."""
    return folder / f"{symbol}.ndjson"


class _Lane:
    """One symbol: its timeline and where its reports go."""

    def __init__(self, symbol: str, timeline: Timeline, part: BinaryIO | None) -> None:
        self.symbol, self.timeline = symbol, timeline
        self.records = self.warm_up = 0
        self._hash = hashlib.sha256()
        self._part = part

    def write(self, report: Report) -> bytes:
        payload = encode_report(report, WHOLE)[0]
        line = payload + b"\n"
        self._hash.update(line)
        if self._part is not None:
            self._part.write(line)
        return payload

    def count(self, records: list[Record], plan: Plan) -> None:
        """Tell warm-up from the range; called before the records are fed."""
        early = 0
        if plan.from_ms is not None and self.timeline.clock_ms < plan.from_ms:
            newest_ms = max(recv_ms(raw) for _, raw in records)
            early = len(records)
            if newest_ms >= plan.from_ms:
                early = sum(recv_ms(raw) < plan.from_ms for _, raw in records)
        self.warm_up += early
        self.records += len(records) - early

    def outcome(self) -> SymbolOutcome:
        timeline = self.timeline
        return SymbolOutcome(
            self.records,
            self.warm_up,
            timeline.reports,
            timeline.left_out,
            dict(timeline.failed),
            timeline.first_ms,
            timeline.last_ms,
            self._hash.hexdigest(),
        )


class _Pacer:
    """Holds reports back until their time has come, at a multiple of their own pace."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._begin: tuple[float, int] | None = None
        self._heap: list[tuple[int, str, Report]] = []

    def put(self, report: Report) -> None:
        if self._begin is None:
            self._begin = time.monotonic(), report.updated_at
        heapq.heappush(self._heap, (report.updated_at, report.symbol, report))

    def due(self) -> list[Report]:
        now_ms, out = self._now_ms(), []
        while self._heap and self._heap[0][0] <= now_ms:
            out.append(heapq.heappop(self._heap)[2])
        return out

    @property
    def empty(self) -> bool:
        return not self._heap

    def ahead(self, clock_ms: int) -> bool:
        """Whether records of that time can wait."""
        return bool(self.speed) and clock_ms > self._now_ms() + LOOKAHEAD_S * 1000 * self.speed

    def _now_ms(self) -> float:
        if not self.speed or self._begin is None:
            return float("inf")
        begin_s, begin_ms = self._begin
        return begin_ms + (time.monotonic() - begin_s) * 1000 * self.speed


async def run_share(share: Share, progress: Progress) -> dict[str, SymbolOutcome]:
    """Replay one share to its end.

    Raises:
        TopicError: The topic can't be read.
        CaptureError: A capture can't be read.
    """
    source = share.source
    homes = source.partition_of if isinstance(source, TopicSource) else {}
    async with AsyncExitStack() as stack:
        lanes = {}
        for symbol, (venue, *others) in share.venues.items():
            timeline = Timeline(symbol, venue, share.plan, homes.get(symbol, 0), others)
            part = None
            if share.parts is not None:
                part = stack.enter_context(part_of(share.parts, symbol).open("wb"))
            lanes[symbol] = _Lane(symbol, timeline, part)
        redis = None
        if share.prefix:
            redis = await stack.enter_async_context(
                RedisOut(share.redis_url, share.prefix, share.ttl_ms)
            )
        pacer = _Pacer(share.speed)
        read = _topic if isinstance(source, TopicSource) else _tape
        async for batch in read(source, lanes, pacer, progress):  # type: ignore[arg-type]
            for symbol, records in batch.items():
                lane = lanes[symbol]
                lane.count(records, share.plan)
                for report in lane.timeline.feed(records):
                    pacer.put(report)
            await _give(pacer, lanes, redis)
        for lane in lanes.values():
            for report in lane.timeline.finish():
                pacer.put(report)
        while not pacer.empty:
            await _give(pacer, lanes, redis)
            await asyncio.sleep(TICK_S if share.speed else 0)
        if redis is not None:
            await redis.flush()
        return {symbol: lane.outcome() for symbol, lane in lanes.items()}


async def _give(pacer: _Pacer, lanes: Mapping[str, _Lane], redis: RedisOut | None) -> None:
    for report in pacer.due():
        payload = lanes[report.symbol].write(report)
        if redis is not None:
            redis.put(report, payload)
    if redis is not None:
        await redis.flush_if_due()


async def _topic(
    source: TopicSource, lanes: Mapping[str, _Lane], pacer: _Pacer, progress: Progress
) -> AsyncIterator[Batch]:
    """Batches of the range, of our symbols alone; an empty one where it is time to look around."""
    names = {symbol.encode(): symbol for symbol in lanes}
    living: dict[int, list[Timeline]] = {}
    for symbol, lane in lanes.items():
        living.setdefault(source.partition_of[symbol], []).append(lane.timeline)
    spans = {partition: source.spans[partition] for partition in living}
    total = sum(span.end - span.begin for span in spans.values())
    at = {partition: span.begin for partition, span in spans.items()}
    async with TopicReader(source.access, source.topic) as reader:
        reader.open(spans)
        told_s = 0.0
        while True:
            for partition in list(reader.left):
                living[partition] = [t for t in living[partition] if not t.done]
                if not living[partition]:
                    reader.drop(partition)
            if not reader.left:
                break
            near = [
                partition
                for partition in reader.left
                if not all(pacer.ahead(timeline.clock_ms) for timeline in living[partition])
            ]
            if not near:
                await asyncio.sleep(TICK_S)
                yield {}
                continue
            batch: Batch = {}
            for partition, records in (await reader.read(near)).items():
                at[partition] = records[-1].offset + 1
                for record in records:
                    ours = names.get(record.key)
                    if ours and record.value is not None:
                        batch.setdefault(ours, []).append((record.offset, record.value))
            yield batch
            if time.monotonic() - told_s > PROGRESS_S:
                told_s = time.monotonic()
                progress(sum(at[p] - span.begin for p, span in spans.items()), total)
        progress(total, total)


async def _tape(
    source: TapeSource, lanes: Mapping[str, _Lane], pacer: _Pacer, progress: Progress
) -> AsyncIterator[Batch]:
    tape = TapeRecords(source.venue, source.files)
    records = tape.play(progress)
    while chunk := list(islice(records, TAPE_BATCH)):
        batch: Batch = {}
        for symbol, offset, raw in chunk:
            if symbol in lanes:
                batch.setdefault(symbol, []).append((offset, raw))
        yield batch
        if all(lane.timeline.done for lane in lanes.values()):
            break
        while pacer.ahead(max(lane.timeline.clock_ms for lane in lanes.values())):
            await asyncio.sleep(TICK_S)
            yield {}
        await asyncio.sleep(0)
    progress(tape.frames, tape.frames)
