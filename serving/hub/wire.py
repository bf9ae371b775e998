"""Frames as bytes, each made once for all who get the same.

A stored object is spliced into its frame as it stands; it is not decoded and encoded again. What
differs from client to client is the frame that went before (``prev_token``, ``prev_seq``), and
hardly ever does: clients that keep up share the whole frame, its WebSocket header included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from serving.hub.protocol import Frame, encode
from serving.reader import STALE_MS

Order = tuple[int, int]
"""(token, seq), or the two numbers of a stream's id: what comes later is higher."""

NOTHING: Final[Order] = (0, 0)

SHARED_MS: Final = 20
"""How long a frame may be handed out after it was made: its ``read`` is as old as that."""

_VARIANTS_MAX: Final = 8


def framed(payload: bytes) -> bytes:
    """A whole text frame of WebSocket, as servers send it: unmasked, in one piece."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65_536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def payload_of(frame: bytes) -> bytes:
    """What `framed` was given."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def control(frame: Frame) -> bytes:
    """A frame of the protocol's own."""
    return framed(encode(frame))


def _read(now_ms: int, age_ms: int | None, data_age_ms: int | None) -> bytes:
    stale = data_age_ms is None or data_age_ms > STALE_MS
    return b'{"now_ms":%d,"age_ms":%b,"data_age_ms":%b,"stale":%b}' % (
        now_ms,
        b"null" if age_ms is None else b"%d" % age_ms,
        b"null" if data_age_ms is None else b"%d" % data_age_ms,
        b"true" if stale else b"false",
    )


class State:
    """One state of one (channel, symbol).

    Args:
        channel: Of which.
        symbol: Of which.
        order: Its place; a higher one replaces it.
        data: JSON, as it is to be sent.
        written_ms: When it was written, ms since the epoch.
        data_age_ms: How old its newest data was at ``at_ms``; None without any.
        at_ms: The moment that it describes.
        arrived_ms: When it came here, by a clock that never steps back.
    """

    __slots__ = (
        "_made_ms",
        "_made_of",
        "arrived_ms",
        "at_ms",
        "channel",
        "data",
        "data_age_ms",
        "order",
        "symbol",
        "written_ms",
    )

    def __init__(
        self,
        channel: str,
        symbol: str,
        order: Order,
        data: bytes,
        *,
        written_ms: int,
        data_age_ms: int | None,
        at_ms: int,
        arrived_ms: float = 0.0,
    ) -> None:
        self.channel, self.symbol, self.order, self.data = channel, symbol, order, data
        self.written_ms, self.data_age_ms, self.at_ms = written_ms, data_age_ms, at_ms
        self.arrived_ms = arrived_ms
        self._made_of: dict[Order | None, bytes] = {}
        self._made_ms = 0

    def age_now_ms(self, now_ms: int) -> int | None:
        """Age of its newest data at ``now_ms``."""
        if self.data_age_ms is None:
            return None
        return self.data_age_ms + max(0, now_ms - self.at_ms)

    def stale(self, now_ms: int) -> bool:
        """Whether that is too old."""
        age_ms = self.age_now_ms(now_ms)
        return age_ms is None or age_ms > STALE_MS

    def read(self, now_ms: int) -> bytes:
        """Its ``read`` member."""
        return _read(now_ms, max(0, now_ms - self.written_ms), self.age_now_ms(now_ms))

    def variant(self, depth: int) -> State:
        """The same with so many levels, where the channel has levels."""
        return self

    def frame(self, before: Order | None, now_ms: int) -> bytes:
        """The update that follows ``before``, or the snapshot where that is None."""
        if not 0 <= now_ms - self._made_ms <= SHARED_MS or len(self._made_of) > _VARIANTS_MAX:
            self._made_of.clear()
            self._made_ms = now_ms
        made = self._made_of.get(before)
        if made is None:
            made = self._made_of[before] = self._make(before, now_ms)
        return made

    def _make(self, before: Order | None, now_ms: int) -> bytes:
        kind, between = b"snapshot", b""
        if before is not None:
            kind, between = b"update", b'"prev_token":%d,"prev_seq":%d,' % before
        return framed(
            b'{"type":"%b","channel":"%b","symbol":"%b","token":%d,"seq":%d,%b"read":%b,"data":%b}'
            % (
                kind,
                self.channel.encode(),
                self.symbol.encode(),
                *self.order,
                between,
                self.read(now_ms),
                self.data,
            )
        )


