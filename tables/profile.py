"""Volume by price over the last 30 minutes: point of control and value area.

Bins are a fixed number of ticks wide, counted from price 0, so that they stay put whenever an
engine starts. They are kept in buckets of one second: 30 minutes of busy trading in some
70 KB, where single trades would be megabytes.

The definitions follow J. Dalton, E. Jones, R. Dalton, *Mind over Markets* (1993), appendix 1,
by volume in place of time. What it leaves open is settled so: the value area grows one
non-empty bin at a time towards the side whose next bin holds more; ties go up; of bins with
equal volume the lowest is the point of control.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from tables.columns import pack, unpack
from tables.parameters import WINDOW_SEC
from tables.scale import rescale


class ProfileBins(NamedTuple):
    """What the window holds: trades, and (bin, volume) ascending by bin."""

    trades: int
    bins: list[tuple[int, int]]


class ValueArea(NamedTuple):
    """Bin numbers; ``low <= poc <= high`` by construction."""

    poc: int
    low: int
    high: int


class VolumeProfile:
    """Volume bins of the last 30 minutes, in units of ``10 ** sz_e``."""

    __slots__ = ("_seconds", "_total")

    def __init__(self) -> None:
        # (second, [trades], {bin: volume}), ascending by second
        self._seconds: deque[tuple[int, list[int], dict[int, int]]] = deque()
        # The sum of all buckets. Integers, so taking a bucket out again leaves no residue.
        self._total: dict[int, int] = {}

    def add(self, sec: int, bin_: int, sz: int) -> None:
        """Count one trade. A late one goes into its own second, if that is still in reach."""
        self._total[bin_] = self._total.get(bin_, 0) + sz
        bucket = self._bucket(sec)
        bucket[1][0] += 1
        bucket[2][bin_] = bucket[2].get(bin_, 0) + sz

    def _bucket(self, sec: int) -> tuple[int, list[int], dict[int, int]]:
        seconds = self._seconds
        at = len(seconds)
        while at and seconds[at - 1][0] >= sec:
            at -= 1
            if seconds[at][0] == sec:
                return seconds[at]
        bucket: tuple[int, list[int], dict[int, int]] = (sec, [0], {})
        seconds.insert(at, bucket)
        return bucket

    def expire(self, sec: int) -> None:
        """Forget seconds 30 minutes before ``sec`` or older."""
        horizon = sec - WINDOW_SEC
        while self._seconds and self._seconds[0][0] <= horizon:
            _take(self._total, self._seconds.popleft()[2])

    def clear(self) -> None:
        """Forget everything: the bins' width has changed."""
        self._seconds.clear()
        self._total.clear()

    def at(self, now_sec: int) -> ProfileBins:
        """The window at ``now_sec``, which may be later than the newest trade."""
        horizon = now_sec - WINDOW_SEC
        total = self._total
        trades = 0
        expired = []
        for sec, count, bins in self._seconds:
            if sec <= horizon:
                expired.append(bins)
            else:
                trades += count[0]
        if expired:
            total = dict(total)
            for bins in expired:
                _take(total, bins)
        return ProfileBins(trades, sorted(total.items()))

    def refine(self, sz_e: int, finer: int) -> None:
        """Express volumes in finer units."""
        for bins in (self._total, *(bucket[2] for bucket in self._seconds)):
            for bin_, volume in bins.items():
                bins[bin_] = rescale(volume, sz_e, finer)

    def snapshot(self) -> tuple[bytes, ...]:
        """Five columns: second, trades and number of bins; bin and volume."""
        bins: list[int] = []
        volumes: list[int] = []
        for _, _, row in self._seconds:
            ordered = sorted(row)
            bins += ordered
            volumes += map(row.__getitem__, ordered)
        return (
            pack((sec for sec, _, _ in self._seconds), delta=True),
            pack(count[0] for _, count, _ in self._seconds),
            pack(len(row) for _, _, row in self._seconds),
            pack(bins, delta=True),
            pack(volumes),
        )

    def restore(self, columns: Sequence[bytes]) -> None:
        """Become the profile that `snapshot` was taken of."""
        secs, counts, lengths, bins, volumes = (unpack(column) for column in columns)
        self.clear()
        pairs = zip(bins, volumes, strict=True)
        for sec, count, length in zip(secs, counts, lengths, strict=True):
            row = dict(islice(pairs, length))
            self._seconds.append((sec, [count], row))
            for bin_, volume in row.items():
                self._total[bin_] = self._total.get(bin_, 0) + volume


def _take(total: dict[int, int], bins: dict[int, int]) -> None:
    for bin_, volume in bins.items():
        left = total[bin_] - volume
        if left:
            total[bin_] = left
        else:
            del total[bin_]


def value_area(bins: Sequence[tuple[int, int]], percent: float) -> ValueArea:
    """Point of control, and the bins around it that hold ``percent`` of the volume.

    Args:
        bins: (bin, volume) ascending by bin, at least one, volumes positive.
        percent: 70 by convention.
    """
    poc = max(range(len(bins)), key=lambda at: (bins[at][1], -at))
    target = sum(volume for _, volume in bins) * percent / 100
    low = high = poc
    held = bins[poc][1]
    while held < target and (low > 0 or high < len(bins) - 1):
        below = bins[low - 1][1] if low > 0 else -1
        above = bins[high + 1][1] if high < len(bins) - 1 else -1
        if above >= below:
            high += 1
            held += above
        else:
            low -= 1
            held += below
    return ValueArea(bins[poc][0], bins[low][0], bins[high][0])
