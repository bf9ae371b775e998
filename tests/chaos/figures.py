"""Gaps out of a history, and how they are spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import quantiles

from tests.chaos.history import Accepted


def gap_s(writes: Sequence[Accepted], begin_s: float, end_s: float) -> float:
    """Longest time between accepted writes of later records that touches the span.

    A report of the same records again is no report: what stands still is not published.
    """
    longest, last_s, newest = 0.0, None, -1
    for write in writes:
        if write.watermark <= newest:
            continue
        newest = write.watermark
        if last_s is not None and write.heard_s > begin_s and last_s < end_s:
            longest = max(longest, min(write.heard_s, end_s) - last_s)
        last_s = write.heard_s
    if last_s is None:
        return end_s - begin_s
    return max(longest, end_s - last_s)


def handovers_s(writes: Sequence[Accepted], begin_s: float, end_s: float) -> list[float]:
    """At each change of the writer's token: time from the last write under the old to the first
    of later records under the new one."""
    found: list[float] = []
    last: Accepted | None = None
    for write in writes:
        if last is not None and write.watermark <= last.watermark:
            continue
        if last is not None and write.token != last.token and begin_s < write.heard_s < end_s:
            found.append(write.heard_s - last.heard_s)
        last = write
    return found


def spread(values: Iterable[float]) -> dict[str, float]:
    """p50, p99 and the most, in seconds."""
    listed = list(values)
    if not listed:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}
    if len(listed) == 1:
        listed *= 2
    cuts = quantiles(listed, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3), "max": round(max(listed), 3)}
