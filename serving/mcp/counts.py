"""Metrics of the MCP server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.15, 0.5, 2.0, 10.0, 30.0)


class McpCounts:
    """Counted into a reader's registry.

    Args:
        registry: Of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "tapeline_mcp_calls_total",
            "Calls of tools, by what came of them: ok, or the code of a refusal",
            ("tool", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "tapeline_mcp_call_seconds",
            "Time that a tool took; waits included",
            ("tool",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self.events = Counter(
            "tapeline_mcp_events_total",
            "Events of changed resources, before listeners are told those that they asked for",
            registry=registry,
        )
