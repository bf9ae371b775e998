"""A venue's events become records: token, sequence, signs of life, snapshots in parts. Pure.

Each symbol is a line of its own. Its records carry the token of its feed lease and a sequence
that is contiguous under that token, so a reader notices what is missing, twice, or written by a
bridge that has been replaced. A line without a token is mute: it keeps its trades and the like of the
last seconds aside, for the moment in which it takes over from another bridge. A line of which the buffer to the
broker has lost records is mute too until it can say so: a gap first, then the whole book.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from streams.events import (
    CONTRACT_VERSION,
    BookSnapshot,
    Event,
    Feed,
    FeedState,
    FeedStatus,
    Kline,
    Level,
    Ticker,
    Trade,
    encode,
    kind_of,
)
from streams.topics import partition_of
from streams.venues.base import Assembler

RECORD_BYTES_MAX: Final = 262_144
"""No record's value is larger; brokers refuse a batch of 1 MB by default."""

BROKER_OUTAGE: Final = "broker_outage"

ASIDE_MS: Final = 3_000
"""How far back a bridge that takes over goes: longer than a lease lives, so that nothing is missing
between the last record of the one before and the first of its own. Engines know trades by their ids
and take none twice."""

ASIDE_MAX: Final = 20_000
"""Events kept aside for one line; the oldest go first."""

REMOVED: Final = "removed"
REFUSED: Final = "refused"
"""Reasons of a `feed_status` disconnected that are about one symbol, not about the sockets."""

_LEVEL_BYTES_MAX: Final = 44  # two integers up to 2**62, brackets and commas


class Traced(Protocol):
    """What a record carries that is of a sampled frame.

    Attributes:
        headers: Written with it.
    """

    headers: list[tuple[str, bytes]]

    def arrived(self) -> Any:
        """The broker has acknowledged the record."""
        ...


class OutRecord(NamedTuple):
    """A record on its way to the events topic.

    Attributes:
        partition: Where the symbol's records are.
        venue, symbol: Whose line it is of.
        key, value: As written.
        kind: For counting.
        traced: Of a sampled frame alone.
    """

    partition: int
    venue: str
    symbol: str
    key: bytes
    value: bytes
    kind: str
    traced: Traced | None = None


class Line:
    """One symbol's records.

    Attributes:
        token: Of the feed lease; 0 while none is held.
        seq: Of the newest record under that token.
        lost: Why records of this line were dropped, until a reader is told; else empty.
        in_sync: Whether the last that the assembler said of the book was good.
        closed: The venue does not list the symbol.
        aside: While there is no token: trades, tickers and candles of the last `ASIDE_MS`.
    """

    __slots__ = (
        "aside", "closed", "in_sync", "key", "last_ms", "lost", "partition", "refresh_ms", "seq",
        "symbol", "token",
    )  # fmt: skip

    def __init__(self, symbol: str, partition: int) -> None:
        self.symbol, self.partition, self.key = symbol, partition, symbol.encode()
        self.token = self.seq = 0
        self.lost = ""
        self.in_sync = self.closed = False
        self.aside: deque[Event] = deque()
        self.last_ms = self.refresh_ms = 0  # set by the first tick: the time may be a tape's


