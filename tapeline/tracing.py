"""Traces: which are made, and who is told of their spans. Off unless settings say otherwise.

A trace begins with a frame that a bridge has sampled (`streams.frame_traces`), goes through the
worker that publishes the report (`agents.report_traces`) and ends with a reader's answer
(`serving.answer_traces`). Those make their spans with what is here. OpenTelemetry itself is in
`tapeline.otel`, and imported only where spans are made: it is the extra ``otel``.

Spans are made of times that are known already, so none is open while code runs, and an unsampled
record costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Literal, Protocol

from tapeline.config import Settings
from tapeline.errors import ConfigError
from tapeline.traceparent import TraceContext

Kind = Literal["internal", "consumer", "producer", "client", "server"]
Value = str | int | float | bool


class Span(Protocol):
    """A span that has begun.

    Attributes:
        context: How others name it.
    """

    context: TraceContext

    def end(
        self,
        end_ns: int | None = None,
        *,
        error: str = "",
        attributes: Mapping[str, Value] | None = None,
    ) -> None:
        """It is over: now, or at ``end_ns`` since the epoch; ``error`` says what went wrong."""
        ...


class Tracing(Protocol):
    """Makes spans. One a process."""

    def start(
        self,
        name: str,
        *,
        parent: TraceContext | None = None,
        kind: Kind = "internal",
        start_ns: int | None = None,
        links: Iterable[TraceContext] = (),
        attributes: Mapping[str, Value] | None = None,
    ) -> Span:
        """Begin a span, of a new trace without a ``parent``; now, or at ``start_ns``."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Spans by what became of them: ``exported``, ``failed``, ``dropped``."""
        ...

    def stop(self) -> None:
        """Send what waits, in bounded time."""
        ...


def since(start_ms: int, now_ns: int | None = None, most_ms: int = 60_000) -> int:
    """A moment in milliseconds since the epoch as a span's beginning, in ns.

    Now where it is in the future or too long past: of a tape that is played, or of a clock that was
    set.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    start_ns = start_ms * 1_000_000
    return start_ns if 0 <= now_ns - start_ns <= most_ms * 1_000_000 else now_ns


def start_tracing(settings: Settings, component: str) -> Tracing | None:
    """The process's tracing; None where ``NT_OTLP_ENDPOINT`` is empty.

    Raises:
        ConfigError: Traces are wanted, and can't be made.
    """
    if not settings.otlp_endpoint:
        if settings.trace_sample_ratio > 0:
            raise ConfigError(
                "NT_TRACE_SAMPLE_RATIO",
                settings.trace_sample_ratio,
                "0 while NT_OTLP_ENDPOINT is empty: there is nowhere to send spans to",
            )
        return None
    try:
        otel: Any = import_module("tapeline.otel")
    except ImportError as error:
        raise ConfigError(
            "NT_OTLP_ENDPOINT",
            "set",
            f"the extra `otel` to be installed (pip install 'tapeline[otel]'): {error}",
        ) from error
    made: Tracing | None = otel.make(settings, component)
    return made
