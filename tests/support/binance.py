"""Binance, as small as it gets: one symbol's true book, and the frames that tell of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from streams.book import WireBook
from streams.events import BookDelta, BookSnapshot, Event, FeedStatus
from streams.symbols import Listing
from streams.venues.base import HttpRequest
from streams.venues.binance.assembler import BinanceAssembler
from streams.venues.ordering import LATE_MS

NOW_MS = 1_723_161_255_000
BTC = Listing("binance", "BTCUSDT", "BTCUSDT")
ETH = Listing("binance", "ETHUSDT", "ETHUSDT")

Change = tuple[str, int, int]
"""(``bid`` or ``ask``, price in cents, size in 1e-5); one update id each."""
Sides = tuple[dict[int, int], dict[int, int]]


def text(value: int, places: int) -> str:
    """The wire's eight decimals of ``value * 10 ** -places``."""
    digits = str(value * 10 ** (8 - places)).rjust(9, "0")
    return f"{digits[:-8]}.{digits[-8:]}"


def level(px: int, sz: int) -> list[str]:
    return [text(px, 2), text(sz, 5)]


def frame(kind: str, data: dict[str, Any], symbol: str = "BTCUSDT") -> str:
    """A combined frame, as the venue spaces it."""
    name = f"{symbol.lower()}@{kind}"
    return json.dumps({"stream": name, "data": data}, separators=(",", ":"))


def depth(first: int, last: int, bids: Any = (), asks: Any = (), **changes: Any) -> str:
    data = {"e": "depthUpdate", "E": NOW_MS, "s": "BTCUSDT", "U": first, "u": last}
    return frame("depth@100ms", data | {"b": list(bids), "a": list(asks)} | changes)


def trade(number: int, **changes: Any) -> str:
    data = {"e": "trade", "E": NOW_MS, "s": "BTCUSDT", "t": number, "p": "100.01000000"}
    return frame("trade", data | {"q": "0.50000000", "T": NOW_MS, "m": True, "M": True} | changes)


def agg_trade(first: int, last: int, **changes: Any) -> str:
    data = {"e": "aggTrade", "E": NOW_MS, "s": "BTCUSDT", "a": 7, "p": "100.01000000"}
    data |= {"q": "0.50000000", "f": first, "l": last, "T": NOW_MS, "m": False, "M": True}
    return frame("aggTrade", data | changes)


def quote(seq: int, bid: Sequence[int] = (100, 5), ask: Sequence[int] = (101, 5)) -> str:
    (b, bs), (a, as_) = level(*bid), level(*ask)
    return frame("bookTicker", {"u": seq, "s": "BTCUSDT", "b": b, "B": bs, "a": a, "A": as_})


def day_ticker(**changes: Any) -> str:
    data = {"e": "24hrTicker", "E": NOW_MS, "s": "BTCUSDT", "P": "-1.250", "c": "98.75000000"}
    data |= {"o": "100.00000000", "h": "101.00000000", "l": "98.00000000", "v": "12.00000000"}
    return frame("ticker", data | {"n": 42} | changes)


def kline(event_ms: int = NOW_MS, interval: str = "1m", **changes: Any) -> str:
    k = {"t": NOW_MS - 15_000, "T": NOW_MS + 44_999, "s": "BTCUSDT", "i": interval, "n": 3}
    k |= {"o": "100.00000000", "c": "100.02000000", "h": "100.03000000", "l": "99.99000000"}
    k |= {"v": "7.00000000", "x": False} | changes
    return frame(f"kline_{interval}", {"e": "kline", "E": event_ms, "s": "BTCUSDT", "k": k})


def snapshot_body(last: int, bids: Iterable[Any], asks: Iterable[Any]) -> bytes:
    return json.dumps({"lastUpdateId": last, "bids": list(bids), "asks": list(asks)}).encode()


def info_entry(symbol: str = "BTCUSDT", tick: str = "0.01000000", **extra: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol[:3],
        "quoteAsset": symbol[3:],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": "0.00001000", "stepSize": "0.00001000"},
        ],
    } | extra


def info_body(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"timezone": "UTC", "symbols": list(entries or [info_entry()])}).encode()


