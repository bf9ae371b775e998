"""Whether resident memory stays where it is, of processes that are started anew every few minutes.

A process that was just started holds less than one that has run for a while, and of two workers the
one that stayed holds more until the other is back. So neither samples nor lives are alike, but whole
cycles are: in each, every component is restarted once. A component counts by what its processes
hold together, on average over a cycle, and a straight line through the cycles says what memory does.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

WITHIN: Final = 0.05
CYCLES_LEAST: Final = 4
"""Fewer say nothing: half of the restarts are kills, and take turns between processes."""


class Resident(NamedTuple):
    """One look at a process.

    Attributes:
        at_s: Of the run.
        mb: Resident.
    """

    at_s: float
    mb: float


class Flatness(NamedTuple):
    """What a component's memory does from a time on.

    Attributes:
        cycles: That the line goes through.
        mean_mb: Of all processes together, over all cycles.
        rise: What the line rises from its first point to its last, as a share of the mean; negative
            where it falls.
        spread: From the least cycle to the greatest, as a share of the mean.
    """

    cycles: int
    mean_mb: float
    rise: float
    spread: float

    @property
    def flat(self) -> bool:
        """Within 5 %."""
        return abs(self.rise) <= WITHIN

    def __str__(self) -> str:
        return f"{self.mean_mb:.1f} MB, {self.rise:+.1%} ({self.cycles} cycles, spread {self.spread:.1%})"


def flatness(
    members: Sequence[Sequence[Resident]], from_s: float, ended_s: float, every_s: float
) -> Flatness | None:
    """Of one component; None where there are too few cycles to judge by.

    Args:
        members: Looks at each of its processes, in the order of time.
        from_s: What was before does not count: windows were filling.
        ended_s: Where the last cycle ends.
        every_s: Length of a cycle.
    """
    count = int((ended_s - from_s) / every_s + 0.01)
    points = []
    for cycle in range(count):
        begin_s = from_s + cycle * every_s
        held = [
            [look.mb for look in looks if begin_s <= look.at_s < begin_s + every_s]
            for looks in members
        ]
        if all(held):
            points.append((begin_s + every_s / 2, sum(fmean(each) for each in held)))
    if len(points) < CYCLES_LEAST:
        return None
    values = [mb for _, mb in points]
    mean_mb = fmean(values)
    rise_mb = slope(points) * (points[-1][0] - points[0][0])
    spread_mb = max(values) - min(values)
    return Flatness(len(points), mean_mb, rise_mb / mean_mb, spread_mb / mean_mb)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through them, by least squares."""
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    across = sum((x - mean_x) ** 2 for x, _ in points)
    if not across:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / across
