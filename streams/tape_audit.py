"""What a topic really holds, counted from its records alone.

A second opinion on bridge and engine: it shares nothing with them but the decoder and the
ladder. It keeps no window and forgets nothing, so it is for recordings and tests, not for a
live feed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from streams.book import Top, WireBook
from streams.events import (
    BookDelta,
    BookSnapshot,
    Event,
    FeedStatus,
    Ticker,
    Trade,
    decode,
    kind_of,
)
from streams.topcheck import TopCheck
from tapeline.errors import RecordError

REENTERED: Final = 0
"""Routing version of a record that `tapeline dlq retry` has brought back: no bridge writes it."""


@dataclass(slots=True)
class _Symbol:
    token: int = 0
    seq: int = 0
    book: WireBook | None = None
    parts: list[BookSnapshot] = field(default_factory=list)
    tops: TopCheck = field(default_factory=TopCheck)
    trades: set[str] = field(default_factory=set)
    last_trade_id: int | None = None


@dataclass(slots=True)
class TapeAudit:
    """Counts over the records of a topic, in the order of their offsets.

    Attributes:
        events: Records by kind.
        gaps: Holes in a feed's sequence, and `feed_status` gap records.
        trades, duplicates, missing: Distinct event ids; repeated ones; trade ids jumped over.
        tops_compared, tops_equal: Rebuilt top of book against quotes at equal update ids.
        crossed: Times a book's best bid was not below its best ask.
        errors: Records that do not decode.
    """

    events: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    trades: int = 0
    duplicates: int = 0
    missing: int = 0
    tops_compared: int = 0
    tops_equal: int = 0
    crossed: int = 0
    errors: int = 0
    _symbols: dict[str, _Symbol] = field(default_factory=dict)

    def add(self, raw: bytes) -> None:
        """Count one record."""
        try:
            event = decode(raw)
        except RecordError:
            self.errors += 1
            return
        self.events[kind_of(event)] += 1
        symbol = self._symbols.setdefault(event.symbol, _Symbol())
        if event.routing_version == REENTERED:
            if isinstance(event, Trade):
                self._reentered(symbol, event)
            return
        self._sequence(symbol, event)
        if isinstance(event, Trade):
            self._trade(symbol, event)
        elif isinstance(event, BookSnapshot):
            self._snapshot(symbol, event)
        elif isinstance(event, BookDelta):
            self._delta(symbol, event)
        elif isinstance(event, Ticker) and event.quote is not None and event.seq is not None:
            quote = event.quote
            top = (quote.bid_px, quote.bid_sz, quote.ask_px, quote.ask_sz)
            self._compare(symbol.tops.quote(event.seq, _scaled(top, event)))
        elif isinstance(event, FeedStatus) and event.status == "gap":
            self.gaps += 1

    def as_json(self) -> dict[str, Any]:
        """The counts, as ``capture check`` prints an assembler's."""
        return {
            "events": dict(sorted(self.events.items())),
            "gaps": self.gaps,
            "trades": {
                "applied": self.trades,
                "duplicates": self.duplicates,
                "missing": self.missing,
            },
            "tops": {"compared": self.tops_compared, "equal": self.tops_equal},
            "crossed": self.crossed,
            "errors": self.errors,
        }

    def _sequence(self, symbol: _Symbol, event: Event) -> None:
        token, seq = event.feed.token, event.feed.seq
        if token > symbol.token:
            self.gaps += seq != 1
            symbol.book = None
        elif token == symbol.token:
            self.gaps += seq != symbol.seq + 1
        symbol.token, symbol.seq = token, seq

    def _reentered(self, symbol: _Symbol, event: Trade) -> None:
        """A trade that was a dead letter: no part of its feed's sequence, and one that was missing."""
        if event.event_id in symbol.trades:
            self.duplicates += 1
            return
        symbol.trades.add(event.event_id)
        self.trades += 1
        if event.trade_id is not None and symbol.last_trade_id is not None:
            self.missing -= self.missing > 0 and event.trade_id < symbol.last_trade_id

    def _trade(self, symbol: _Symbol, event: Trade) -> None:
        if event.event_id in symbol.trades:
            self.duplicates += 1
            return
        symbol.trades.add(event.event_id)
        self.trades += 1
        if event.trade_id is not None:
            first_id = event.trade_id if event.first_id is None else event.first_id
            if symbol.last_trade_id is not None:
                self.missing += max(0, first_id - symbol.last_trade_id - 1)
            symbol.last_trade_id = event.trade_id

    def _snapshot(self, symbol: _Symbol, event: BookSnapshot) -> None:
        symbol.parts = [*symbol.parts, event] if event.part > 1 else [event]
        if event.part < event.parts:
            return
        book = WireBook(event.px_e, event.sz_e)
        book.replace(
            [level for part in symbol.parts for level in part.bids],
            [level for part in symbol.parts for level in part.asks],
            event.seq or 0,
        )
        symbol.book = book
        self._look(symbol, event.seq)

    def _delta(self, symbol: _Symbol, event: BookDelta) -> None:
        book = symbol.book
        if book is None:
            return
        if (event.px_e, event.sz_e) != (book.px_e, book.sz_e):
            book.refine(min(event.px_e, book.px_e), min(event.sz_e, book.sz_e))
        px, sz = 10 ** (event.px_e - book.px_e), 10 ** (event.sz_e - book.sz_e)
        bids = [(p * px, s * sz) for p, s in event.bids]
        asks = [(p * px, s * sz) for p, s in event.asks]
        book.apply(bids, asks, event.seq or 0)
        self._look(symbol, event.seq)

    def _look(self, symbol: _Symbol, seq: int | None) -> None:
        book = symbol.book
        if book is None:
            return
        self.crossed += book.crossed
        if seq is not None:
            self._compare(symbol.tops.book(seq, _scaled(book.top(), book)))

    def _compare(self, equal: bool | None) -> None:
        if equal is not None:
            self.tops_compared += 1
            self.tops_equal += equal


def _scaled(top: Top | None, units: Any) -> Any:
    """A top without its exponents: records of one symbol may differ in them."""
    if top is None:
        return None
    px, sz = 10 ** (units.px_e + 18), 10 ** (units.sz_e + 18)
    return top[0] * px, top[1] * sz, top[2] * px, top[3] * sz
