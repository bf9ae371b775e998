"""Every error Tapeline raises on purpose.

::

    TapelineError
      ConfigError            a setting or an argument is missing or out of range
      FeedError              streams: a venue or its data
        FrameError             a frame is not this venue's dialect
        UnknownSymbol          the venue does not list the symbol
        VenueUnavailable       the venue refused or did not answer
      RecordError            a record of the topic can't be applied
        MalformedRecord        not JSON, or a field is missing, of the wrong type or out of range
        UnknownKind            a kind this version does not know: counted and skipped
        UnknownVersion         a contract version this release can't read
      SnapshotError          a stored engine state can't be restored
      TopicError             the broker's topics are not what the plan says
      CoordinationError      leases and fencing
        LeaseLost              somebody else holds the lease, or nobody
        Fenced                 a newer token has been granted
      ReportError            readers: a report is absent or can't be read
      StackError             a local service did not start or has died
"""

from __future__ import annotations

from typing import Any


class TapelineError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(TapelineError):
    """A setting or an argument is missing or out of range (exit status 2).

    Attributes:
        name: The variable or option as the user writes it.
        value: What was given, already masked where it is a secret; None when absent.
        expected: What would have been accepted, in words.
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        got = "is not set" if value is None else f"is {value!r}"
        super().__init__(f"{name} {got}; expected {expected}")
        self.name, self.value, self.expected = name, value, expected


class FeedError(TapelineError):
    """A venue, or what it sent."""


class FrameError(FeedError):
    """A frame is not this venue's dialect: count it, keep the socket."""


class UnknownSymbol(FeedError):
    """The venue does not list this symbol."""

    def __init__(self, venue: str, symbol: str) -> None:
        super().__init__(f"{venue} does not list {symbol!r}; expected a symbol the venue trades")
        self.venue, self.symbol = venue, symbol


class VenueUnavailable(FeedError):
    """The venue refused a request or did not answer in time."""


class RecordError(TapelineError):
    """A record of the topic can't be applied.

    Attributes:
        code: A short word for metrics and for the dead-letter header.
    """

    code = "record"


class MalformedRecord(RecordError):
    """Not JSON, or a field is missing, of the wrong type, or out of its range."""

    code = "malformed"


class UnknownKind(RecordError):
    """A kind this version does not know: counted and skipped, never a failure.

    Attributes:
        kind: The record's kind.
        head: The record's common fields, as far as they could be read.
    """

    code = "unknown_kind"

    def __init__(self, kind: str, head: Any) -> None:
        super().__init__(f"kind {kind!r} is not known to this version")
        self.kind, self.head = kind, head


class UnknownVersion(RecordError):
    """A contract version this release can't read: kept in the dead-letter topic."""

    code = "unknown_version"

    def __init__(self, version: object) -> None:
        super().__init__(f"record version {version!r}; this release reads version 1")
        self.version = version


class SnapshotError(TapelineError):
    """A stored engine state can't be restored: discard it and rebuild from the topic."""


class TopicError(TapelineError):
    """The broker's topics are not what the plan says."""


class CoordinationError(TapelineError):
    """Leases and fencing."""


class LeaseLost(CoordinationError):
    """The lease is another's, or nobody's: stop writing the symbol."""

    def __init__(self, symbol: str, holder: str | None) -> None:
        super().__init__(f"{symbol}: lease lost to {holder or 'nobody'}")
        self.symbol, self.holder = symbol, holder


class Fenced(CoordinationError):
    """A newer token has been granted: whatever this writer has is stale."""

    def __init__(self, symbol: str, token: int, newest: int) -> None:
        super().__init__(f"{symbol}: token {token} is fenced by {newest}")
        self.symbol, self.token, self.newest = symbol, token, newest


class ReportError(TapelineError):
    """A report is absent or can't be read."""


class StackError(TapelineError):
    """A local service did not start, or has died."""
