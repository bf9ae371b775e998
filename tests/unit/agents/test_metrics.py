"""The worker's metrics: their names, and what moves them."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client import generate_latest

from agents.metrics import EXPECTED, Metrics
from agents.shards import BatchOutcome

OPERATORS_KNOW = (
    "nt_node_heartbeat",
    "nt_symbols_assigned",
    "nt_calc_latency_seconds",
    "nt_reports_published_total",
    "nt_data_age_seconds",
    "nt_lease_conflicts_total",
    "nt_hrw_rebalances_total",
)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_nothing_is_missing_and_every_known_name_is_rendered() -> None:
    """Those of the operators' dashboards, too."""
    metrics = Metrics()
    assert metrics.missing() == []
    text = generate_latest(metrics.registry).decode()
    for name in OPERATORS_KNOW:
        assert f"# TYPE {name.removesuffix('_total')}" in text or f"# TYPE {name}" in text


@pytest.mark.parametrize("gone", EXPECTED)
def test_what_is_missing_is_found_out(gone: str) -> None:
    """The self-test at the start is one."""
    metrics = Metrics()
    families = [getattr(one, "family", one) for one in vars(metrics).values()]
    collectors = [c for c in families if getattr(c, "_name", None) == gone]
    metrics.registry.unregister(collectors[0])
    assert metrics.missing() == [gone]


def test_a_batch_is_counted_by_what_became_of_it() -> None:
    """Kinds, redeliveries and what engines noticed."""
    metrics = Metrics()
    metrics.batch(
        BatchOutcome(
            applied=3,
            skipped=2,
            counts=Counter({"gap.feed_seq": 1}),
            kinds=Counter({"trade": 2, "book_delta": 1}),
        )
    )
    assert value(metrics, "tapeline_records_applied_total", kind="trade") == 2
    assert value(metrics, "tapeline_records_applied_total", kind="book_delta") == 1
    assert value(metrics, "tapeline_records_skipped_total") == 2
    assert value(metrics, "tapeline_engine_events_total", event="gap.feed_seq") == 1


def test_coordination_is_counted() -> None:
    """Each of its events at its own metric."""
    metrics = Metrics()
    metrics.published("BTCUSDT", "report", 100)
    metrics.published("BTCUSDT", "tick", 10)
    metrics.split("BTCUSDT", 300_000)
    metrics.stale("BTCUSDT", "report")
    metrics.conflict("BTCUSDT", "fenced")
    metrics.failed("timeout")
    metrics.lease_lost("BTCUSDT", "taken")
    metrics.leases(4)
    metrics.heartbeat(True)
    assert value(metrics, "nt_reports_published_total", symbol="BTCUSDT") == 1
    assert value(metrics, "tapeline_ticks_published_total", symbol="BTCUSDT") == 1
    assert value(metrics, "tapeline_published_bytes_total", kind="report") == 100
    assert value(metrics, "tapeline_engine_events_total", event="report_split") == 1
    assert value(metrics, "tapeline_publish_failures_total", reason="stale_data") == 1
    assert value(metrics, "tapeline_publish_failures_total", reason="timeout") == 1
    assert value(metrics, "nt_lease_conflicts_total") == 1
    assert value(metrics, "tapeline_leases_lost_total", reason="taken") == 1
    assert value(metrics, "nt_symbols_assigned") == 4
    assert value(metrics, "nt_node_heartbeat") == 1
    metrics.heartbeat(False)
    assert value(metrics, "nt_node_heartbeat") == 0


def test_laps_time_each_figure() -> None:
    """From the one before."""
    metrics = Metrics()
    lap = metrics.laps("fast")
    lap("depth")
    lap("flow")
    for metric in ("depth", "flow"):
        count = value(metrics, "nt_calc_latency_seconds_count", metric=metric, cycle="fast")
        assert count == 1


def test_labels_of_symbols_given_up_are_dropped() -> None:
    """Whether or not they ever had a value."""
    metrics = Metrics()
    metrics.published("BTCUSDT", "report", 1)
    metrics.published("ETHUSDT", "report", 1)
    metrics.drop_symbols(["BTCUSDT", "NEVERSEEN"])
    assert value(metrics, "nt_reports_published_total", symbol="BTCUSDT") is None
    assert value(metrics, "nt_reports_published_total", symbol="ETHUSDT") == 1


def test_an_assignment_drops_the_labels_of_what_is_not_in_it() -> None:
    """Also of a symbol whose lease was lost while its partition was still ours."""
    metrics = Metrics()
    for partition in (1, 2):
        metrics.position[partition].set(7)
        metrics.committed_offset[partition].set(5)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        metrics.published(symbol, "tick", 1)
        metrics.data_age[symbol].observe(0.3)
    metrics.assigned({2}, ["ETHUSDT"])
    for name in ("tapeline_position", "tapeline_committed_offset"):
        assert value(metrics, name, partition="1") is None
        assert value(metrics, name, partition="2") in {5, 7}
    for name in ("tapeline_ticks_published_total", "nt_data_age_seconds_count"):
        assert value(metrics, name, symbol="BTCUSDT") is None
        assert value(metrics, name, symbol="ETHUSDT") == 1
    metrics.position[1].set(9)
    assert value(metrics, "tapeline_position", partition="1") == 9
