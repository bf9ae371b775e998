"""Spans by OpenTelemetry, sent as OTLP over HTTP. Needs the extra ``otel``; see `tapeline.tracing`.

The provider is this process's own and not the global one: what libraries would trace by themselves
(the MCP SDK does) is not asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from tapeline.beats import own_version
from tapeline.config import Settings
from tapeline.span_queue import SpanQueue
from tapeline.traceparent import TraceContext
from tapeline.tracing import Kind, Value

TRACES_PATH: Final = "/v1/traces"
EXPORT_S: Final = 5.0
"""Longest time for one batch, attempts after a failure included."""

_KINDS: Final[dict[Kind, api.SpanKind]] = {
    "internal": api.SpanKind.INTERNAL,
    "consumer": api.SpanKind.CONSUMER,
    "producer": api.SpanKind.PRODUCER,
    "client": api.SpanKind.CLIENT,
    "server": api.SpanKind.SERVER,
}


def traces_url(endpoint: str) -> str:
    """Where spans are posted to: ``/v1/traces`` of a collector, unless the path says so already."""
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    if not path.endswith(TRACES_PATH):
        path += TRACES_PATH
    return urlunsplit(parts._replace(path=path))


class OtelSpan:
    """See `tapeline.tracing.Span`."""

    def __init__(self, span: api.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.context = TraceContext(
            api.format_trace_id(context.trace_id), api.format_span_id(context.span_id)
        )

    def end(
        self,
        end_ns: int | None = None,
        *,
        error: str = "",
        attributes: Mapping[str, Value] | None = None,
    ) -> None:
        for name, value in (attributes or {}).items():
            self._span.set_attribute(name, value)
        if error:
            self._span.set_status(api.Status(api.StatusCode.ERROR, error))
        self._span.end(end_ns)


class OtelTracing:
    """See `tapeline.tracing.Tracing`.

    Args:
        exporter: Where spans go.
        resource: What they are of.
        queue: Between the two; one of its own by default.
    """

    def __init__(
        self, exporter: SpanExporter, resource: Resource, queue: SpanQueue | None = None
    ) -> None:
        def export(spans: Sequence[Any]) -> bool:
            return exporter.export(spans) is SpanExportResult.SUCCESS

        self._exporter = exporter
        self._queue = queue or SpanQueue(export)
        provider = TracerProvider(
            # Whether a trace is made has been decided where it begins: by the bridge.
            sampler=ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(_Queued(self._queue))
        self._tracer = provider.get_tracer("tapeline", own_version())

    def start(
        self,
        name: str,
        *,
        parent: TraceContext | None = None,
        kind: Kind = "internal",
        start_ns: int | None = None,
        links: Iterable[TraceContext] = (),
        attributes: Mapping[str, Value] | None = None,
    ) -> OtelSpan:
        under = api.set_span_in_context(
            api.INVALID_SPAN if parent is None else api.NonRecordingSpan(_remote(parent))
        )
        return OtelSpan(
            self._tracer.start_span(
                name,
                context=under,
                kind=_KINDS[kind],
                attributes=attributes,
                links=[api.Link(_remote(each)) for each in links],
                start_time=start_ns,
            )
        )

    def counts(self) -> Mapping[str, int]:
        queue = self._queue
        return {"exported": queue.exported, "failed": queue.failed, "dropped": queue.dropped}

    def stop(self) -> None:
        self._queue.stop()
        self._exporter.shutdown()


class _Queued(SpanProcessor):
    """Puts ended spans into the queue."""

    def __init__(self, queue: SpanQueue) -> None:
        self._queue = queue

    def on_end(self, span: ReadableSpan) -> None:
        self._queue.put(span)


def _remote(context: TraceContext) -> api.SpanContext:
    return api.SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED),
    )


def resource_of(settings: Settings, component: str) -> Resource:
    """Whose spans they are; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` win."""
    own = Resource.create(
        {
            "service.namespace": "tapeline",
            "service.name": f"tapeline-{component}",
            "service.instance.id": settings.node_id,
            "service.version": own_version(),
        }
    )
    return own.merge(OTELResourceDetector().detect())


def make(settings: Settings, component: str) -> OtelTracing | None:
    """Tracing to ``NT_OTLP_ENDPOINT``; None where ``OTEL_SDK_DISABLED`` says so."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = OTLPSpanExporter(endpoint=traces_url(settings.otlp_endpoint), timeout=EXPORT_S)
    return OtelTracing(exporter, resource_of(settings, component))