class Venue:
    """A book's whole history: what it was after each update id.

    Attributes:
        states: (bids, asks) after update id = index; 0 is the book before any change.
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = changes
        self.states: list[Sides] = [({90: 5}, {110: 5})]
        for side, px, sz in changes:
            bids, asks = map(dict, self.states[-1])
            book = bids if side == "bid" else asks
            book.pop(px, None)
            if sz:
                book[px] = sz
            self.states.append((bids, asks))

    @property
    def newest(self) -> int:
        return len(self.changes)

    def diff(self, first: int, last: int, **changes: Any) -> str:
        """The frame of updates ``first`` to ``last``: each level once, as it is in the end."""
        sides: dict[str, list[Any]] = {"bid": [], "ask": []}
        for side, px in dict.fromkeys((s, p) for s, p, _ in self.changes[first - 1 : last]):
            sides[side].append(level(px, self.states[last][side == "ask"].get(px, 0)))
        return depth(first, last, sides["bid"], sides["ask"], **changes)

    def diffs(self, cuts: Iterable[int], first: int = 1) -> list[str]:
        """Frames that end at each of ``cuts`` and at the newest id."""
        frames, begin = [], first
        for end in sorted({c for c in cuts if first <= c < self.newest} | {self.newest}):
            frames.append(self.diff(begin, end))
            begin = end + 1
        return frames

    def snapshot(self, at: int) -> bytes:
        bids, asks = self.states[at]
        return snapshot_body(
            at,
            (level(px, bids[px]) for px in sorted(bids, reverse=True)),
            (level(px, asks[px]) for px in sorted(asks)),
        )

    def quote(self, at: int) -> str:
        bids, asks = self.states[at]
        bid, ask = max(bids), min(asks)
        return quote(at, (bid, bids[bid]), (ask, asks[ask]))


def sides(book: WireBook, px_e: int = -2, sz_e: int = -5) -> Sides:
    """A book as the venue's history has it."""
    px, sz = 10 ** (px_e - book.px_e), 10 ** (sz_e - book.sz_e)
    return (
        {p // px: s // sz for p, s in book.bids.sizes.items()},
        {p // px: s // sz for p, s in book.asks.sizes.items()},
    )


class Reader:
    """Rebuilds the book from records alone, as anyone who reads the topic would.

    Attributes:
        book: None before a first snapshot and from a gap to the next one.
    """

    def __init__(self, venue: Venue | None = None) -> None:
        self.venue = venue
        self.book: WireBook | None = None
        self.kinds: list[str] = []

    def read(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.symbol != BTC.symbol:
                continue
            self.kinds.append(str(event.__struct_config__.tag))
            if isinstance(event, BookSnapshot):
                self.book = WireBook(event.px_e, event.sz_e)
                self.book.replace(event.bids, event.asks, event.seq or 0)
            elif isinstance(event, BookDelta):
                assert self.book is not None, "a delta without a book to apply it to"
                if (event.px_e, event.sz_e) != (self.book.px_e, self.book.sz_e):
                    self.book.refine(event.px_e, event.sz_e)
                self.book.apply(event.bids, event.asks, event.seq or 0)
            elif getattr(event, "status", "") in ("gap", "disconnected"):
                self.book = None
            if self.venue and self.book and isinstance(event, BookSnapshot | BookDelta):
                assert sides(self.book) == self.venue.states[self.book.seq]


class Session:
    """An assembler with its clock and with the requests it has made."""

    def __init__(self, *listings: Listing, venue: Venue | None = None, **options: Any) -> None:
        self.assembler = BinanceAssembler(listings or (BTC,), **options)
        self.reader = Reader(venue)
        self.now_ms = NOW_MS
        self.waiting: list[HttpRequest] = []

    def connect(self) -> list[Any]:
        return self._took(self.assembler.connected(self.now_ms))

    def disconnect(self, reason: str = "closed") -> list[Any]:
        return self._took(self.assembler.disconnected(self.now_ms, reason))

    def receive(self, wire: str | bytes) -> list[Any]:
        return self._took(self.assembler.receive(wire, self.now_ms))

    def wait(self, ms: int = LATE_MS) -> list[Any]:
        """Let time pass, and look once what is overdue."""
        self.now_ms += ms
        return self._took(self.assembler.tick(self.now_ms))

    def purposes(self) -> list[str]:
        return [request.purpose for request in self.waiting]

    def pop(self, purpose: str) -> HttpRequest:
        """The oldest request of a kind; it need not be due."""
        return self.waiting.pop(self.purposes().index(purpose))

    def answer(self, purpose: str, body: bytes, status: int = 200, **kwargs: Any) -> list[Any]:
        request = self.pop(purpose)
        self.now_ms = max(self.now_ms, request.not_before_ms)
        return self._took(
            self.assembler.http_response(request, status, body, self.now_ms, **kwargs)
        )

    def sync(self, at: int = 0, bids: Any = (), asks: Any = ()) -> list[Any]:
        """Connect and answer everything: a book of 1.00 to 1.01, or as given, at id ``at``."""
        events = self.connect()
        events += self.answer("instrument", info_body())
        bids, asks = bids or [level(100, 5)], asks or [level(101, 5)]
        return events + self.answer("snapshot", snapshot_body(at, bids, asks))

    def _took(self, events: list[Any]) -> list[Any]:
        self.reader.read(events)
        self.waiting += self.assembler.requests_to_send()
        return events


# Bids stay under 100 and asks at or over it, so that a true book is never crossed. Level 90 and
# 110 are there from the start and are never removed.
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("bid"), st.integers(91, 99), st.integers(0, 3)),
        st.tuples(st.just("ask"), st.integers(101, 109), st.integers(0, 3)),
    ),
    min_size=4,
    max_size=40,
)
CUTS = st.sets(st.integers(1, 40), max_size=20)


def finish(session: Session, venue: Venue) -> None:
    """Answer everything with the venue's newest book, and see that ours is the same."""
    for _ in range(4):
        session.wait(100_000)
        while session.waiting:
            if "instrument" in session.purposes():
                session.answer("instrument", info_body())
            else:
                session.answer("snapshot", venue.snapshot(venue.newest))
    snapshot = session.assembler.snapshot("BTCUSDT", session.now_ms, "refresh")
    assert snapshot is not None
    assert snapshot.seq == venue.newest
    assert session.reader.book is not None
    assert session.reader.book.levels() == (snapshot.bids, snapshot.asks)
    assert sides(session.reader.book) == venue.states[-1]


def deltas(events: list[Any]) -> list[int]:
    return [event.seq or 0 for event in events if isinstance(event, BookDelta)]


def gaps(events: list[Any]) -> list[FeedStatus]:
    return [e for e in events if isinstance(e, FeedStatus) and e.status == "gap"]
