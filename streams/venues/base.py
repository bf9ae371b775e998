"""What every venue's assembler is to those who drive it. Sans-I/O: bytes in, events out.

A driver (bridge, capture check, tests) owns sockets, HTTP, clock and backoff. It tells the
assembler what happened, takes the events that come back, and then sends what the assembler
owes the venue: `Assembler.frames_to_send` and `Assembler.requests_to_send`. An assembler reads
no clock: every call brings the time with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

from streams.events import BookSnapshot, Event, Instrument, kind_of
from streams.symbols import Listing


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A GET the assembler needs answered.

    Attributes:
        purpose: ``instrument`` or ``snapshot``.
        path: Below the venue's REST root, query included.
        venue_symbol: The symbol it is about; empty when it is about all.
        weight: What it costs of the venue's request budget.
        not_before_ms: Earliest time to send it; a refused request comes back later.
    """

    purpose: Literal["instrument", "snapshot"]
    path: str
    venue_symbol: str = ""
    weight: int = 1
    not_before_ms: int = 0


class LateEvent(NamedTuple):
    """An event that came when the hole it would have filled had been given up.

    Attributes:
        symbol: Canonical.
        kind: What it would have become.
        seq: The venue's number of it.
        lateness_ms: Since the hole was given up.
    """

    symbol: str
    kind: str
    seq: int
    lateness_ms: int


LATE_EVENTS_KEPT: Final = 256


@dataclass(slots=True)
class AssemblerCounts:
    """What an assembler has seen; all rise only.

    Attributes:
        frames: Frames fed, acks and errors included.
        errors: Frames that are not this venue's dialect.
        gaps: Breaks in the venue's own book sequence after a book was in sync.
        stale: Book messages dropped because a snapshot or an earlier message covers them.
        trades: Trades passed on.
        trade_duplicates: Trades dropped, their id seen before.
        trades_missing: Ids jumped over: trades the venue made and we did not see.
        tops_compared, tops_equal: Rebuilt top of book against the venue's own quote, at
            equal update ids.
        crossed: Books found with best bid >= best ask.
        ts_replaced: ``ts_event`` more than 60 s off ``ts_recv``, replaced by it.
        ignored: Frames of kinds or symbols nobody asked for, passed over.
        late: Events that came when the hole they would have filled had been given up.
        checks, checks_differed: Books in sync held against a snapshot, and those that were not what
            it said.
        checksums_ok, checksums_failed: Books held against the venue's own checksum of them.
        resyncs: Books distrusted and asked for anew, for whatever reason.
        sequence_first, sequence_last: Of the connection's own numbers; None where it has none.
        sequence_gaps: Holes in these numbers.
    """

    frames: int = 0
    errors: int = 0
    gaps: int = 0
    stale: int = 0
    trades: int = 0
    trade_duplicates: int = 0
    trades_missing: int = 0
    tops_compared: int = 0
    tops_equal: int = 0
    crossed: int = 0
    ts_replaced: int = 0
    ignored: int = 0
    late: int = 0
    checks: int = 0
    checks_differed: int = 0
    checksums_ok: int = 0
    checksums_failed: int = 0
    resyncs: int = 0
    sequence_first: int | None = None
    sequence_last: int | None = None
    sequence_gaps: int = 0
    events: dict[str, int] = field(default_factory=dict)
    """Events passed on, by kind."""
    late_events: deque[LateEvent] = field(default_factory=lambda: deque(maxlen=LATE_EVENTS_KEPT))
    """The newest that were late, for whoever tells of them and takes them away."""

    def came_late(self, event: LateEvent) -> None:
        """Count one, and keep it."""
        self.late += 1
        self.late_events.append(event)

    def passed(self, made: list[Event]) -> list[Event]:
        """Count these, and return them."""
        for event in made:
            kind = kind_of(event)
            self.events[kind] = self.events.get(kind, 0) + 1
        return made


def excerpt(frame: str | bytes) -> str:
    """The begin of a frame, to be shown in an error."""
    text = frame if isinstance(frame, str) else frame[:200].decode("utf-8", "replace")
    return text if len(text) <= 120 else f"{text[:120]}..."


