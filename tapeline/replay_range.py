"""Which part of a topic or of a tape a replay is about: from options to times and offsets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from agents.positions import WARM_UP_MS
from streams.record_time import NO_TIME, recv_ms
from streams.topic_reader import Span, TopicReader
from tables.report import iso_utc
from tapeline.errors import ConfigError

EXPECTED: Final = (
    "a time such as 2024-08-08T23:54:13Z (UTC where it names no zone) or 1723161253000 (ms since "
    "the epoch), or offset:N"
)
_EPOCH_MS: Final = re.compile(r"\d{12,14}")
_OFFSET: Final = re.compile(r"offset:(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Edge:
    """One end of a range.

    Attributes:
        kind: What ``value`` is: milliseconds since the epoch, or an offset.
    """

    kind: Literal["time", "offset"]
    value: int


def parse_edge(name: str, text: str | None) -> Edge | None:
    """Read ``--from`` or ``--to``.

    Raises:
        ConfigError: It is neither a time nor an offset.
    """
    if text is None:
        return None
    if match := _OFFSET.fullmatch(text):
        return Edge("offset", int(match[1]))
    if _EPOCH_MS.fullmatch(text):
        return Edge("time", int(text))
    try:
        # Digits alone would be read as a date or as a year; too easily a mistyped time.
        when = None if text.isdigit() else datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None:
        raise ConfigError(name, text, EXPECTED)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return Edge("time", round(when.timestamp() * 1000))


@dataclass(frozen=True, slots=True)
class Range:
    """What is read, and of what reports are made.

    Attributes:
        spans: Offsets to be read, by partition.
        from_ms, to_ms: Reports of grid times in [from, to); None for no bound.
        notes: What somebody who asked for this range should know.
    """

    spans: dict[int, Span]
    from_ms: int | None
    to_ms: int | None
    notes: tuple[str, ...] = ()


def check_order(begin: Edge | None, end: Edge | None) -> None:
    """Raises ConfigError where a range ends before it begins."""
    if begin and end and begin.kind == end.kind and begin.value >= end.value:
        shown = iso_utc(begin.value) if begin.kind == "time" else f"offset:{begin.value}"
        given = iso_utc(end.value) if end.kind == "time" else f"offset:{end.value}"
        raise ConfigError("--to", given, f"something later than --from {shown}")


def times_only(edge: Edge | None, name: str) -> int | None:
    """The time of an edge of a tape.

    Raises:
        ConfigError: It is an offset, which only a topic has.
    """
    if edge is None:
        return None
    if edge.kind == "offset":
        raise ConfigError(name, f"offset:{edge.value}", "a time: capture files have no offsets")
    return edge.value


async def range_of(
    reader: TopicReader, partitions: set[int], begin: Edge | None, end: Edge | None
) -> Range:
    """Where in the topic to start and to stop, warm-up included.

    Args:
        reader: Open, and not reading.
        partitions: Homes of the symbols asked for.
        begin: ``--from``, if any.
        end: ``--to``, if any.

    Raises:
        ConfigError: An offset for several partitions, or one that the topic does not hold.
    """
    for name, edge in (("--from", begin), ("--to", end)):
        if edge is not None and edge.kind == "offset" and len(partitions) > 1:
            raise ConfigError(
                name,
                f"offset:{edge.value}",
                f"a time, as the symbols are in {len(partitions)} partitions; or one --symbols",
            )
    spans = await reader.held(partitions)
    from_ms = await _from_ms(reader, spans, begin)
    if end is not None and end.kind == "offset":
        ((partition, span),) = spans.items()
        spans[partition] = Span(span.begin, min(span.end, end.value))
    notes: list[str] = []
    if from_ms is not None:
        since_ms = from_ms - WARM_UP_MS
        notes.append(f"reading {WARM_UP_MS // 60_000} min of warm-up, from {iso_utc(since_ms)}")
        first = await reader.first_since(partitions, since_ms)
        for partition, span in list(spans.items()):
            at = first[partition]
            start = span.end if at is None else max(span.begin, at)
            spans[partition] = Span(min(start, span.end), span.end)
            if 0 < span.begin == start:
                notes += await _short(reader, partition, spans[partition], since_ms)
    return Range(spans, from_ms, end.value if end and end.kind == "time" else None, tuple(notes))


async def _from_ms(reader: TopicReader, spans: dict[int, Span], begin: Edge | None) -> int | None:
    if begin is None:
        return None
    if begin.kind == "time":
        return begin.value
    ((partition, span),) = spans.items()
    if not span.begin <= begin.value < span.end:
        held = f"an offset that partition {partition} holds: {span.begin} to {span.end - 1}"
        raise ConfigError(
            "--from", f"offset:{begin.value}", held if span.end else "a topic that holds records"
        )
    record = await reader.first_from(partition, Span(begin.value, span.end))
    time_ms = NO_TIME if record is None else recv_ms(record.value or b"")
    if time_ms == NO_TIME:
        raise ConfigError("--from", f"offset:{begin.value}", "an offset whose record has a time")
    return time_ms


async def _short(reader: TopicReader, partition: int, span: Span, since_ms: int) -> list[str]:
    """What to say of a topic that begins later than the warm-up."""
    record = await reader.first_from(partition, span)
    begins_ms = NO_TIME if record is None else recv_ms(record.value or b"")
    if begins_ms <= since_ms:
        return []
    return [
        f"partition {partition} holds nothing before {iso_utc(begins_ms)}: windows are whole from "
        f"{iso_utc(begins_ms + WARM_UP_MS)} on"
    ]
