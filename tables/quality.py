"""What the last 30 minutes of the feed were like: seconds covered, gaps, duplicates."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Sequence

from tables.columns import pack, unpack
from tables.parameters import WINDOW_SEC


class FeedQuality:
    """Bounded by 30 minutes: at most 1,800 seconds, each with its counts by reason."""

    __slots__ = ("_counts", "_secs")

    def __init__(self) -> None:
        self._secs: list[int] = []  # seconds with at least one record, ascending
        self._counts: deque[tuple[int, str, int, int]] = deque()
        # (second, what, how many, ts_ms of the last), ascending by second

    def saw(self, sec: int) -> None:
        """A record was received in this second."""
        secs = self._secs
        if not secs or sec > secs[-1]:
            secs.append(sec)
            return
        at = bisect_left(secs, sec)
        if secs[at] != sec:
            secs.insert(at, sec)

    def count(self, ts_ms: int, what: str, how_many: int = 1) -> None:
        """Note ``how_many`` of ``what``; ``ts_ms`` never falls."""
        sec = ts_ms // 1000
        counts = self._counts
        for at in range(len(counts) - 1, -1, -1):
            if counts[at][0] != sec:
                break
            if counts[at][1] == what:
                counts[at] = (sec, what, counts[at][2] + how_many, ts_ms)
                return
        counts.append((sec, what, how_many, ts_ms))

    def expire(self, sec: int) -> None:
        """Forget seconds 30 minutes before ``sec`` or older."""
        horizon = sec - WINDOW_SEC
        if self._secs and self._secs[0] <= horizon:
            del self._secs[: bisect_right(self._secs, horizon)]
        while self._counts and self._counts[0][0] <= horizon:
            self._counts.popleft()

    def covered(self, now_sec: int, span_sec: int) -> float:
        """Share of the last ``span_sec`` seconds in which a record was received.

        The second of ``now_sec`` is still open, so it counts as covered when the one before is.
        """
        secs = self._secs
        seen = bisect_right(secs, now_sec) - bisect_right(secs, now_sec - span_sec)
        if secs and secs[-1] == now_sec - 1:
            seen += 1
        return min(seen, span_sec) / span_sec

    def totals(self, now_sec: int) -> tuple[Counter[str], dict[str, int]]:
        """(how many, ms of the last) by what, over the 30 minutes that end at ``now_sec``."""
        horizon = now_sec - WINDOW_SEC
        counts: Counter[str] = Counter()
        last_ms: dict[str, int] = {}
        for sec, what, how_many, ts_ms in self._counts:
            if sec > horizon:
                counts[what] += how_many
                last_ms[what] = ts_ms
        return counts, last_ms

    def snapshot(self) -> tuple[object, ...]:
        """Plain values; `restore` takes them back."""
        return pack(self._secs, delta=True), list(self._counts)

    def restore(self, values: Sequence[object]) -> None:
        """Become what `snapshot` was taken of."""
        secs, counts = values
        self._secs = unpack(secs)  # type: ignore[arg-type]
        self._counts = deque(tuple(row) for row in counts)  # type: ignore[attr-defined]