class Feeds:
    """All lines of one venue.

    Attributes:
        lines: By canonical symbol.
        connected: Whether the venue has a socket, as far as its events tell.
        records: Records made, by kind.
        muted: Events of lines without a token, dropped: changes of books, which a snapshot will
            stand for, what was kept aside and is too old,
            and events of no line.
        dropped: Events of lines that had lost records already, dropped by symbol.
        told: Gaps that the assembler has found, for the caller to log and clear.
        newest_ms: Newest time seen, in the source's own time; 0 before any.
        gaps: By symbol, how often readers were told that something is missing.
        refused: What the venue has refused to send, for the caller to take up and clear.
        routing_version: Stamped on each record: which set of subscriptions it is of.
    """

    def __init__(
        self,
        assembler: Assembler,
        *,
        partitions: int,
        alive_period_ms: int,
        snapshot_period_ms: int,
    ) -> None:
        """Take all symbols of an assembler.

        Args:
            assembler: Asked for instruments and books when they are due.
            partitions: Of the events topic.
            alive_period_ms: Silence after which a line says that it is alive.
            snapshot_period_ms: Time between two unasked snapshots of a line.
        """
        self._assembler = assembler
        self._alive_period_ms, self._snapshot_period_ms = alive_period_ms, snapshot_period_ms
        self.venue = assembler.venue
        self.connected = False
        self.records: Counter[str] = Counter()
        self.muted = 0
        self.dropped: Counter[str] = Counter()
        self.gaps: Counter[str] = Counter()
        self.told: list[FeedStatus] = []
        self.refused: list[FeedStatus] = []
        self.routing_version = 1
        self.newest_ms = 0
        self._live = False
        self._partitions = partitions
        self.lines: dict[str, Line] = {}
        for symbol in assembler.symbols():
            self.add(symbol)

    # --- the set of symbols ---

    def add(self, symbol: str) -> None:
        """One more line; mute until it has a token."""
        self.lines[symbol] = Line(symbol, partition_of(symbol, self._partitions))

    def remove(self, symbol: str) -> None:
        """A line no more."""
        del self.lines[symbol]

    # --- the lease ---

    def granted(self, symbol: str, token: int, now_ms: int) -> list[OutRecord]:
        """A token was granted: a new sequence begins, with all that a reader needs to start."""
        line = self.lines[symbol]
        if line.closed or token == line.token:
            return []
        line.token, line.seq, line.lost = token, 0, ""
        out: list[OutRecord] = []
        if self.connected:
            out += self._say(line, "connected", "granted", now_ms)
        out += self._instrument(line, now_ms)
        self._forget(line, now_ms)
        out += [self._record(line, event) for event in line.aside]
        line.aside.clear()
        return out + self._book(line, "initial", now_ms)

    def revoked(self, symbol: str) -> None:
        """The token is another's now: nothing more may be written under it."""
        self.lines[symbol].token = 0

    def close(self, symbol: str) -> None:
        """The venue does not list the symbol: nothing will ever come."""
        line = self.lines[symbol]
        line.closed, line.token = True, 0

    # --- events ---

    def accept(self, events: Iterable[Event]) -> list[OutRecord]:
        """Records of an assembler's events, in their order."""
        out: list[OutRecord] = []
        for event in events:
            line = self.lines.get(event.symbol)
            if line is None:
                self.muted += 1  # followed no more
                continue
            kind = type(event)
            if kind is FeedStatus:
                self._heed(line, event)  # type: ignore[arg-type]
            elif kind is BookSnapshot:
                line.in_sync = True
            if not line.token:
                self._keep_aside(line, event)
            elif line.lost:
                self.dropped[line.symbol] += 1
            elif kind is BookSnapshot:
                out += self._parts(line, event)  # type: ignore[arg-type]
            else:
                out.append(self._record(line, event))
        return out

    def _keep_aside(self, line: Line, event: Event) -> None:
        """A change of a book is dropped: the whole book is written when there is a token."""
        if isinstance(event, Trade | Ticker | Kline):
            self._forget(line, event.ts_recv_ms)
            if len(line.aside) >= ASIDE_MAX:
                line.aside.popleft()
                self.muted += 1
            line.aside.append(event)
        else:
            self.muted += 1

    def _forget(self, line: Line, now_ms: int) -> None:
        """What was kept aside is too old, or from a clock that has been set back since."""
        while line.aside and not 0 <= now_ms - line.aside[0].ts_recv_ms <= ASIDE_MS:
            line.aside.popleft()
            self.muted += 1

    def _heed(self, line: Line, status: FeedStatus) -> None:
        self.newest_ms = status.ts_recv_ms
        if status.status == "connected":
            self.connected = self._live = True
        elif status.status == "disconnected":
            line.in_sync = False
            if status.reason == REFUSED:
                self.refused.append(status)
            elif status.reason != REMOVED:
                self.connected = False
                self.gaps[line.symbol] += 1
        elif status.status == "gap":
            self.told.append(status)
            line.in_sync = False
            self.gaps[line.symbol] += 1

    # --- time ---

    def tick(
        self, now_ms: int, *, live: bool, writable: Callable[[int], bool] = lambda _: True
    ) -> list[OutRecord]:
        """What is due: signs of life, snapshots, and telling of what was lost.

        Args:
            now_ms: In the time that events have.
            live: A frame or a pong came lately.
            writable: Whether a partition takes records again.
        """
        out: list[OutRecord] = []
        turned, self._live = live is not self._live, live
        self.newest_ms = now_ms
        for line in self.lines.values():
            if not line.token:
                continue
            if line.lost:
                if writable(line.partition):
                    out += self._recovered(line, now_ms)
                continue
            if turned and self.connected and not live:
                out += self._say(line, "stale", "no_pong", now_ms)
            # A clock that was set back leaves times in the future: they count as long past.
            silent = not 0 <= now_ms - line.last_ms < self._alive_period_ms
            if live and self.connected and (silent or turned):
                out += self._say(line, "alive", "", now_ms)
            if not line.refresh_ms:
                line.refresh_ms = self._next_ms(line.symbol, now_ms)
            elif not 0 < line.refresh_ms - now_ms <= self._snapshot_period_ms:
                line.refresh_ms = self._next_ms(line.symbol, now_ms)
                out += self._whole(line, "refresh", now_ms)
                if live and self.connected and not (silent or turned):
                    # A lively market is never silent: without this its state of the feed would
                    # be said once and lie further back than engines remember.
                    out += self._say(line, "alive", "refresh", now_ms)
        return out

    def lost(self, symbol: str, reason: str = BROKER_OUTAGE) -> None:
        """Records of this line were dropped on their way to the broker."""
        line = self.lines.get(symbol)  # it may be followed no more
        if line is not None and line.token and not line.lost:
            line.lost = reason
            self.gaps[symbol] += 1

    def _recovered(self, line: Line, now_ms: int) -> list[OutRecord]:
        reason, line.lost = line.lost, ""
        out = self._say(line, "gap", reason, now_ms, "records were dropped before the broker")
        out += self._whole(line, "resync", now_ms)
        if not self.connected:
            out += self._say(line, "disconnected", reason, now_ms)
        return out

    def _next_ms(self, symbol: str, now_ms: int) -> int:
        """The line's own point on the grid of periods: books are large, so not all at once."""
        period_ms = self._snapshot_period_ms
        shift_ms = zlib.crc32(symbol.encode()) % period_ms
        return now_ms + period_ms - (now_ms - shift_ms) % period_ms

    # --- records ---

    def _whole(self, line: Line, reason: str, now_ms: int) -> list[OutRecord]:
        return self._instrument(line, now_ms) + self._book(line, reason, now_ms)

    def _instrument(self, line: Line, now_ms: int) -> list[OutRecord]:
        instrument = self._assembler.instrument(line.symbol, now_ms)
        return [] if instrument is None else [self._record(line, instrument)]

    def _book(self, line: Line, reason: str, now_ms: int) -> list[OutRecord]:
        snapshot = self._assembler.snapshot(line.symbol, now_ms, reason)
        return [] if snapshot is None else self._parts(line, snapshot)

    def _say(
        self, line: Line, status: FeedState, reason: str, now_ms: int, detail: str = ""
    ) -> list[OutRecord]:
        event = FeedStatus(
            venue=self.venue,
            symbol=line.symbol,
            ts_event_ms=now_ms,
            ts_recv_ms=now_ms,
            status=status,
            reason=reason,
            detail=detail,
        )
        return [self._record(line, event)]

    def _parts(self, line: Line, snapshot: BookSnapshot) -> list[OutRecord]:
        return [self._record(line, part) for part in split_snapshot(snapshot)]

    def _record(self, line: Line, event: Event) -> OutRecord:
        line.seq += 1
        line.last_ms = event.ts_recv_ms
        event.v = CONTRACT_VERSION
        event.feed = Feed(line.token, line.seq)
        event.routing_version = self.routing_version
        kind = kind_of(event)
        self.records[kind] += 1
        return OutRecord(line.partition, self.venue, line.symbol, line.key, encode(event), kind)


