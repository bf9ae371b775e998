"""Metrics of one reader process."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from serving.stored_reports import StoredReports
from tapeline.clock import Clock
from tapeline.metrics.registry import new_registry

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.5)
# For each symbol, so few: as on the worker, and how long a dead one has been so.
_AGE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 30.0)


class ReaderMetrics:
    """Metrics of one reader process.

    Args:
        clock: What ages are told by.

    Attributes:
        registry: What ``/metrics`` renders.
        stored: Told of each look at what is stored.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.registry = new_registry("reader")
        self.requests = Counter(
            "tapeline_http_requests_total",
            "HTTP requests",
            ("route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tapeline_http_request_seconds",
            "Time to answer",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.refused = Counter(
            "tapeline_http_refused_total",
            "Requests refused at the door, by the kind of problem",
            ("kind",),
            registry=self.registry,
        )
        self.report_age = Histogram(
            "tapeline_report_age_seconds",
            "Age of a report's newest data when it is read",
            ("symbol",),
            buckets=_AGE_BUCKETS,
            registry=self.registry,
        )
        self.websocket_refused = Counter(
            "tapeline_websocket_refused_total",
            "Handshakes refused at the door, by the kind of problem",
            ("kind",),
            registry=self.registry,
        )
        self.stored = StoredReports(clock)
        self.registry.register(self.stored)
        self.history_dropped = Counter(
            "tapeline_query_history_dropped_total",
            "Calls that did not get into a key's history",
            registry=self.registry,
        )
