"""Metrics that processes export, by the names they are scraped under, without any process."""

from __future__ import annotations

from functools import cache

from tapeline.metrics.live import families


@cache
def metric_names() -> frozenset[str]:
    """Of worker, bridge and reader: each metric, and a histogram's series beside it."""
    return frozenset(
        name for family in families().values() for name in (family.name, *family.series)
    )
