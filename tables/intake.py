"""How records come into an engine: gated by offset, read, and those that can't be taken set aside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from streams import events
from streams.events import UNSTAMPED, BookDelta, Event
from tables import lane
from tables.applied import Applied
from tables.calculator import Calculators
from tables.lane import Values
from tapeline.errors import MalformedRecord, RecordError, UnknownKind


class Intake(ABC):
    """The way in of `tables.engine.Engine`, which has the state.

    Attributes:
        symbol, venue: Whose records these are; others are refused or skipped.
        applied: Offset of the newest record taken, -1 before any.
        custom: Calculators that are shown each record taken.
        lane_taken: How many records `tables.lane` has applied in its last call.
    """

    _take: dict[type, tuple[str, Callable[[Any], bool]]]
    """By type, the kind and what takes it: refuses, admits, changes; True if the state changed."""

    def __init__(self, symbol: str, venue: str, custom: Calculators) -> None:
        self.symbol = symbol
        self.venue = venue
        self.applied = -1
        self.custom = custom
        self.lane_taken = 0
        self._opening = events.opening(BookDelta, venue, symbol)
        self._outcome = Applied()

    def apply(self, records: Iterable[tuple[int, bytes | None]]) -> Applied:
        """Apply records of this symbol, in offset order.

        A record is validated before anything changes. One that fails is listed for the
        dead-letter topic and the rest go on; as its place in the feed's sequence stays empty,
        the next record finds a hole there and mutes the book.

        Args:
            records: (offset, value) pairs, offsets rising; one without a value is refused.
        """
        outcome = self._outcome = Applied()
        queued = records if isinstance(records, list) else list(records)
        kinds: defaultdict[str, int] = defaultdict(int)
        take = lane.take if not self.custom else None
        at, end = 0, len(queued)
        while at < end:
            if take is not None:
                self.lane_taken = 0
                failed = None
                try:
                    take(self, queued, at)
                except Exception as error:
                    failed = error
                if self.lane_taken:
                    kinds[events.TAGS[BookDelta]] += self.lane_taken
                    at += self.lane_taken
                if failed is not None:
                    self._refuse(queued[at][0], failed)
                    at += 1
                if at >= end:
                    break
            at = self._apply_some(queued, at, kinds, with_lane=take is not None)
        outcome.kinds = kinds
        outcome.applied = sum(kinds.values())
        return outcome

    def _apply_some(
        self, queued: Values, at: int, kinds: defaultdict[str, int], *, with_lane: bool
    ) -> int:
        """Apply records from ``at`` on: all, or up to the next that the lane may take.

        Returns:
            Where the next one is.
        """
        read, take, symbol, applied = events.read, self._take, self.symbol, self.applied
        opening, outcome = self._opening, self._outcome
        custom = bool(self.custom)
        try:
            for place in range(at, len(queued)):
                offset, raw = queued[place]
                if with_lane and place > at and raw is not None and raw.startswith(opening):
                    return place
                if offset <= applied:
                    outcome.skipped += 1
                    continue
                applied = offset
                try:
                    event = read(raw)
                    # events.is_stamped, without the call.
                    if event.v != 1 or event.feed is UNSTAMPED or event.routing_version < 0:
                        raise events.unstamped(event)
                    if event.symbol != symbol:
                        raise MalformedRecord(f"symbol {event.symbol!r} under the key {symbol!r}")
                    kind, taken = take[type(event)]
                    if taken(event):
                        kinds[kind] += 1
                        if custom:
                            self._calculate(event)
                except Exception as error:
                    self._refuse(offset, events.refusal(raw, error))
        finally:
            self.applied = applied
        return len(queued)

    def _refuse(self, offset: int, error: Exception) -> None:
        """A record that can't be taken goes to the dead-letter topic, one of a later kind to none."""
        if isinstance(error, UnknownKind):
            self._outcome.counts["unknown_kind"] += 1
            if error.head.symbol == self.symbol:
                self._admit(error.head)
            return
        if not isinstance(error, RecordError):
            # Not foreseen, so the change may be half done.
            self._doubt(f"error: {type(error).__name__}")
        self._outcome.failures.append((offset, error))

    @abstractmethod
    def _admit(self, record: Event | events.Head) -> bool:
        """Keep to one bridge's contiguous stream; False if the record is not for us."""

    @abstractmethod
    def _calculate(self, event: Event) -> None:
        """Show calculators a record that has been taken."""

    @abstractmethod
    def _doubt(self, reason: str) -> None:
        """A change may be half done: the book can't be believed."""
