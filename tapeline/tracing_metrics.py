"""What has become of spans, as metrics of the process that makes them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from tapeline.tracing import Tracing


class TracingMetrics(Collector):
    """Looks at the counts when somebody asks."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def collect(self) -> Iterator[Metric]:
        """Spans by outcome."""
        spans = CounterMetricFamily(
            "tapeline_trace_spans",
            "Spans, by what became of them: exported, failed (the collector did not take them), "
            "dropped (there was no room)",
            labels=["outcome"],
        )
        for outcome, count in self._tracing.counts().items():
            spans.add_metric([outcome], count)
        yield spans


def register(registry: CollectorRegistry, tracing: Tracing | None) -> CollectorRegistry:
    """Show them in a registry, where spans are made; returns the registry."""
    if tracing is not None:
        registry.register(TracingMetrics(tracing))
    return registry
