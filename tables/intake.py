"""How records come into an engine: gated by offset, read, and those that can't be taken set aside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from streams import events
from streams.events import UNSTAMPED, BookDelta, Event, Ticker
from tables import lane
from tables.applied import Applied
from tables.calculator import Calculators
from tables.lane import Values
from tables.other_venues import OtherVenue, OtherVenues
from tapeline.errors import MalformedRecord, RecordError, UnknownKind

_NAMED_WITHIN = 96
"""Kind and venue stand at the beginning of a record: of this many bytes."""


Takers = Mapping[type, tuple[str, Callable[[Any, Any], bool]]]
"""By type, the kind and what of an engine takes it: refuses, admits, changes; True if its state changed."""


class Intake(ABC):
    """The way in of `tables.engine.Engine`, which has the state.

    Attributes:
        symbol, venue: Whose records these are; those of other symbols are refused.
        listed: Other venues that the report tells of.
        others: What is kept of other venues, listed or not.
        applied: Offset of the newest record taken, -1 before any.
        custom: Calculators that are shown each record taken.
        lane_taken: How many records `tables.lane` has applied in its last call.
        lane_quotes: How many of them were quotes; the others were book deltas.
    """

    _take: ClassVar[Takers]

    def __init__(
        self, symbol: str, venue: str, custom: Calculators, listed: Iterable[str] = ()
    ) -> None:
        self.symbol = symbol
        self.venue = venue
        self.listed = tuple(listed)
        self.others = OtherVenues()
        self.applied = -1
        self.custom = custom
        self.lane_taken = self.lane_quotes = 0
        self._openings = tuple(events.opening(kind, venue, symbol) for kind in (BookDelta, Ticker))
        self._named = b'"venue":%b,' % events.encode(venue)
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
        if self.others:
            ours, newest = self._apply_others(queued, kinds)
            self._apply_all(ours, kinds)
            self.applied = newest
            outcome.failures.sort(key=_offset)
        else:
            self._apply_all(queued, kinds)
        outcome.kinds = kinds
        outcome.applied = sum(kinds.values())
        return outcome

    def _apply_all(self, queued: Values, kinds: defaultdict[str, int]) -> None:
        """By the lane as far as it goes, and without it over what it leaves."""
        take = lane.take if not self.custom else None
        at, end = 0, len(queued)
        while at < end:
            if take is not None:
                self.lane_taken = self.lane_quotes = 0
                failed = None
                try:
                    take(self, queued, at)
                except Exception as error:
                    failed = error
                if self.lane_taken > self.lane_quotes:
                    kinds[events.TAGS[BookDelta]] += self.lane_taken - self.lane_quotes
                if self.lane_quotes:
                    kinds[events.TAGS[Ticker]] += self.lane_quotes
                at += self.lane_taken
                if failed is not None:
                    self._refuse(queued[at][0], failed)
                    at += 1
                if at >= end:
                    break
            at = self._apply_some(queued, at, kinds, with_lane=take is not None)

    def _apply_some(
        self, queued: Values, at: int, kinds: defaultdict[str, int], *, with_lane: bool
    ) -> int:
        """Apply records from ``at`` on: all, or up to the next that the lane may take.

        Those of other venues are only here before any is known.

        Returns:
            Where the next one is.
        """
        read, take, symbol, applied = events.read, self._take, self.symbol, self.applied
        openings, outcome, venue = self._openings, self._outcome, self.venue
        custom = bool(self.custom)
        try:
            for place in range(at, len(queued)):
                offset, raw = queued[place]
                if with_lane and place > at and raw is not None and raw.startswith(openings):
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
                    if event.venue != venue:
                        if self._take_other(offset, event):
                            kinds[kind] += 1
                    elif taken(self, event):
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
            head = error.head
            if head.symbol == self.symbol and head.venue == self.venue:
                self._admit(head)
            elif head.symbol == self.symbol and (other := self._other(head)):
                other.admit(head, self._outcome.counts)
            return
        if not isinstance(error, RecordError):
            # Not foreseen, so the change may be half done.
            self._doubt(f"error: {type(error).__name__}")
        self._outcome.failures.append((offset, error))

    # --- other venues -------------------------------------------------------------------------

    def _apply_others(self, queued: Values, kinds: defaultdict[str, int]) -> tuple[Values, int]:
        """Apply the records of other venues, so that the rest can go down the lane in long runs.

        Neither depends on the other (`tables.other_venues`), so the order between them is free.

        Returns:
            The rest, and the newest offset of all.
        """
        outcome, named, symbol = self._outcome, self._named, self.symbol
        ours: Values = []
        newest = self.applied
        for record in queued:
            offset, raw = record
            if offset <= newest:
                outcome.skipped += 1
                continue
            newest = offset
            # Where a bridge writes it; whatever else is there, the decoder knows.
            if raw is None or raw.find(named, 0, _NAMED_WITHIN) > 0:
                ours.append(record)
                continue
            try:
                event = events.read(raw)
                if event.venue == self.venue:
                    ours.append(record)
                    continue
                if not events.is_stamped(event):
                    raise events.unstamped(event)
                if event.symbol != symbol:
                    raise MalformedRecord(f"symbol {event.symbol!r} under the key {symbol!r}")
            except Exception as error:
                refusal = events.refusal(raw, error)
                if isinstance(refusal, UnknownKind) and refusal.head.venue == self.venue:
                    ours.append(record)
                else:
                    self._refuse(offset, refusal)
                continue
            if self._take_other(offset, event):
                kinds[events.TAGS[type(event)]] += 1
        return ours, newest

    def _take_other(self, offset: int, event: Event) -> bool:
        """Apply one record of another venue; True if it changed the state."""
        counts = self._outcome.counts
        other = self._other(event)
        if other is None:
            return False
        try:
            return other.take(event, counts)
        except Exception as error:
            if not isinstance(error, RecordError):
                other.doubt(f"error: {type(error).__name__}", counts)
            self._outcome.failures.append((offset, error))
            return False

    def _other(self, record: Event | events.Head) -> OtherVenue | None:
        if record.venue not in self.listed:
            self._outcome.counts["other_venue"] += 1
        return self.others.of(record)

    @abstractmethod
    def _admit(self, record: Event | events.Head) -> bool:
        """Keep to one bridge's contiguous stream; False if the record is not for us."""

    @abstractmethod
    def _calculate(self, event: Event) -> None:
        """Show calculators a record that has been taken."""

    @abstractmethod
    def _doubt(self, reason: str) -> None:
        """A change may be half done: the book can't be believed."""


def _offset(failure: tuple[int, Exception]) -> int:
    return failure[0]
