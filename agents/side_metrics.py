"""What other parts of a worker count and know, as metrics: whose symbols these are, merged windows,
telemetry, and what else is written beside the changelog.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agents.merging import Merging
from agents.side_topics import SideTopics
from streams.telemetry import Telemetry


class Owner(Protocol):
    """Knows what this node writes."""

    def owned(self) -> Sequence[str]:
        """Symbols whose lease is held now."""
        ...


class SideMetrics(Collector):
    """Looks at what the parts have counted when somebody asks.

    Nothing is told of symbols that another writes: their series are gone with the lease.
    """

    def __init__(
        self, merging: Merging, telemetry: Telemetry, topics: SideTopics, owner: Owner
    ) -> None:
        self._merging, self._telemetry, self._topics = merging, telemetry, topics
        self._owner = owner

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        owned = self._owner.owned()
        written_here = GaugeMetricFamily(
            "tapeline_symbol_owned",
            "1 of each symbol that this node may write: without a series on any node nobody does",
            labels=["symbol"],
        )
        for symbol in owned:
            written_here.add_metric([symbol], 1)
        yield written_here
        merged = CounterMetricFamily(
            "tapeline_merge",
            "Merged windows and their events, by what became of them",
            labels=["symbol", "outcome"],
        )
        ours = set(owned)
        for (symbol, outcome), count in [*self._merging.counts.items()]:
            if symbol in ours:
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
