"""What the hub counts and says of clients that are behind."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from serving.hub import metrics as module
from serving.hub.metrics import LINES_MAX, LOG_PERIOD_MS, HubMetrics


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    lines: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def warning(self, event: str, **fields: Any) -> None:
            lines.append((event, fields))

    monkeypatch.setattr(module, "log", Log())
    return lines


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_what_was_dropped_is_said_once_a_while_with_all_of_it(
    said: list[tuple[str, dict[str, Any]]], registry: CollectorRegistry
) -> None:
    metrics = HubMetrics(registry)
    for mono_ms in (0, 10, LOG_PERIOD_MS - 1, LOG_PERIOD_MS, LOG_PERIOD_MS + 1):
        metrics.dropped({("ticks", "BTCUSDT"): 3}, mono_ms)
    assert said == [
        ("coalescing.applied", {"stream_key": "ticks|BTCUSDT", "dropped_count": 3}),
        ("coalescing.applied", {"stream_key": "ticks|BTCUSDT", "dropped_count": 9}),
    ]
    assert registry.get_sample_value("tapeline_hub_coalesced_total", {"channel": "ticks"}) == 15


def test_with_many_streams_only_some_are_said_and_the_rest_is_kept(
    said: list[tuple[str, dict[str, Any]]], registry: CollectorRegistry
) -> None:
    metrics = HubMetrics(registry)
    pairs = {("ticks", f"S{n}"): 1 for n in range(100)}
    metrics.dropped(pairs, 0)
    assert len(said) == LINES_MAX
    metrics.dropped({("ticks", "S99"): 1}, LOG_PERIOD_MS)
    assert said[-1][1] == {"stream_key": "ticks|S99", "dropped_count": 2}


def test_a_client_that_takes_nothing_is_said_with_what_waits_for_it(
    said: list[tuple[str, dict[str, Any]]], registry: CollectorRegistry
) -> None:
    metrics = HubMetrics(registry)
    for depth in (5, 6):
        metrics.backpressure("trades|BTCUSDT", depth, 0)
    assert said == [("backpressure.triggered", {"stream_key": "trades|BTCUSDT", "buffer_depth": 5})]


def test_the_most_subscribers_there_have_been_are_remembered(registry: CollectorRegistry) -> None:
    metrics = HubMetrics(registry)
    for number in (1, 7, 3):
        metrics.subscribed(number)
    assert registry.get_sample_value("tapeline_hub_subscribers") == 3
    assert registry.get_sample_value("tapeline_hub_subscribers_peak") == 7


def test_frames_and_bytes_and_the_wait_are_counted(registry: CollectorRegistry) -> None:
    metrics = HubMetrics(registry)
    metrics.sent([b"abc", b"de"], 4.0)
    metrics.sent([b"f"], None)
    assert registry.get_sample_value("tapeline_hub_frames_total") == 3
    assert registry.get_sample_value("tapeline_hub_bytes_total") == 6
    assert registry.get_sample_value("tapeline_hub_delivery_seconds_count") == 1
    assert registry.get_sample_value("tapeline_hub_delivery_seconds_sum") == pytest.approx(0.004)
