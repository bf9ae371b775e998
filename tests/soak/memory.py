"""Whether resident memory stays where it is, of processes that are started anew every few minutes.

A process that was just started holds less than one that has run for a while, so lives are compared
with lives: each counts by the median of its memory from an age on at which it has started up. A
straight line through those says what memory does over the run. A process that is not started anew
counts sample by sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Final, NamedTuple

WITHIN: Final = 0.05
LIVES_LEAST: Final = 3
SAMPLES_LEAST: Final = 3
"""Of a life that counts."""

SPAN_LEAST_S: Final = 300.0
"""Of the samples of a process that is not started anew: a start alone says nothing."""


class Resident(NamedTuple):
    """One look at a process.

    Attributes:
        at_s: Of the run.
        pid: Whose life it is of.
        age_s: Of that life.
        mb: Resident.
    """

    at_s: float
    pid: int
    age_s: float
    mb: float


class Flatness(NamedTuple):
    """What memory does from a time on.

    Attributes:
        points: Lives, or samples, that the line goes through.
        lives: Whether they are lives.
        mean_mb: Of the points.
        rise: What the line rises from its first point to its last, as a share of the mean; negative
            where it falls.
        spread: From the least point to the greatest, as a share of the mean.
    """

    points: int
    lives: bool
    mean_mb: float
    rise: float
    spread: float

    @property
    def flat(self) -> bool:
        """Within 5 %."""
        return abs(self.rise) <= WITHIN

    def __str__(self) -> str:
        of = "lives" if self.lives else "samples"
        return f"{self.mean_mb:.1f} MB, {self.rise:+.1%} ({self.points} {of}, spread {self.spread:.1%})"


def flatness(looks: Sequence[Resident], from_s: float, settle_s: float) -> Flatness | None:
    """Of one component; None where there is too little to judge by.

    Args:
        looks: In the order of time.
        from_s: What was before does not count: windows were filling.
        settle_s: Age from which a process counts.
    """
    lives: dict[int, list[Resident]] = {}
    since: list[Resident] = []
    for look in looks:
        if look.at_s < from_s or look.age_s < settle_s:
            continue
        since.append(look)
        if look.at_s - look.age_s >= from_s:
            lives.setdefault(look.pid, []).append(look)
    whole = [life for life in lives.values() if len(life) >= SAMPLES_LEAST]
    if len(whole) >= LIVES_LEAST:
        points = [(fmean(x.at_s for x in life), median(x.mb for x in life)) for life in whole]
        return _flatness(points, lives=True)
    of_one = len({look.pid for look in since}) == 1
    if of_one and since[-1].at_s - since[0].at_s >= SPAN_LEAST_S:
        return _flatness([(look.at_s, look.mb) for look in since], lives=False)
    return None


def _flatness(points: Sequence[tuple[float, float]], *, lives: bool) -> Flatness:
    values = [mb for _, mb in points]
    mean_mb = fmean(values)
    rise_mb = slope(points) * (points[-1][0] - points[0][0])
    spread_mb = max(values) - min(values)
    return Flatness(len(points), lives, mean_mb, rise_mb / mean_mb, spread_mb / mean_mb)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through them, by least squares."""
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    across = sum((x - mean_x) ** 2 for x, _ in points)
    if not across:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / across
