"""The newest state of everything that is followed, out of what is stored. Pure.

A stored object comes in as bytes; the few fields that its place and age are told from are read, the
rest is handed on untouched. What is older than what was here before is not taken.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from serving.hub.protocol import DEPTH_DEFAULT
from serving.hub.wire import NOTHING, Batch, Entry, Order, State
from tapeline.errors import ReportError

FINDINGS_KEPT: Final = 200
"""Anomalies of a symbol that a client can still go on from."""


class _Writer(msgspec.Struct):
    writer_token: int = msgspec.field(name="writerToken")


class _Position(msgspec.Struct):
    now_ms: int


class _Source(msgspec.Struct):
    fast: _Position
    slow: _Position | None


class _Head(msgspec.Struct):
    writer: _Writer
    seq: int
    source: _Source
    data_age_ms: int | None
    updated_at: int = msgspec.field(name="updatedAt")
    venue: str = ""
    anomalies: list[msgspec.Raw] | None = None


class _Tick(msgspec.Struct):
    symbol: str
    venue: str
    writer_token: int
    seq: int
    offset: int
    ts_recv_ms: int
    last_trade: msgspec.Raw
    quote: msgspec.Raw
    book: str
    bids: list[msgspec.Raw]
    asks: list[msgspec.Raw]
    synthetic: bool


class _Book(msgspec.Struct):
    symbol: str
    venue: str
    writer_token: int
    seq: int
    offset: int
    ts_recv_ms: int
    book: str
    depth: int
    bids: list[msgspec.Raw]
    asks: list[msgspec.Raw]
    synthetic: bool


_decode_head: Final = msgspec.json.Decoder(_Head).decode
_decode_tick: Final = msgspec.json.Decoder(_Tick).decode
_encode: Final = msgspec.json.Encoder().encode


class _BookState(State):
    """A book in as many levels as are asked for."""

    __slots__ = ("_of_depth", "_tick")

    def __init__(self, tick: _Tick, arrived_ms: float) -> None:
        super().__init__(
            "book",
            tick.symbol,
            (tick.writer_token, tick.seq),
            _levels(tick, DEPTH_DEFAULT),
            written_ms=tick.ts_recv_ms,
            data_age_ms=0,
            at_ms=tick.ts_recv_ms,
            arrived_ms=arrived_ms,
        )
        self._tick = tick
        self._of_depth: dict[int, State] = {DEPTH_DEFAULT: self}

    def variant(self, depth: int) -> State:
        made = self._of_depth.get(depth)
        if made is None:
            made = self._of_depth[depth] = State(
                "book",
                self.symbol,
                self.order,
                _levels(self._tick, depth),
                written_ms=self.written_ms,
                data_age_ms=0,
                at_ms=self.at_ms,
                arrived_ms=self.arrived_ms,
            )
        return made


def _levels(tick: _Tick, depth: int) -> bytes:
    return _encode(
        _Book(
            symbol=tick.symbol,
            venue=tick.venue,
            writer_token=tick.writer_token,
            seq=tick.seq,
            offset=tick.offset,
            ts_recv_ms=tick.ts_recv_ms,
            book=tick.book,
            depth=depth,
            bids=tick.bids[:depth],
            asks=tick.asks[:depth],
            synthetic=tick.synthetic,
        )
    )


def _text(payload: bytes) -> None:
    """Raises `ReportError` where it could not stand in a text frame."""
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise ReportError(f"what is stored is no text: {error}") from None


class _Report:
    """A symbol's newest report."""

    __slots__ = ("fast", "findings", "findings_from", "payload", "said", "slow", "slow_ms")

    def __init__(self) -> None:
        self.payload = b""
        self.fast: State | None = None
        self.slow: State | None = None
        self.slow_ms: int | None = None
        self.said: bytes = b""
        self.findings: deque[Entry] = deque(maxlen=FINDINGS_KEPT)
        self.findings_from: Order | None = None