def split_snapshot(snapshot: BookSnapshot, limit: int = RECORD_BYTES_MAX) -> list[BookSnapshot]:
    """A book in parts that each fit a record, bids before asks, best levels first.

    Args:
        snapshot: Whole, not stamped yet.
        limit: Bytes of a record's value.
    """
    bids, asks = snapshot.bids, snapshot.asks
    room = limit - _head_bytes(snapshot)
    if (len(bids) + len(asks)) * _LEVEL_BYTES_MAX <= room:
        return [snapshot]
    cuts = [*_cuts(bids, asks, room)]
    n = len(bids)
    spans = zip([0, *cuts], [*cuts, n + len(asks)], strict=True)
    return [
        msgspec.structs.replace(
            snapshot,
            bids=bids[begin:end],
            asks=asks[max(begin - n, 0) : max(end - n, 0)],
            part=part,
            parts=len(cuts) + 1,
        )
        for part, (begin, end) in enumerate(spans, 1)
    ]


def _cuts(bids: list[Level], asks: list[Level], room: int) -> Iterator[int]:
    """Places in bids + asks before which a new part begins."""
    used = 0
    for at, (px, sz) in enumerate([*bids, *asks]):
        size = len(str(px)) + len(str(sz)) + 4  # [px,sz] and a comma
        if used + size > room:
            yield at
            used = 0
        used += size


def _head_bytes(snapshot: BookSnapshot) -> int:
    """All of a part but its levels, at the most."""
    head = msgspec.structs.replace(
        snapshot,
        bids=[],
        asks=[],
        part=4096,
        parts=4096,
        v=CONTRACT_VERSION,
        feed=Feed(2**53, 2**53),
        routing_version=2**53,
    )
    return len(encode(head))
