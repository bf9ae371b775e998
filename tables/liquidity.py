"""Walls and vacuums: levels that are large, or thin, against the recent sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from streams.events import Level

Severity = Literal["low", "medium", "high"]


class WallLevel(NamedTuple):
    """One large level, integer units."""

    px: int
    sz: int
    severity: Severity


class VacuumRun(NamedTuple):
    """A run of thin levels: its first and last price as seen from mid, and its length."""

    from_px: int
    to_px: int
    levels: int
    severity: Severity


def graded(value: float, medium: float, high: float) -> Severity:
    """``high`` and ``medium`` from their thresholds on, else ``low``."""
    if value >= high:
        return "high"
    return "medium" if value >= medium else "low"


def walls(levels: Sequence[Level], threshold: float) -> list[WallLevel]:
    """Levels of at least ``threshold``; medium from 2x, high from 3x of it.

    Args:
        levels: One side, best first.
        threshold: The wall percentile of recent sizes times the multiplier, positive.
    """
    return [
        WallLevel(px, sz, graded(sz / threshold, 2.0, 3.0)) for px, sz in levels if sz >= threshold
    ]


def vacuums(levels: Sequence[Level], threshold: float, min_levels: int) -> list[VacuumRun]:
    """Runs of ``min_levels`` or more neighbouring levels all thinner than ``threshold``.

    Medium from 6 levels, high from 10. Neighbours are neighbours among the levels that exist.
    """
    found: list[VacuumRun] = []
    run: list[int] = []
    for px, sz in (*levels, (0, None)):
        if sz is not None and sz < threshold:
            run.append(px)
            continue
        if len(run) >= min_levels:
            found.append(VacuumRun(run[0], run[-1], len(run), graded(len(run), 6, 10)))
        run = []
    return found
