"""How far a venue's clock is ahead of ours: an estimate, for people to see. Nothing is ordered by it.

A record's time at the venue less the time it came is the offset less its way here. The largest of
these in the last minute or so came the shortest way; half the shortest round trip of a ping is added
back. That is right where both ways are as long as each other, and never off by more than the round
trip (D. L. Mills, RFC 5905, section 8: the sample of the least delay).
"""

from __future__ import annotations

from typing import Final

WINDOW_MS: Final = 30_000


class _Best:
    """The largest value of this window and the one before it. Pure."""

    __slots__ = ("_before", "_ends_ms", "_now")

    def __init__(self) -> None:
        self._now: float | None = None
        self._before: float | None = None
        self._ends_ms = 0

    def saw(self, value: float, now_ms: int) -> None:
        if not 0 < self._ends_ms - now_ms <= WINDOW_MS:
            long_ago = abs(now_ms - self._ends_ms) > WINDOW_MS
            self._before, self._now = None if long_ago else self._now, None
            self._ends_ms = now_ms + WINDOW_MS
        if self._now is None or value > self._now:
            self._now = value

    def best(self) -> float | None:
        known = [value for value in (self._now, self._before) if value is not None]
        return max(known, default=None)


class VenueClock:
    """One venue's."""

    __slots__ = ("_ahead_ms", "_trip_ms")

    def __init__(self) -> None:
        self._ahead_ms = _Best()
        self._trip_ms = _Best()  # of the negative: the shortest is looked for

    def saw(self, ts_event_ms: int, ts_recv_ms: int) -> None:
        """An event came; equal times are of a venue that gives none."""
        if ts_event_ms != ts_recv_ms:
            self._ahead_ms.saw(ts_event_ms - ts_recv_ms, ts_recv_ms)

    def answered(self, trip_ms: float, now_ms: int) -> None:
        """A ping has come back."""
        self._trip_ms.saw(-trip_ms, now_ms)

    @property
    def round_trip_ms(self) -> float | None:
        """The shortest of late; None before any."""
        best = self._trip_ms.best()
        return None if best is None else -best

    @property
    def offset_ms(self) -> float | None:
        """How far it is ahead of ours, negative if behind; None before an event with a time."""
        ahead_ms = self._ahead_ms.best()
        if ahead_ms is None:
            return None
        return ahead_ms + (self.round_trip_ms or 0.0) / 2
