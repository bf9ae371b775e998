"""Spans: what they say, where they go, and that nobody waits for it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tapeline.config import load_settings, shown
from tapeline.errors import ConfigError
from tapeline.span_queue import SpanQueue
from tapeline.traceparent import TraceContext
from tapeline.tracing import since, start_tracing
from tapeline.tracing_metrics import register

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tapeline import otel
from tests.support.otlp import Collector, collector

PARENT = TraceContext("ab" * 16, "cd" * 8)
NODE = {"NT_NODE_ID": "n1"}


@pytest.fixture
def collected() -> Iterator[Collector]:
    with collector() as heard:
        yield heard


def until(true: Callable[[], Any], timeout_s: float = 4.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


# --- what spans say -------------------------------------------------------------------------------


def test_a_span_is_what_it_was_told() -> None:
    """Name, times, kind, parent, links, attributes, and what went wrong."""
    memory = InMemorySpanExporter()
    tracing = otel.OtelTracing(memory, Resource.create({}))
    other = TraceContext("12" * 16, "34" * 8)
    span = tracing.start(
        "worker.apply",
        parent=PARENT,
        kind="consumer",
        start_ns=1_000,
        links=[other],
        attributes={"tapeline.symbol": "BTCUSDT"},
    )
    span.end(2_000, error="boom", attributes={"records": 3})
    tracing.stop()
    (found,) = memory.get_finished_spans()
    assert (found.name, found.start_time, found.end_time) == ("worker.apply", 1_000, 2_000)
    assert f"{found.context.trace_id:032x}" == PARENT.trace_id == span.context.trace_id
    assert f"{found.context.span_id:016x}" == span.context.span_id != PARENT.span_id
    assert f"{found.parent.span_id:016x}" == PARENT.span_id
    assert [f"{link.context.trace_id:032x}" for link in found.links] == [other.trace_id]
    assert found.kind.name == "CONSUMER"
    assert dict(found.attributes) == {"tapeline.symbol": "BTCUSDT", "records": 3}
    assert (found.status.status_code.name, found.status.description) == ("ERROR", "boom")


def test_a_span_without_a_parent_begins_a_trace() -> None:
    """Whatever span the code around it runs in."""
    memory = InMemorySpanExporter()
    tracing = otel.OtelTracing(memory, Resource.create({}))
    one, two = tracing.start("a"), tracing.start("b")
    one.end()
    two.end()
    tracing.stop()
    assert one.context.trace_id != two.context.trace_id
    assert [span.parent for span in memory.get_finished_spans()] == [None, None]


def test_the_environment_says_whose_spans_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over what we would say."""
    settings = load_settings(NODE)
    own = otel.resource_of(settings, "worker").attributes
    assert (own["service.name"], own["service.instance.id"]) == ("tapeline-worker", "n1")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.version=9")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "desk")
    told = otel.resource_of(settings, "worker").attributes
    assert told["service.name"] == "desk"
    assert (told["deployment.environment"], told["service.version"]) == ("test", "9")
    assert told["service.namespace"] == "tapeline"


@pytest.mark.parametrize(
    ("now_ms", "start_ms"), [(10_000, 9_990), (10_000, 10_000), (70_000, 10_000)]
)
def test_a_recent_moment_is_a_beginning(now_ms: int, start_ms: int) -> None:
    assert since(start_ms, now_ms * 1_000_000) == start_ms * 1_000_000


@pytest.mark.parametrize("start_ms", [10_001, -60_000])
def test_a_moment_of_another_time_is_none(start_ms: int) -> None:
    """A tape's, or that of a clock that was set back."""
    assert since(start_ms, 10_000_000_000) == 10_000_000_000


# --- settings -------------------------------------------------------------------------------------


def test_nothing_is_traced_unless_somebody_asks() -> None:
    assert start_tracing(load_settings({}), "bridge") is None


def test_a_ratio_without_a_collector_is_refused() -> None:
    settings = load_settings({"NT_TRACE_SAMPLE_RATIO": "0.5"})
    with pytest.raises(ConfigError, match=r"NT_TRACE_SAMPLE_RATIO is 0\.5; expected 0 while"):
        start_tracing(settings, "bridge")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tapeline.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    settings = load_settings({"NT_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    with pytest.raises(ConfigError, match=r"NT_OTLP_ENDPOINT .*tapeline\[otel\]"):
        start_tracing(settings, "bridge")


def test_the_sdk_s_own_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    settings = load_settings({"NT_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    assert start_tracing(settings, "bridge") is None


@pytest.mark.parametrize(
    "value",
    ["127.0.0.1:4318", "grpc://h:4317", "http://", "http://h:0", "http://h:99999", "http://h?a=b"],
)
def test_an_endpoint_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"NT_OTLP_ENDPOINT is .*; expected `http\[s\]://"):
        load_settings({"NT_OTLP_ENDPOINT": value})


@pytest.mark.parametrize("value", ["-0.1", "1.1", "all"])
def test_a_ratio_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="NT_TRACE_SAMPLE_RATIO"):
        load_settings({"NT_TRACE_SAMPLE_RATIO": value})


def test_a_password_of_the_collector_is_masked() -> None:
    settings = load_settings({"NT_OTLP_ENDPOINT": "https://user:hush@collect.example/otlp"})
    assert shown(settings)["NT_OTLP_ENDPOINT"] == "https://user:***@collect.example/otlp"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp", "https://h/otlp/v1/traces"),
        ("https://u:p@h/x/v1/traces", "https://u:p@h/x/v1/traces"),
    ],
)
def test_spans_are_posted_where_collectors_take_them(endpoint: str, url: str) -> None:
    assert otel.traces_url(endpoint) == url


