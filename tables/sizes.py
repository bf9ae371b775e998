"""The last 10,000 sizes that book changes left standing, none older than 30 minutes.

What is a large level, and what a thin one, is said relative to these. Only deltas are sampled:
a whole-book snapshot every few minutes would drown them in deep levels nobody touches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from tables.columns import pack, unpack
from tables.parameters import SIZE_SAMPLES_MAX, WINDOW_SEC
from tables.scale import rescale


class SizeHistory:
    """A bounded sample of level sizes, in units of ``10 ** sz_e``."""

    __slots__ = ("_runs", "_sizes")

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._runs: deque[list[int]] = deque()  # [second, samples of that second], ascending

    def __len__(self) -> int:
        return len(self._sizes)

    def extend(self, sec: int, sizes: Sequence[int]) -> None:
        """Add the positive ``sizes`` of one change; ``sec`` never falls."""
        if not sizes:
            return
        self._sizes.extend(sizes)
        runs = self._runs
        if runs and runs[-1][0] == sec:
            runs[-1][1] += len(sizes)
        else:
            runs.append([sec, len(sizes)])
        self._drop(len(self._sizes) - SIZE_SAMPLES_MAX)

    def expire(self, sec: int) -> None:
        """Forget samples 30 minutes before ``sec`` or older."""
        horizon = sec - WINDOW_SEC
        while self._runs and self._runs[0][0] <= horizon:
            self._drop(self._runs[0][1])

    def _drop(self, count: int) -> None:
        while count > 0:
            run = self._runs[0]
            taken = min(count, run[1])
            for _ in range(taken):
                self._sizes.popleft()
            run[1] -= taken
            count -= taken
            if not run[1]:
                self._runs.popleft()

    def percentiles(self, now_sec: int, percents: Sequence[float]) -> tuple[int, list[float]]:
        """How many samples are in the window at ``now_sec``, and their percentiles.

        By linear interpolation (Hyndman and Fan, 1996, definition 7; numpy's default). Without
        samples the list is empty.
        """
        horizon = now_sec - WINDOW_SEC
        old = sum(count for sec, count in self._runs if sec <= horizon)
        count = len(self._sizes) - old
        if not count:
            return 0, []
        column = np.fromiter(self._sizes, dtype=np.float64, count=len(self._sizes))[old:]
        return count, [float(value) for value in np.percentile(column, percents)]

    def refine(self, sz_e: int, finer: int) -> None:
        """Express sizes in finer units."""
        self._sizes = deque(rescale(size, sz_e, finer) for size in self._sizes)

    def snapshot(self) -> tuple[bytes, ...]:
        """Three columns; `restore` takes them back."""
        return (
            pack((sec for sec, _ in self._runs), delta=True),
            pack(count for _, count in self._runs),
            pack(self._sizes),
        )

    def restore(self, columns: Sequence[bytes]) -> None:
        """Become the history that `snapshot` was taken of."""
        secs, counts, sizes = (unpack(column) for column in columns)
        self._runs = deque([sec, count] for sec, count in zip(secs, counts, strict=True))
        self._sizes = deque(sizes)
