"""What the agent gets at once: records of one partition, by key, as cheaply as they can be had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, Protocol

from streams.chunks import Chunk
from tables.lane import Values
from tapeline.traceparent import HEADER


class RawRecord(Protocol):
    """What is used of a consumer's record."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Kept(NamedTuple):
    """A `RawRecord` made of what a batch holds of it."""

    offset: int
    key: bytes | None
    value: bytes | None


class TracedRecord(NamedTuple):
    """A record of a sampled frame.

    Attributes:
        offset, key: Its own.
        header: Its ``traceparent``.
    """

    offset: int
    key: bytes | None
    header: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition; never empty.

    Attributes:
        partition: Whose.
        first_offset, last_offset: Of all of them.
        from_offset, to_offset: What was read for it, the second excluded, whether or not there is a
            record at each: the next batch of its partition begins where this one ends.
        by_key: Each key's records. Between keys there is no order: nothing depends on one.
        traced: Those that are of a sampled frame, where anybody asks for them.
    """

    partition: int
    first_offset: int
    last_offset: int
    from_offset: int
    to_offset: int
    by_key: Mapping[bytes | None, Values]
    traced: tuple[TracedRecord, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    def records(self) -> Iterable[Kept]:
        """One by one, key by key."""
        for key, values in self.by_key.items():
            for offset, value in values:
                yield Kept(offset, key, value)


def batch_of(
    partition: int, records: Iterable[RawRecord], from_offset: int | None = None
) -> Batch | None:
    """A batch of the records that are left, in the order of their offsets; None if none are.

    It was read from ``from_offset`` on, or from its first record.

    Each record is let go of before the next one is made: that costs half of what it does to hold
    them all and look at them again.
    """
    left = iter(records)
    first = next(left, None)
    if first is None:
        return None
    key = first.key
    others: list[Any] = []
    values: Values = [(first.offset, first.value)]
    values += [(r.offset, r.value) for r in left if r.key == key or others.append(r)]  # type: ignore[func-returns-value]
    by_key = {key: values}
    for other in others:
        by_key.setdefault(other.key, []).append((other.offset, other.value))
    last_offset = max(values[-1][0], others[-1].offset) if others else values[-1][0]
    begins = first.offset if from_offset is None else from_offset
    return Batch(partition, first.offset, last_offset, begins, last_offset + 1, by_key)


def batches_of(chunk: Chunk, records_max: int, *, traced: bool = False) -> Iterator[Batch]:
    """A chunk's records, in batches of at most so many, each unpacked when it is asked for.

    Args:
        chunk: What was fetched.
        records_max: Of a batch.
        traced: Look for those of sampled frames, too: a look at each record.
    """
    records, at = chunk.records(), chunk.first_offset
    found: list[TracedRecord] = []
    if traced:
        records = _noticed(records, found)
    while (batch := batch_of(chunk.partition, islice(records, records_max), at)) is not None:
        if len(batch) < records_max:  # the last: behind it there may be offsets without a record
            batch = replace(batch, to_offset=max(batch.to_offset, chunk.next_offset))
        at = batch.to_offset
        if found:
            batch = replace(batch, traced=tuple(found))
            found.clear()
        yield batch


def _noticed(records: Iterable[Any], found: list[TracedRecord]) -> Iterator[Any]:
    """The same records; those with a trace's header are put into ``found`` as they pass."""
    for record in records:
        if record.headers:
            header = next((value for name, value in record.headers if name == HEADER), None)
            if header is not None:
                found.append(TracedRecord(record.offset, record.key, header))
        yield record
