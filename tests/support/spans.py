"""Tracing that only remembers, for tests that need no OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tapeline.traceparent import TraceContext


class FakeSpan:
    """A span, and what it was told."""

    def __init__(
        self,
        name: str,
        parent: TraceContext | None,
        start_ns: int,
        links: Iterable[TraceContext],
        attributes: Mapping[str, Any],
        nth: int,
    ) -> None:
        self.name, self.parent, self.start_ns, self.links = name, parent, start_ns, [*links]
        trace_id = parent.trace_id if parent is not None else f"{nth:032x}"
        self.context = TraceContext(trace_id, f"{nth:016x}")
        self.attributes = dict(attributes)
        self.ended, self.error = 0, ""

    def end(
        self,
        end_ns: int | None = None,
        *,
        error: str = "",
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.ended += 1
        self.error = error
        self.attributes |= attributes or {}


class FakeTracing:
    """Spans in the order they began."""

    def __init__(self) -> None:
        self.spans: list[FakeSpan] = []

    def start(
        self,
        name: str,
        *,
        parent: TraceContext | None = None,
        kind: str = "",
        start_ns: int | None = None,
        links: Iterable[TraceContext] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> FakeSpan:
        nth = len(self.spans) + 1
        span = FakeSpan(name, parent, start_ns or 0, links, attributes or {}, nth)
        self.spans.append(span)
        return span

    def counts(self) -> Mapping[str, int]:
        return {}

    def stop(self) -> None: ...
