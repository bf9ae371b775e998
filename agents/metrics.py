"""The worker's metrics, by the names its operators know, and the self-test at the start.

Durations are in seconds. ``symbol`` labels come from the settings only, and those of symbols
given up are dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from time import perf_counter
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from agents.coordination.sink import WriteKind
from agents.shards import BatchOutcome
from tapeline.logging import get_logger
from tapeline.metrics.registry import new_registry

log = get_logger("worker")

_FAST_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
# For each symbol, so few: fresh, late for a trader, and the ages at which a report is degraded and
# down. With 500 symbols each bucket is 500 series.
_AGE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)

EXPECTED: Final = (
    "nt_node_heartbeat",
    "nt_symbols_assigned",
    "tapeline_symbols_known",
    "nt_calc_latency_seconds",
    "nt_reports_published",
    "nt_data_age_seconds",
    "nt_lease_conflicts",
    "nt_hrw_rebalances",
    "tapeline_records_applied",
    "tapeline_records_skipped",
    "tapeline_dead_letters",
    "tapeline_engine_events",
    "tapeline_cycles_skipped",
    "tapeline_publish_failures",
    "tapeline_checkpoints",
    "tapeline_checkpoint_bytes",
    "tapeline_checkpoint_seconds",
    "tapeline_committed_offset",
    "tapeline_position",
    "tapeline_ticks_published",
    "tapeline_published_bytes",
    "tapeline_publish_seconds",
    "tapeline_leases_lost",
    "tapeline_stalls",
    "tapeline_stall_seconds",
    "tapeline_outage",
    "tapeline_end_offset",
    "tapeline_progress_age_seconds",
    "tapeline_loop_delay_seconds",
    "tapeline_takeovers",
    "tapeline_evictions",
    "tapeline_warm_partitions",
    "tapeline_warm_records_applied",
    "tapeline_warm_events",
    "tapeline_ownership_differences",
    "tapeline_ownership_repairs",
)
"""Families that `Metrics.missing` looks for."""


FROM_ZERO: Final = {
    "checkpoints": ("acknowledged", "failed"),
    "cycles_skipped": ("fast", "slow"),
    "dead_letters": ("malformed", "misrouted", "unknown_version"),
    "engine_events": ("gap.crossed", "gap.error", "gap.feed_seq"),
    "leases_lost": ("fenced", "taken", "unknown"),
    "outage": ("broker", "coordinator", "dead_letters", "redis", "topic"),
    "publish_failures": ("connection", "gave_up", "refused", "timeout"),
    "takeovers": ("absent", "assigned", "draining", "free", "stalled"),
}
"""Series that are there from the start: of one that appears with its first event, Prometheus does
not see that event.
"""


class Children(dict[str | int, Any]):
    """A family's children by the value of its one label: looking one up costs more than counting.

    Attributes:
        family: Whose.
    """

    def __init__(self, family: MetricWrapperBase) -> None:
        super().__init__()
        self.family = family

    def __missing__(self, label: str | int) -> Any:
        child = self[label] = self.family.labels(label)
        return child

    def forget(self, label: str | int) -> None:
        """Render it no more."""
        if self.pop(label, None) is not None:
            self.family.remove(label)

    def keep(self, labels: Collection[str | int]) -> None:
        """Render no others any more."""
        for label in [label for label in self if label not in labels]:
            self.forget(label)


class Metrics:
    """All metrics of one worker, in a registry of their own.

    Attributes:
        registry: What ``/metrics`` renders.
        ends: Next offset to be written, by assigned partition, as last seen.
    """

    def __init__(self) -> None:
        self.registry = registry = new_registry("worker")

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self.node_heartbeat = gauge(
            "nt_node_heartbeat", "1 while this node's heartbeat is accepted"
        )
        self.symbols_assigned = gauge("nt_symbols_assigned", "Symbols this node writes reports of")
        self.symbols_known = gauge(
            "tapeline_symbols_known", "Symbols that the settings name, whoever writes them"
        )
        self.calc_latency = Histogram(
            "nt_calc_latency_seconds",
            "Time to compute one figure of one symbol's report",
            ("metric", "cycle"),
            buckets=_FAST_BUCKETS,
            registry=registry,
        )
        self.reports_published = counter(
            "nt_reports_published_total", "Reports accepted by Redis", "symbol"
        )
        self.data_age = Children(
            Histogram(
                "nt_data_age_seconds",
                "Age of the newest record when a report is computed",
                ("symbol",),
                buckets=_AGE_BUCKETS,
                registry=registry,
            )
        )
        self.lease_conflicts = counter(
            "nt_lease_conflicts_total", "Writes refused because another node holds the lease"
        )
        self.hrw_rebalances = counter("nt_hrw_rebalances_total", "Changes of the owned symbols")
        self.records_applied = counter("tapeline_records_applied_total", "Records applied", "kind")
        self.records_skipped = counter(
            "tapeline_records_skipped_total", "Records redelivered and skipped by their offset"
        )
        self.dead_letters = counter(
            "tapeline_dead_letters_total", "Records sent to the dead-letter topic", "reason"
        )
        self.engine_events = counter(
            "tapeline_engine_events_total",
            "What engines noticed: gaps, duplicates, unlisted keys",
            "event",
        )
        self.cycles_skipped = counter(
            "tapeline_cycles_skipped_total",
            "Report cycles skipped because the worker lagged",
            "cycle",
        )
        self.publish_failures = counter(
            "tapeline_publish_failures_total", "Writes that Redis did not accept", "reason"
        )
        self.published_bytes = counter(
            "tapeline_published_bytes_total", "Bytes of accepted writes", "kind"
        )
        self.leases_lost = counter("tapeline_leases_lost_total", "Leases lost", "reason")
        self.ticks_published = counter(
            "tapeline_ticks_published_total", "Ticks accepted by Redis", "symbol"
        )
        self.checkpoints = counter("tapeline_checkpoints_total", "Checkpoints", "outcome")
        self.checkpoint_bytes = counter(
            "tapeline_checkpoint_bytes_total", "Bytes of acknowledged checkpoints"
        )
        self.checkpoint_seconds = counter(
            "tapeline_checkpoint_seconds_total",
            "Processor time spent on taking and encoding checkpoints, acknowledged or not",
        )
        self.position = Children(gauge("tapeline_position", "Next offset to apply", "partition"))
        self.committed_offset = Children(
            gauge("tapeline_committed_offset", "Committed offset", "partition")
        )
        self.stalls = counter(
            "tapeline_stalls_total", "Standstills that lasted half of NT_STALL_MS", "kind"
        )
        self.stall_seconds = gauge(
            "tapeline_stall_seconds", "Longest standstill now, from half of NT_STALL_MS on", "kind"
        )
        self.outage = gauge("tapeline_outage", "1 while it is away and is waited for", "what")
        self.end_offset = gauge(
            "tapeline_end_offset", "Next offset to be written, as last seen", "partition"
        )
        self.progress_age = gauge(
            "tapeline_progress_age_seconds",
            "Time without progress of a partition that has records to apply",
            "partition",
        )
        self.loop_delay = gauge(
            "tapeline_loop_delay_seconds", "How late the event loop served the watchdog's last tick"
        )
        self.publish_seconds = Histogram(
            "tapeline_publish_seconds",
            "Round trip of a batch of fenced writes to Redis",
            buckets=_FAST_BUCKETS,
            registry=registry,
        )
        self.warm_applied = counter(
            "tapeline_warm_records_applied_total",
            "Records applied to warm copies of other nodes' symbols",
        )
        self.warm_events = counter(
            "tapeline_warm_events_total", "What engines of warm copies noticed", "event"
        )
        self.takeovers = counter(
            "tapeline_takeovers_total", "Leases asked for that another node had", "reason"
        )
        self.evictions = counter(
            "tapeline_evictions_total", "Dead nodes taken out of the consumer group"
        )
        self.warm_partitions = gauge(
            "tapeline_warm_partitions", "Partitions kept warm beside the assigned ones"
        )
        self.ownership_differences = gauge(
            "tapeline_ownership_differences",
            "Where lease, rendezvous hashing and Kafka disagree, at the last look",
            "kind",
        )
        self.ownership_repairs = counter(
            "tapeline_ownership_repairs_total", "Rebalances asked for because partitions lay wrong"
        )
        for name, labels in FROM_ZERO.items():
            for label in labels:
                getattr(self, name).labels(label)
        self._watched: set[int] = set()
        self.ends: dict[int, int] = {}
        self._applied = Children(self.records_applied)
        self._published: dict[WriteKind, Children] = {
            "report": Children(self.reports_published),
            "tick": Children(self.ticks_published),
        }
        self._published_bytes = Children(self.published_bytes)
        self._laps: dict[tuple[str, str], Any] = {}

    def missing(self) -> list[str]:
        """Expected families that are not registered: the self-test at the start."""
        registered = {family.name for family in self.registry.collect()}
        return [name for name in EXPECTED if name not in registered]

    # --- what coordination tells (`CoordinationSink`) ------------------------------------------

    def published(self, symbol: str, kind: WriteKind, size: int) -> None:
        """A report or a tick was accepted."""
        self._published[kind][symbol].inc()
        self._published_bytes[kind].inc(size)

    def round_trip(self, seconds: float) -> None:
        """Redis answered a batch of writes."""
        self.publish_seconds.observe(seconds)

    def split(self, symbol: str, size: int) -> None:
        """A report was too large for one key."""
        log.warning("report.split", symbol=symbol, bytes=size)
        self.engine_events.labels("report_split").inc()

    def stale(self, symbol: str, kind: WriteKind) -> None:
        """A write was behind what had been published."""
        self.publish_failures.labels("stale_data").inc()

    def conflict(self, symbol: str, reason: str) -> None:
        """A write was refused to this writer."""
        log.warning("lease_conflict", symbol=symbol, reason=reason)
        self.lease_conflicts.inc()

    def failed(self, reason: str) -> None:
        """A try came to nothing."""
        self.publish_failures.labels(reason).inc()

    def lease_lost(self, symbol: str, reason: str) -> None:
        """A lease may no longer be written under."""
        self.leases_lost.labels(reason).inc()

    def leases(self, held: int) -> None:
        """How many leases are held."""
        self.symbols_assigned.set(held)

    def taking(self, symbol: str, reason: str) -> None:
        """Another's lease is asked for."""
        self.takeovers.labels(reason).inc()

    def evicted(self, node: str) -> None:
        """A dead node is out of the group."""
        self.evictions.inc()

    def differences(self, by_kind: Mapping[str, int]) -> None:
        """What the last look found."""
        for kind, count in by_kind.items():
            self.ownership_differences.labels(kind).set(count)

    def heartbeat(self, accepted: bool) -> None:
        """A heartbeat was accepted, or not."""
        self.node_heartbeat.set(1 if accepted else 0)

    # --- what engines tell ----------------------------------------------------------------------

    def batch(self, outcome: BatchOutcome) -> None:
        """Count what became of batches."""
        for kind, count in outcome.kinds.items():
            self._applied[kind].inc(count)
        if outcome.skipped:
            self.records_skipped.inc(outcome.skipped)
        for event, count in outcome.counts.items():
            self.engine_events.labels(event).inc(count)

    def warm(self, outcome: BatchOutcome) -> None:
        """Count what became of a batch of another node's partition."""
        self.warm_applied.inc(outcome.applied)
        for event, count in outcome.counts.items():
            self.warm_events.labels(event).inc(count)

    # --- what the watchdog tells ----------------------------------------------------------------

    def progress(self, ends: Mapping[int, int], ages_s: Mapping[int, float]) -> None:
        """End offset and age of progress of each assigned partition; others are forgotten."""
        for partition in self._watched - ages_s.keys():
            for family in (self.end_offset, self.progress_age):
                with contextlib.suppress(KeyError):
                    family.remove(partition)
        self._watched = set(ages_s)
        self.ends = dict(ends)
        for partition, age_s in ages_s.items():
            self.end_offset.labels(partition).set(ends[partition])
            self.progress_age.labels(partition).set(age_s)

    def laps(self, cycle: str) -> Callable[[str], None]:
        """A stop-watch for one cycle: told each figure's name as it is done."""
        last = perf_counter()

        def lap(metric: str) -> None:
            nonlocal last
            now = perf_counter()
            child = self._laps.get((metric, cycle))
            if child is None:
                child = self._laps[metric, cycle] = self.calc_latency.labels(metric, cycle)
            child.observe(now - last)
            last = now

        return lap

    def drop_symbols(self, symbols: Iterable[str]) -> None:
        """Forget the labels of symbols given up."""
        for symbol in symbols:
            for children in (*self._published.values(), self.data_age):
                children.forget(symbol)

    def assigned(self, partitions: Collection[int], symbols: Collection[str]) -> None:
        """Forget the labels of all partitions and symbols but these."""
        for children in (self.position, self.committed_offset):
            children.keep(partitions)
        for children in (*self._published.values(), self.data_age):
            children.keep(symbols)
