"""Which trace something belongs to: W3C's ``traceparent``, and the span that code runs in. Pure.

https://www.w3.org/TR/trace-context/. Nothing here needs OpenTelemetry: logs name a trace, and
records carry one, also where no spans are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple

HEADER: Final = "traceparent"
"""Of a record of the events topic, by that standard."""

_FORM: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    rb"-(?P<flags>[0-9a-f]{2})(?:-.*)?"
)
_SAMPLED: Final = 1


class TraceContext(NamedTuple):
    """A span of a sampled trace, as others name it.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 of them.
    """

    trace_id: str
    span_id: str

    @property
    def header(self) -> bytes:
        """The value of `HEADER`."""
        return f"00-{self.trace_id}-{self.span_id}-01".encode()


def parse(header: bytes | None) -> TraceContext | None:
    """What a `HEADER` says; None where it is not one, or of a trace that is not sampled."""
    found = _FORM.fullmatch(header) if header is not None else None
    if found is None or not int(found["flags"], 16) & _SAMPLED:
        return None
    if header is not None and header.startswith(b"00-") and len(header) != 55:
        return None  # version 0 has no more fields
    return TraceContext(found["trace"].decode(), found["span"].decode())


current: Final[ContextVar[TraceContext | None]] = ContextVar("current_span", default=None)
"""The span that code runs in; log lines name it."""


@contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """Run in a span: what is logged meanwhile, here and in tasks begun here, names it."""
    token = current.set(context)
    try:
        yield
    finally:
        current.reset(token)
