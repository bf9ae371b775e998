"""Trade flow over the last 10 and 30 seconds, in buckets of 100 ms.

Buckets bound the memory whatever the trade rate: 300 of them, one for each tenth of a second
with a trade in it. A window of W seconds at ``now_ms`` is the W * 10 buckets that end with the
one ``now_ms`` is in, so it reaches between W - 0.1 and W seconds back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from tables.columns import pack, unpack
from tables.scale import rescale

BUCKET_MS: Final = 100
SPAN_BUCKETS: Final = 300


class Flow(NamedTuple):
    """Sums over one window; sizes in units of ``10 ** sz_e``."""

    trades: int
    bought: int
    sold: int


class TradeWindow:
    """Number and signed size of the last 30 s of trades."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        # [bucket, trades, bought, sold], ascending by bucket
        self._buckets: deque[list[int]] = deque()

    def add(self, ts_ms: int, sz: int, *, buy: bool) -> None:
        """Count one trade. A late one goes into its own bucket, if that is still there."""
        bucket = ts_ms // BUCKET_MS
        buckets = self._buckets
        if not buckets or bucket > buckets[-1][0]:
            buckets.append([bucket, 1, sz, 0] if buy else [bucket, 1, 0, sz])
            return
        for at in range(len(buckets) - 1, -1, -1):
            row = buckets[at]
            if row[0] == bucket:
                row[1] += 1
                row[2 if buy else 3] += sz
                return
            if row[0] < bucket:
                buckets.insert(at + 1, [bucket, 1, sz, 0] if buy else [bucket, 1, 0, sz])
                return
        buckets.appendleft([bucket, 1, sz, 0] if buy else [bucket, 1, 0, sz])

    def expire(self, newest_ms: int) -> None:
        """Forget what no window at ``newest_ms`` or later can reach."""
        horizon = newest_ms // BUCKET_MS - SPAN_BUCKETS
        buckets = self._buckets
        while buckets and buckets[0][0] <= horizon:
            buckets.popleft()

    def flow(self, now_ms: int, span_ms: int, skip_ms: int = 0) -> Flow:
        """Sums over ``span_ms`` that end ``skip_ms`` before ``now_ms``."""
        last = (now_ms - skip_ms) // BUCKET_MS
        horizon = last - span_ms // BUCKET_MS
        trades = bought = sold = 0
        for row in reversed(self._buckets):
            if row[0] <= horizon:
                break
            if row[0] <= last:
                trades += row[1]
                bought += row[2]
                sold += row[3]
        return Flow(trades, bought, sold)

    def refine(self, sz_e: int, finer: int) -> None:
        """Express sizes in finer units."""
        for row in self._buckets:
            row[2], row[3] = rescale(row[2], sz_e, finer), rescale(row[3], sz_e, finer)

    def snapshot(self) -> tuple[bytes, ...]:
        """Four columns; `restore` takes them back."""
        rows = self._buckets
        return (
            pack((row[0] for row in rows), delta=True),
            *(pack(row[column] for row in rows) for column in (1, 2, 3)),
        )

    def restore(self, columns: Sequence[bytes]) -> None:
        """Become the window that `snapshot` was taken of."""
        rows = zip(*(unpack(column) for column in columns), strict=True)
        self._buckets = deque(list(row) for row in rows)
