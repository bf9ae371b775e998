"""The last 10,000 sizes that book changes left standing, none older than 30 minutes.

What is a large level, and what a thin one, is said relative to these. Only deltas are sampled:
a whole-book snapshot every few minutes would drown them in deep levels nobody touches.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tables.columns import pack, unpack
from tables.parameters import SIZE_SAMPLES_MAX, WINDOW_SEC
from tables.scale import rescale

_KEPT_MAX: Final = 2 * SIZE_SAMPLES_MAX
"""Room beyond what counts, so that taking out the oldest is one move for thousands."""

_SIZE_MAX: Final = 2**63 - 1
"""A size beyond it, in very fine units, is counted as this one: large is large."""


class SizeHistory:
    """A bounded sample of level sizes, in units of ``10 ** sz_e``."""

    __slots__ = ("_dropped", "_runs", "_sizes")

    def __init__(self) -> None:
        self._sizes = array("q")
        self._dropped = 0  # samples that stood before the first of `_sizes`
        # (second, samples before its first, those no longer kept included), ascending
        self._runs: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return min(len(self._sizes), SIZE_SAMPLES_MAX)

    def sampler(self, sec: int) -> Callable[[int], None]:
        """What to give the sizes of one change to, each from 1 to 2**62; ``sec`` never falls."""
        sizes, runs = self._sizes, self._runs
        if not runs or runs[-1][0] != sec:
            runs.append((sec, self._dropped + len(sizes)))
        if len(sizes) > _KEPT_MAX:
            self._drop(len(sizes) - SIZE_SAMPLES_MAX)
        return sizes.append

    def sample(self, sec: int, sizes: bytes) -> None:
        """Add sizes, from 1 to 2**62, as the bytes of 64-bit integers; ``sec`` never falls."""
        self.sampler(sec)
        self._sizes.frombytes(sizes)

    def cautious_sampler(self, sec: int) -> Callable[[int], None]:
        """`sampler` for positive sizes of any magnitude."""
        sample = self.sampler(sec)
        return lambda size: sample(min(size, _SIZE_MAX))

    def expire(self, sec: int) -> None:
        """Forget samples 30 minutes before ``sec`` or older."""
        self._drop(self._expired(sec))

    def _expired(self, sec: int) -> int:
        """How many of the samples are 30 minutes before ``sec`` or older."""
        horizon = sec - WINDOW_SEC
        for at, start in self._runs:
            if at > horizon:
                return max(0, start - self._dropped)
        return len(self._sizes)

    def _drop(self, count: int) -> None:
        if not count:
            return
        del self._sizes[:count]
        self._dropped += count
        runs, dropped = self._runs, self._dropped
        while len(runs) > 1 and runs[1][1] <= dropped:
            runs.popleft()
        if not self._sizes:
            runs.clear()

    def _newest(self, expired: int = 0) -> NDArray[np.int64]:
        """The samples that count: at most 10,000. A copy, as an array lent can't grow."""
        first = max(expired, len(self._sizes) - SIZE_SAMPLES_MAX)
        return np.frombuffer(self._sizes, dtype=np.int64)[first:].copy()

    def percentiles(self, now_sec: int, percents: Sequence[float]) -> tuple[int, list[float]]:
        """How many samples are in the window at ``now_sec``, and their percentiles.

        By linear interpolation (Hyndman and Fan, 1996, definition 7; numpy's default). Without
        samples the list is empty.
        """
        column = self._newest(self._expired(now_sec)) if self._sizes else ()
        count = len(column)
        if not count:
            return 0, []
        ranks = [(count - 1) * percent / 100 for percent in percents]
        wanted = sorted({near for rank in ranks for near in (int(rank), -int(-rank // 1))})
        ordered = np.partition(column, wanted)
        return count, [_between(ordered, rank) for rank in ranks]

    def refine(self, sz_e: int, finer: int) -> None:
        """Express sizes in finer units."""
        self._sizes = array("q", (min(rescale(s, sz_e, finer), _SIZE_MAX) for s in self._sizes))

    def snapshot(self) -> tuple[bytes, ...]:
        """Three columns; `restore` takes them back."""
        if not self._sizes:
            return pack(()), pack(()), pack(())
        end = self._dropped + len(self._sizes)
        begin = end - len(self)
        starts = [(sec, max(start, begin)) for sec, start in self._runs]
        counts = [
            (sec, after - start)
            for (sec, start), (_, after) in pairwise([*starts, (0, end)])
            if after > start
        ]
        return (
            pack((sec for sec, _ in counts), delta=True),
            pack(count for _, count in counts),
            pack(self._newest()),
        )

    def restore(self, columns: Sequence[bytes]) -> None:
        """Become the history that `snapshot` was taken of."""
        secs, counts, sizes = (unpack(column) for column in columns)
        self._sizes, self._dropped, self._runs = array("q", sizes), 0, deque()
        start = 0
        for sec, count in zip(secs, counts, strict=True):
            self._runs.append((sec, start))
            start += count


def _between(ordered: NDArray[np.int64], rank: float) -> float:
    low = int(rank)
    below = float(ordered[low])
    share = rank - low
    return below + share * (float(ordered[low + 1]) - below) if share else below