# --- on the wire ----------------------------------------------------------------------------------


def test_a_collector_gets_spans_with_whom_they_are_of(collected: Collector) -> None:
    """As OTLP over HTTP, with the credentials of the URL."""
    endpoint = collected.url.replace("//", "//user:hush@")
    tracing = start_tracing(load_settings({**NODE, "NT_OTLP_ENDPOINT": endpoint}), "worker")
    assert tracing is not None
    tracing.start("a", parent=PARENT, attributes={"n": 1}).end()
    until(lambda: collected.spans)
    tracing.stop()
    (span,) = collected.spans
    assert (span.service, span.name, span.attributes) == ("tapeline-worker", "a", {"n": 1})
    assert (span.trace_id, span.parent_id) == PARENT
    assert span.resource["service.instance.id"] == "n1"
    assert collected.headers["Authorization"].startswith("Basic ")
    assert tracing.counts() == {"exported": 1, "failed": 0, "dropped": 0}


def test_what_a_collector_refuses_is_counted(collected: Collector) -> None:
    """And shown among the metrics."""
    collected.status = 400
    settings = load_settings({"NT_OTLP_ENDPOINT": collected.url})
    tracing = start_tracing(settings, "worker")
    assert tracing is not None
    registry = register(CollectorRegistry(), tracing)
    for _ in range(3):
        tracing.start("a").end()
    until(lambda: tracing.counts()["failed"])
    tracing.stop()
    name = "tapeline_trace_spans_total"
    counts = {
        outcome: registry.get_sample_value(name, {"outcome": outcome})
        for outcome in ("exported", "failed", "dropped")
    }
    assert counts == {"exported": 0, "failed": 3, "dropped": 0}


# --- the queue ------------------------------------------------------------------------------------


class Slow:
    """An exporter that takes nothing until it is let."""

    def __init__(self) -> None:
        self.let, self.asked = threading.Event(), threading.Event()
        self.took: list[Any] = []

    def __call__(self, batch: Sequence[Any]) -> bool:
        self.asked.set()
        self.let.wait(10)
        self.took += batch
        return True


def test_nobody_waits_for_a_collector_that_takes_nothing() -> None:
    """What does not fit is dropped and counted; what waits is sent when it answers."""
    slow = Slow()
    queue = SpanQueue(slow, spans_max=10, period_s=0.01)
    queue.put("first")
    assert slow.asked.wait(4)
    began_s = time.monotonic()
    for n in range(1000):
        queue.put(n)
    assert time.monotonic() - began_s < 1.0
    assert queue.dropped == 990
    slow.let.set()
    queue.stop()
    assert slow.took == ["first", *range(10)]
    assert (queue.exported, queue.failed, queue.dropped) == (11, 0, 990)


def test_a_stop_is_bounded_and_counts_what_is_left() -> None:
    slow = Slow()
    queue = SpanQueue(slow, period_s=0.01)
    queue.put("under way")
    assert slow.asked.wait(4)
    queue.put("left")
    began_s = time.monotonic()
    queue.stop(flush_s=0.1)
    assert time.monotonic() - began_s < 2.0
    assert queue.dropped == 1
    queue.put("late")
    assert queue.dropped == 2
    slow.let.set()
    queue._thread.join(4)
    assert not queue._thread.is_alive()


def test_an_exporter_s_fault_costs_its_batch_alone(logged: Any) -> None:
    faults = [RuntimeError("once")]

    def export(_batch: Sequence[Any]) -> bool:
        if faults:
            raise faults.pop()
        return True

    queue = SpanQueue(export, period_s=0.01)
    queue.put(1)
    until(lambda: queue.failed)
    queue.put(2)
    until(lambda: queue.exported)
    queue.stop()
    assert (queue.exported, queue.failed, queue.dropped) == (1, 1, 0)
    assert '"event": "spans.export_failed"' in logged.take()