class Assembler(Protocol):
    """One venue's dialect, for all symbols of one connection set.

    Two sockets may feed one assembler at the same time (a new one is opened before the old
    one reaches the venue's time limit): what both bring is passed on once. Some venues number the
    frames of each socket, so a driver says which one a frame came from: ``connection`` is a number
    of its own choice, higher for each socket opened later. With one socket at a time it may leave
    it out.
    """

    venue: str
    counts: AssemblerCounts

    def __init__(self, listings: Iterable[Listing]) -> None: ...

    def stream_path(self) -> str:
        """Path and query of the websocket, below the venue's stream root."""
        ...

    def connected(self, now_ms: int, connection: int = 0) -> list[Event]:
        """A socket is open. Ends in subscriptions and snapshot requests owed."""
        ...

    def disconnected(self, now_ms: int, reason: str) -> list[Event]:
        """The last socket is gone: `feed_status` for each symbol; books are no longer in sync."""
        ...

    def closed(self, connection: int, now_ms: int) -> list[Event]:
        """One of several sockets is gone, and others go on."""
        ...

    def rests_on(self, connection: int) -> bool:
        """Whether this socket is still needed, though a newer one has begun to deliver."""
        ...

    def receive(self, frame: str | bytes, ts_recv_ms: int, connection: int = 0) -> list[Event]:
        """Feed one frame as it came off the socket.

        Raises:
            FrameError: Not this venue's dialect: count it, keep the socket.
            UnknownSymbol: The venue lists no such symbol (the driver reports it and goes on).
        """
        ...

    def http_response(
        self, request: HttpRequest, status: int, body: bytes, now_ms: int, retry_after_s: float = 0
    ) -> list[Event]:
        """The answer to a request taken from `requests_to_send`; status 0 if none came.

        A refused or failed request is owed again, later.

        Raises:
            UnknownSymbol: The venue lists no such symbol (the driver reports it and goes on).
            FrameError: Answered, but not in this venue's dialect: counted, and owed again.
        """
        ...

    def tick(self, now_ms: int) -> list[Event]:
        """Time passes: give up what is overdue. Called each `streams.venues.ordering.FLUSH_MS`."""
        ...

    def add(self, listing: Listing, now_ms: int) -> list[Event]:
        """Follow one more symbol: subscriptions and requests are owed.

        A symbol already followed changes nothing. What the venue refuses is followed no more: it
        ends in a `feed_status` disconnected, reason ``refused``, with the venue's words.

        Raises:
            ConfigError: One more than a connection carries, or a venue symbol followed already
                under another name. Nothing has changed.
        """
        ...

    def remove(self, symbol: str, now_ms: int) -> list[Event]:
        """Follow a symbol no longer: an unsubscription is owed; `feed_status` disconnected, reason
        ``removed``. A symbol that is not followed changes nothing.
        """
        ...

    def resync(self, symbol: str, now_ms: int, reason: str) -> list[Event]:
        """Distrust one symbol's book: `feed_status` gap, and a new snapshot is asked for.

        With the reason ``refresh`` a book in sync stays so, where the venue lets it be checked
        against a snapshot while its diffs go on. Nothing is said
        of it until then.
        """
        ...

    def snapshot(self, symbol: str, now_ms: int, reason: str) -> BookSnapshot | None:
        """The assembled book of a canonical symbol in one part; None when it is not in sync."""
        ...

    def instrument(self, symbol: str, now_ms: int) -> Instrument | None:
        """What is known of a symbol's steps; None before anything is."""
        ...

    def frames_to_send(self) -> list[str]:
        """Frames owed to the venue on every open socket, each returned once."""
        ...

    def subscribe_frames(self) -> list[str]:
        """What a socket just opened is sent first, so that it carries all that is followed now."""
        ...

    def requests_to_send(self) -> list[HttpRequest]:
        """Requests owed, each returned once, also those with a `not_before_ms` to come."""
        ...

    def wants_new_socket(self) -> bool:
        """The venue announced that it will close: open another socket now."""
        ...

    def symbols(self) -> Sequence[str]:
        """Canonical symbols, in the order given; may be none."""
        ...