def empty_snapshot(channel: str, symbol: str, now_ms: int) -> bytes:
    """Nothing is stored yet."""
    return framed(
        b'{"type":"snapshot","channel":"%b","symbol":"%b","token":0,"seq":0,"read":%b,"data":null}'
        % (channel.encode(), symbol.encode(), _read(now_ms, None, None))
    )


def stale_frame(state: State, now_ms: int) -> bytes:
    """A state has become too old."""
    return framed(
        b'{"type":"stale","channel":"%b","symbol":"%b","read":%b}'
        % (state.channel.encode(), state.symbol.encode(), state.read(now_ms))
    )


class Entry(NamedTuple):
    """One event.

    Attributes:
        order: Its place in the stream; rises.
        venue: Whose; '' where it is nobody's in particular.
        data: JSON, as it is to be sent.
    """

    order: Order
    venue: str
    data: bytes

    @property
    def cursor(self) -> str:
        """What a client goes on from behind it."""
        return f"{self.order[0]}-{self.order[1]}"


class Batch:
    """Events of one (channel, symbol) that came together; never empty.

    Args:
        channel: Of which.
        symbol: Of which.
        entries: In order.
        arrived_ms: When they came here, by a clock that never steps back.
    """

    __slots__ = ("_frame", "_of_venues", "arrived_ms", "channel", "entries", "symbol")

    def __init__(
        self, channel: str, symbol: str, entries: Sequence[Entry], arrived_ms: float = 0.0
    ) -> None:
        self.channel, self.symbol, self.entries = channel, symbol, entries
        self.arrived_ms = arrived_ms
        self._frame: bytes | None = None
        self._of_venues: dict[frozenset[str], Batch | None] = {}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def first(self) -> Order:
        """Order of the first event."""
        return self.entries[0].order

    @property
    def last(self) -> Order:
        """Order of the last event."""
        return self.entries[-1].order

    def after(self, order: Order) -> Batch | None:
        """Those beyond ``order``."""
        if self.first > order:
            return self
        rest = [entry for entry in self.entries if entry.order > order]
        return Batch(self.channel, self.symbol, rest, self.arrived_ms) if rest else None

    def of_venues(self, venues: frozenset[str] | None) -> Batch | None:
        """Those of these venues."""
        if venues is None:
            return self
        if venues not in self._of_venues:
            rest = [entry for entry in self.entries if entry.venue in venues]
            self._of_venues[venues] = (
                Batch(self.channel, self.symbol, rest, self.arrived_ms) if rest else None
            )
        return self._of_venues[venues]

    def frame(self) -> bytes:
        """All of them in one frame, made once."""
        if self._frame is None:
            self._frame = events_frame(self.channel, self.symbol, self.entries, lost=False)
        return self._frame


def events_frame(channel: str, symbol: str, entries: Sequence[Entry], *, lost: bool) -> bytes:
    """Events in one frame."""
    return framed(
        b'{"type":"events","channel":"%b","symbol":"%b","cursor":"%b"%b,"data":[%b]}'
        % (
            channel.encode(),
            symbol.encode(),
            entries[-1].cursor.encode(),
            b',"lost":true' if lost else b"",
            b",".join(entry.data for entry in entries),
        )
    )


def size_of(entries: Iterable[Entry]) -> int:
    """Bytes of the events themselves."""
    return sum(len(entry.data) for entry in entries)
