"""Counts of merged windows, telemetry and what else is written beside the changelog, as metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from agents.merging import Merging
from agents.side_topics import SideTopics
from streams.telemetry import Telemetry


class SideMetrics(Collector):
    """Looks at what the parts have counted when somebody asks."""

    def __init__(self, merging: Merging, telemetry: Telemetry, topics: SideTopics) -> None:
        self._merging, self._telemetry, self._topics = merging, telemetry, topics

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        merged = CounterMetricFamily(
            "tapeline_merge",
            "Merged windows and their events, by what became of them",
            labels=["symbol", "outcome"],
        )
        for (symbol, outcome), count in [*self._merging.counts.items()]:
            merged.add_metric([symbol, outcome], count)
        yield merged
        told = CounterMetricFamily(
            "tapeline_telemetry", "Telemetry events", labels=["event", "venue", "outcome"]
        )
        for labels, count in self._telemetry.outcomes():
            told.add_metric(labels, count)
        yield told
        written = CounterMetricFamily(
            "tapeline_side_records",
            "Records written beside the changelog",
            labels=["topic", "outcome"],
        )
        for outcome, counts in (
            ("written", self._topics.written),
            ("dropped", self._topics.dropped),
        ):
            for topic, count in [*counts.items()]:
                written.add_metric([topic, outcome], count)
        yield written
