"""Trade flow over the last 10 and 30 seconds, in buckets of 100 ms.

Buckets bound the memory whatever the trade rate: 300 of them, one for each tenth of a second
with a trade in it. A window of W seconds at ``now_ms`` is the W * 10 buckets that end with the
one ``now_ms`` is in, so it reaches between W - 0.1 and W seconds back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
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
    """Number and signed size of the last 30 s of trades.

    Columns, so that a window is a slice of each, and summing it is one call.
    """

    __slots__ = ("_at", "_bought", "_sold", "_trades")

    def __init__(self) -> None:
        self._at: list[int] = []  # buckets, ascending; the others go along
        self._trades: list[int] = []
        self._bought: list[int] = []
        self._sold: list[int] = []

    def add(self, ts_ms: int, sz: int, *, buy: bool) -> None:
        """Count one trade. A late one goes into its own bucket, if that is still there."""
        bucket = ts_ms // BUCKET_MS
        at = self._at
        n = -1
        if not at or bucket != at[-1]:
            n = bisect_left(at, bucket)
            if n == len(at) or at[n] != bucket:
                at.insert(n, bucket)
                for column in (self._trades, self._bought, self._sold):
                    column.insert(n, 0)
        self._trades[n] += 1
        (self._bought if buy else self._sold)[n] += sz

    def expire(self, newest_ms: int) -> None:
        """Forget what no window at ``newest_ms`` or later can reach."""
        gone = bisect_right(self._at, newest_ms // BUCKET_MS - SPAN_BUCKETS)
        if gone:
            for column in (self._at, self._trades, self._bought, self._sold):
                del column[:gone]

    def flow(self, now_ms: int, span_ms: int, skip_ms: int = 0) -> Flow:
        """Sums over ``span_ms`` that end ``skip_ms`` before ``now_ms``."""
        last = (now_ms - skip_ms) // BUCKET_MS
        at = self._at
        window = slice(bisect_right(at, last - span_ms // BUCKET_MS), bisect_right(at, last))
        return Flow(sum(self._trades[window]), sum(self._bought[window]), sum(self._sold[window]))

    def refine(self, sz_e: int, finer: int) -> None:
        """Express sizes in finer units."""
        self._bought = [rescale(sz, sz_e, finer) for sz in self._bought]
        self._sold = [rescale(sz, sz_e, finer) for sz in self._sold]

    def snapshot(self) -> tuple[bytes, ...]:
        """Four columns; `restore` takes them back."""
        return (
            pack(self._at, delta=True),
            *(pack(column) for column in (self._trades, self._bought, self._sold)),
        )

    def restore(self, columns: Sequence[bytes]) -> None:
        """Become the window that `snapshot` was taken of."""
        self._at, self._trades, self._bought, self._sold = map(list, map(unpack, columns))
        if not len(self._at) == len(self._trades) == len(self._bought) == len(self._sold):
            raise ValueError("columns of unequal length")
