"""A feed's last hour, a point a minute. Pure: times and counts come with each look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from streams.commands import Key

MINUTE_MS: Final = 60_000
KEPT_MINUTES: Final = 62
"""An hour, whenever within a minute it is asked for, and one entry more for a change of bridges."""


@dataclass(slots=True)
class Point:
    """One minute of one feed, as far as this bridge wrote it.

    Attributes:
        feed: (venue, canonical symbol).
        token: Of the feed lease.
        ts_ms: Where the minute begins, ms since the epoch.
        records, gaps, resyncs, reconnects: How many in it.
        looks, in_sync: How often it was looked at, and found with its book in sync.
        age_ms_max: Longest that its newest record was old; None if it never had one.
        span_ms: From the first of these looks to the last.
    """

    feed: Key
    token: int
    ts_ms: int
    records: int = 0
    gaps: int = 0
    resyncs: int = 0
    reconnects: int = 0
    looks: int = 0
    in_sync: int = 0
    age_ms_max: int | None = None
    span_ms: int = 0

    def figures(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "records": self.records,
            "gaps": self.gaps,
            "resyncs": self.resyncs,
            "reconnects": self.reconnects,
            "looks": self.looks,
            "in_sync": self.in_sync,
            "age_ms_max": self.age_ms_max,
            "span_ms": self.span_ms,
        }


Counts = tuple[int, int, int, int]
"""Records, gaps, resyncs, reconnects: since the start of the bridge."""


@dataclass(slots=True)
class _Open:
    point: Point
    counts: Counts
    since_ms: int


class Minutes:
    """Minutes under way."""

    def __init__(self) -> None:
        self._open: dict[Key, _Open] = {}
        self._ended: list[Point] = []

    def add(
        self,
        feed: Key,
        token: int,
        now_ms: int,
        *,
        records: int,
        gaps: int,
        resyncs: int,
        reconnects: int,
        in_sync: bool,
        age_ms: int | None,
    ) -> None:
        """One look at a feed that this bridge writes; counts are those since its start."""
        counts = (records, gaps, resyncs, reconnects)
        minute_ms = now_ms - now_ms % MINUTE_MS
        now = self._open.get(feed)
        if now is None or now.point.token != token or now.point.ts_ms != minute_ms:
            # What came since the last look belongs to the minute of this one, if the same bridge
            # went on. Its very first look counts from there: what was before is another's, or none.
            before, since_ms = counts, now_ms
            if now is not None:
                self._ended.append(now.point)
                if now.point.token == token:
                    before, since_ms = now.counts, now.since_ms
            now = _Open(Point(feed, token, minute_ms), before, since_ms)
            self._open[feed] = now
        point = now.point
        more = [new - old for new, old in zip(counts, now.counts, strict=True)]
        point.records += more[0]
        point.gaps += more[1]
        point.resyncs += more[2]
        point.reconnects += more[3]
        point.looks += 1
        point.in_sync += in_sync
        point.span_ms += max(0, now_ms - now.since_ms)
        if age_ms is not None:
            point.age_ms_max = max(age_ms, point.age_ms_max or 0)
        now.counts, now.since_ms = counts, now_ms

    def ended(self, now_ms: int) -> list[Point]:
        """Minutes that are over, each returned once; also of feeds that are looked at no more."""
        minute_ms = now_ms - now_ms % MINUTE_MS
        for feed, now in [*self._open.items()]:
            if now.point.ts_ms + MINUTE_MS < minute_ms:
                self._ended.append(self._open.pop(feed).point)
        over, self._ended = self._ended, []
        return over

    def end(self) -> list[Point]:
        """All there is, the minutes under way included."""
        over = [*self._ended, *(now.point for now in self._open.values())]
        self._ended, self._open = [], {}
        return over
