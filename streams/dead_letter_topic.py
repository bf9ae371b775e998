"""Reading dead letters from a broker, and taking trades from there back to the events topic."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.dead_letters import Letter, Position
from streams.events import Trade, encode
from streams.reentry import Decision
from streams.topic_reader import Span, TopicReader
from streams.topics import partition_of
from tapeline.errors import TopicError
from tapeline.kafka_access import KafkaAccess, Where

REENTERED_HEADER: Final = "reentered"
"""Of a record that was a dead letter: which one."""

CLOCK_SLACK_MS: Final = 60_000
"""A record lies in the topic behind the time at which a bridge received it; clocks may differ."""

AT_ONCE: Final = 500

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is, of how much)."""


class Missing(TopicError):
    """No letter is at a position."""

    def __init__(self, topic: str, position: Position, held: Mapping[int, Span]) -> None:
        spans = [
            f"{partition}@{span.begin} to {partition}@{span.end - 1}"
            for partition, span in sorted(held.items())
            if span.begin < span.end
        ]
        what = f"it holds {', '.join(spans)}" if spans else "it holds none"
        super().__init__(f"no dead letter at {position} of {topic}: {what}")


class Letters:
    """The letters of one dead-letter topic."""

    def __init__(self, reader: TopicReader, held: Mapping[int, Span]) -> None:
        self._reader, self._held = reader, dict(held)

    @property
    def total(self) -> int:
        """How many offsets there are; hardly ever more than letters."""
        return sum(span.end - span.begin for span in self._held.values())

    async def newest(self, limit: int, progress: Progress) -> list[Letter]:
        """At most so many, by the time they were written, the newest last."""
        spans = {
            partition: Span(max(span.begin, span.end - limit), span.end)
            for partition, span in self._held.items()
        }
        found = [letter async for letter in self._read(spans, progress)]
        found.sort(key=lambda letter: (letter.ts_ms, letter.position))
        return found[-limit:]

    async def at(self, position: Position) -> Letter:
        """The letter at a position.

        Raises:
            Missing: There is none, or no longer.
        """
        partition, offset = position
        span = self._held.get(partition)
        if span is None or not span.begin <= offset < span.end:
            raise Missing(self._reader.topic, position, self._held)
        record = await self._reader.first_from(partition, Span(offset, offset + 1))
        if record is None or record.offset != offset:
            raise Missing(self._reader.topic, position, self._held)
        return Letter.of(self._reader.topic, partition, record)

    def all(self, progress: Progress) -> AsyncIterator[Letter]:
        """All that were there when it was opened, partition by partition."""
        return self._read(self._held, progress)

    async def _read(self, spans: Mapping[int, Span], progress: Progress) -> AsyncIterator[Letter]:
        reader, done = self._reader, 0
        total = sum(span.end - span.begin for span in spans.values())
        reader.open(spans)
        while reader.left:
            for partition, records in (await reader.read()).items():
                for record in records:
                    yield Letter.of(reader.topic, partition, record)
                done += len(records)
                progress("letters", done, total)


@asynccontextmanager
async def letters_of(where: Where, topic: str) -> AsyncIterator[Letters]:
    """What a dead-letter topic holds now.

    Raises:
        TopicError: No broker answers, or it has no such topic.
    """
    async with TopicReader(where, topic) as reader:
        yield Letters(reader, await reader.held(range(reader.partitions)))


class Written(NamedTuple):
    """What a retry has done.

    Attributes:
        decisions: Each with its outcome as it came out.
        trades: Records written, or that would have been.
    """

    decisions: list[Decision]
    trades: int


async def reenter(
    where: Where,
    topic: str,
    decisions: Sequence[Decision],
    *,
    dry_run: bool,
    progress: Progress,
) -> Written:
    """Write the trades that the topic does not have; ends when the broker has them all.

    Args:
        where: The broker.
        topic: The events topic.
        decisions: Those with trades that the topic has already become ``duplicate``.
        dry_run: Find out, and write nothing.
        progress: Told of the records looked through.

    Raises:
        TopicError: The broker does not answer, or refuses.
    """
    waiting = [decision for decision in decisions if decision.trades]
    if not waiting:
        return Written([*decisions], 0)
    async with TopicReader(where, topic) as reader:
        partitions = reader.partitions
        there = await _event_ids(reader, waiting, progress)
    fresh: list[tuple[int, Decision, Trade]] = []
    for decision in waiting:
        left = []
        for trade in decision.trades:
            if trade.event_id not in there:
                there.add(trade.event_id)
                left.append(trade)
        decision.trades = left
        if not left:
            decision.outcome, decision.why = "duplicate", "the topic has these trades already"
        fresh += [(partition_of(trade.symbol, partitions), decision, trade) for trade in left]
    if not dry_run and fresh:
        await _write(where, topic, fresh)
    return Written([*decisions], len(fresh))


async def _event_ids(
    reader: TopicReader, decisions: Iterable[Decision], progress: Progress
) -> set[str]:
    """Which of these trades the topic has, where their symbols' records are."""
    wanted: defaultdict[int, set[bytes]] = defaultdict(set)
    since_ms: dict[int, int] = {}
    for decision in decisions:
        for trade in decision.trades:
            partition = partition_of(trade.symbol, reader.partitions)
            wanted[partition].add(trade.event_id.encode())
            # The letter's time too: what a bad record says of its own may lie in the future.
            oldest_ms = min(trade.ts_recv_ms, decision.letter.ts_ms)
            since_ms[partition] = min(since_ms.get(partition, oldest_ms), oldest_ms)
    held = await reader.held(wanted)
    spans: dict[int, Span] = {}
    for partition in wanted:
        since = await reader.first_since([partition], since_ms[partition] - CLOCK_SLACK_MS)
        begin = since[partition]
        if begin is not None:
            spans[partition] = Span(max(begin, held[partition].begin), held[partition].end)
    total, done = sum(max(0, span.end - span.begin) for span in spans.values()), 0
    found: set[str] = set()
    reader.open(spans)
    while reader.left:
        for partition, records in (await reader.read()).items():
            ids = wanted[partition]
            for record in records:
                found.update(_named(record.value, ids))
            done += len(records)
            progress(f"records of {reader.topic}", done, total)
    return found


def _named(value: bytes | None, ids: set[bytes]) -> Iterable[str]:
    """The id of a trade's record, if it is one of these; cheap where it is not."""
    _, found, rest = (value or b"").partition(b'"event_id":"')
    if found:
        event_id = rest.partition(b'"')[0]
        if event_id in ids:
            yield event_id.decode()


async def _write(where: Where, topic: str, fresh: Sequence[tuple[int, Decision, Trade]]) -> None:
    producer: Any = AIOKafkaProducer(**KafkaAccess.of(where).arguments(), acks="all")
    try:
        await producer.start()
        for begin in range(0, len(fresh), AT_ONCE):
            await asyncio.gather(
                *[
                    await producer.send(
                        topic,
                        encode(trade),
                        trade.symbol.encode(),
                        partition,
                        headers=[(REENTERED_HEADER, _address(decision.letter))],
                    )
                    for partition, decision, trade in fresh[begin : begin + AT_ONCE]
                ]
            )
    except (KafkaError, OSError, TimeoutError) as error:
        raise TopicError(f"writing to {topic}: {str(error) or type(error).__name__}") from error
    finally:
        await producer.stop()


def _address(letter: Letter) -> bytes:
    return f"{letter.topic} {letter.position}".encode()