class StateTable:
    """What is known, by channel and symbol."""

    def __init__(self) -> None:
        self._reports: dict[str, _Report] = {}
        self._states: dict[tuple[str, str], State] = {}
        self._stored_ticks: dict[str, bytes] = {}
        self._stale: set[str] = set()

    def current(self, channel: str, symbol: str) -> State | None:
        """The newest state; None where nothing is known."""
        return self._states.get((channel, symbol))

    def order(self, family: str, symbol: str) -> Order:
        """Place of the newest report or tick."""
        known = self._states.get(("ticks" if family == "tick" else "reports.fast", symbol))
        return NOTHING if known is None else known.order

    def take_report(self, symbol: str, payload: bytes, arrived_ms: float) -> list[State | Batch]:
        """Take a stored report; what is new because of it.

        Raises:
            ReportError: It is no report of schema 1.x.
        """
        known = self._reports.get(symbol)
        if known is not None and payload == known.payload:
            return []
        _text(payload)
        try:
            head = _decode_head(payload)
        except msgspec.DecodeError as error:
            raise ReportError(f"what is stored is no report: {error}") from None
        order = (head.writer.writer_token, head.seq)
        if order <= self.order("report", symbol):
            return []
        if known is None:
            known = self._reports[symbol] = _Report()
        known.payload = payload
        slow_ms = None if head.source.slow is None else head.source.slow.now_ms
        first = known.fast is None
        first, slow_changed = known.fast is None, slow_ms != known.slow_ms
        fast, slow = (
            State(
                channel,
                symbol,
                order,
                payload,
                written_ms=head.updated_at,
                data_age_ms=head.data_age_ms,
                at_ms=head.source.fast.now_ms,
                arrived_ms=arrived_ms,
            )
            for channel in ("reports.fast", "reports.slow")
        )
        # Both are the whole report: who comes to the slow one in between begins with the newest.
        self._states["reports.fast", symbol] = known.fast = fast
        self._states["reports.slow", symbol] = known.slow = slow
        new: list[State | Batch] = [fast]
        if first or slow_changed:
            new.append(slow)
            known.slow_ms = slow_ms
            found = self._findings(symbol, known, head, arrived_ms)
            if found is not None and not first:
                new.append(found)
        self._stale.discard(symbol)
        return new

    def _findings(
        self, symbol: str, known: _Report, head: _Head, arrived_ms: float
    ) -> Batch | None:
        slow_ms = known.slow_ms
        if slow_ms is None:
            return None
        if known.findings_from is None:
            known.findings_from = (slow_ms, 0)
        said = b",".join(bytes(one) for one in head.anomalies or ())
        if said == known.said:
            return None
        known.said = said
        entries = [
            Entry((slow_ms, at), head.venue, bytes(one))
            for at, one in enumerate(head.anomalies or (), 1)
        ]
        known.findings.extend(entries)
        return Batch("anomalies", symbol, entries, arrived_ms) if entries else None

    def findings_after(self, symbol: str, order: Order) -> tuple[Batch | None, bool]:
        """Anomalies beyond ``order``, and whether some before them are not known any more."""
        known = self._reports.get(symbol)
        if known is None or known.findings_from is None:
            return None, True
        lost = order < known.findings_from
        if len(known.findings) == FINDINGS_KEPT:
            lost = order < known.findings[0].order
        rest = [entry for entry in known.findings if entry.order > order]
        return (Batch("anomalies", symbol, rest) if rest else None), lost

    def newest_finding(self, symbol: str) -> Order:
        """Where a client that follows anomalies from now on stands."""
        known = self._reports.get(symbol)
        if known is None or known.slow_ms is None:
            return NOTHING
        return known.findings[-1].order if known.findings else (known.slow_ms, 0)

    def take_tick(self, symbol: str, payload: bytes, arrived_ms: float) -> list[State | Batch]:
        """Take a stored tick; what is new because of it.

        Raises:
            ReportError: It is no tick.
        """
        if payload == self._stored_ticks.get(symbol):
            return []
        _text(payload)
        try:
            tick = _decode_tick(payload)
        except msgspec.DecodeError as error:
            raise ReportError(f"what is stored is no tick: {error}") from None
        if tick.symbol != symbol:
            raise ReportError(f"what is stored for {symbol} is a tick of {tick.symbol!r}")
        order = (tick.writer_token, tick.seq)
        if order <= self.order("tick", symbol):
            return []
        self._stored_ticks[symbol] = payload
        book = _BookState(tick, arrived_ms)
        top = msgspec.structs.replace(tick, bids=tick.bids[:1], asks=tick.asks[:1])
        state = State(
            "ticks",
            symbol,
            order,
            _encode(top),
            written_ms=tick.ts_recv_ms,
            data_age_ms=0,
            at_ms=tick.ts_recv_ms,
            arrived_ms=arrived_ms,
        )
        self._states["ticks", symbol] = state
        self._states["book", symbol] = book
        return [state, book]

    def take_status(self, state: State) -> list[State | Batch]:
        """Take what is known of a symbol's writer."""
        known = self.current("status", state.symbol)
        if known is not None and (known.data == state.data or state.order <= known.order):
            return []
        self._states["status", state.symbol] = state
        return [state]

    def turned_stale(self, now_ms: int) -> list[State]:
        """Reports whose data has become too old since the last time, with no new write."""
        found: list[State] = []
        for symbol, known in self._reports.items():
            if symbol in self._stale or known.fast is None or not known.fast.stale(now_ms):
                continue
            self._stale.add(symbol)
            found.append(known.fast)
            if known.slow is not None:
                found.append(known.slow)
        return found
