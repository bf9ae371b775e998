"""A report once more, from the topic's records and its own (offset, now_ms). Pure.

Whoever has the records gets the bytes that the worker published, or sees where they differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from tables.engine import Engine
from tables.parameters import Parameters
from tables.report import Position, Report, SlowPart, Source, compose

Record = tuple[int, bytes]
"""(offset, value)."""

NOT_COMPARED: Final = frozenset({"writer", "seq", "updatedAt"})
"""What only the writer knew."""

MISSING: Final = "(missing)"


class Difference(NamedTuple):
    """One field.

    Attributes:
        path: Such as ``depth.bids[3][1]``.
        published, recomputed: Its value here and there; `MISSING` where there is no such field.
    """

    path: str
    published: Any
    recomputed: Any


class Recomputation:
    """Fed with a symbol's records in order, makes ``published`` again.

    Attributes:
        done: Records later than the report's have been seen, or none are needed.
    """

    def __init__(self, published: Report, parameters: Parameters) -> None:
        self.done = False
        self._published = published
        # Which venues the report tells of is, as the symbol is, what it says of itself.
        venues = published.venues.by_venue if published.venues else ()
        others = [venue for venue in venues if venue != published.venue]
        self._engine = Engine(published.symbol, published.venue, parameters, others)
        self._slow: tuple[SlowPart, Position] | None = None
        fast, slow = published.source.fast, published.source.slow
        # Both parts are of the records up to an offset; the slow one's is the lower.
        self._slow_until = None if slow is None else min(slow.offset, fast.offset)
        self._until = fast.offset

    def feed(self, records: Sequence[Record]) -> None:
        """Apply records; those behind the report's are left out."""
        if self._slow is None and self._slow_until is not None:
            last = self._slow_until
            self._engine.apply(record for record in records if record[0] <= last)
            if records and records[-1][0] > last:
                self._take_slow()
        self._engine.apply(record for record in records if record[0] <= self._until)
        if records and records[-1][0] >= self._until:
            self.done = True

    def report(self) -> Report:
        """The report of the records seen."""
        published = self._published
        if self._slow is None and self._slow_until is not None:
            self._take_slow()
        slow, slow_at = self._slow or (None, None)
        now_ms = published.source.fast.now_ms
        return compose(
            self._engine.fast_report(now_ms),
            slow,
            writer=published.writer,
            seq=published.seq,
            updated_at=published.updated_at,
            source=Source(self._position(published.source.fast), slow_at),
        )

    def _take_slow(self) -> None:
        at = self._published.source.slow
        assert at is not None
        self._slow = self._engine.slow_report(at.now_ms), self._position(at)

    def _position(self, at: Position) -> Position:
        engine = self._engine
        return Position(at.topic, at.partition, engine.applied, max(at.now_ms, engine.newest_ms))


def recompute(published: Report, records: Sequence[Record], parameters: Parameters) -> Report:
    """``published`` from these records, which begin early enough and go at least as far."""
    again = Recomputation(published, parameters)
    again.feed(records)
    return again.report()


def differences(published: dict[str, Any], recomputed: dict[str, Any]) -> list[Difference]:
    """The fields in which two reports differ, but for `NOT_COMPARED`."""
    names = [name for name in {**published, **recomputed} if name not in NOT_COMPARED]
    found: list[Difference] = []
    for name in names:
        found += _walk(name, published.get(name, MISSING), recomputed.get(name, MISSING))
    return found


def _walk(path: str, here: Any, there: Any) -> Iterator[Difference]:
    if isinstance(here, dict) and isinstance(there, dict):
        for name in {**here, **there}:
            yield from _walk(f"{path}.{name}", here.get(name, MISSING), there.get(name, MISSING))
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for at, (one, other) in enumerate(zip(here, there, strict=True)):
            yield from _walk(f"{path}[{at}]", one, other)
    elif type(here) is not type(there) or here != there:
        yield Difference(path, here, there)
