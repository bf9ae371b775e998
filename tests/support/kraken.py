"""Kraken, as small as it gets: frames as the venue prints them, and a reader of the records.

Numbers are texts here, as the zeros at their end count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

from streams.book import WireBook
from streams.events import BookDelta, BookSnapshot, Event
from streams.symbols import Listing
from streams.venues.kraken.assembler import KrakenAssembler

NOW_MS = 1_784_483_679_000  # 2026-07-19T17:54:39Z
MINUTE = "2026-07-19T17:54"
BTC = Listing("kraken", "BTC/USD", "BTCUSD")
ETH = Listing("kraken", "ETH/USD", "ETHUSD")

Level = tuple[str, str]
"""(price, size) as printed."""
Sides = tuple[dict[str, str], dict[str, str]]
"""(bids, asks), price to size as printed."""

BIDS: dict[str, str] = {"100.0": "0.50000000", "99.9": "0.00100000", "99.5": "12.00000000"}
ASKS: dict[str, str] = {"100.1": "1.25000000", "100.4": "0.00000001"}


def stamp(us: int) -> str:
    """The venue's time, so many microseconds after `MINUTE` and 39 s."""
    return f"{MINUTE}:{39 + us // 1_000_000:02d}.{us % 1_000_000:06d}Z"


def number_key(text: str) -> float:
    return float(text)


def best(side: Mapping[str, str], *, highest: bool, count: int = 10) -> list[Level]:
    prices = sorted(side, key=number_key, reverse=highest)[:count]
    return [(price, side[price]) for price in prices]


def checksum(bids: Mapping[str, str], asks: Mapping[str, str]) -> int:
    """The venue's rule once more, written down independently of the product's."""
    said = ""
    for price, size in [*best(asks, highest=False), *best(bids, highest=True)]:
        for text in (price, size):
            said += "".join(c for c in text if c != ".").lstrip("0")
    return crc32(said.encode())


def printed(levels: Iterable[Level]) -> str:
    return "[" + ",".join(f'{{"price":{p},"qty":{q}}}' for p, q in levels) + "]"


def book(
    kind: str,
    bids: Iterable[Level],
    asks: Iterable[Level],
    check: int,
    us: int | None = 0,
    symbol: str = "BTC/USD",
) -> str:
    """A ``book`` frame; no time where ``us`` is None."""
    time = "" if us is None else f',"timestamp":"{stamp(us)}"'
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":{printed(bids)},'
        f'"asks":{printed(asks)},"checksum":{check}{time}}}]}}'
    )


def snapshot(
    bids: Mapping[str, str] = BIDS,
    asks: Mapping[str, str] = ASKS,
    us: int | None = 0,
    symbol: str = "BTC/USD",
) -> str:
    ordered = best(bids, highest=True, count=9_999), best(asks, highest=False, count=9_999)
    return book("snapshot", *ordered, checksum(bids, asks), us, symbol)


class Venue:
    """A book and the frames that tell of it; it is cut to ``depth`` levels a side."""

    def __init__(
        self,
        bids: Mapping[str, str] = BIDS,
        asks: Mapping[str, str] = ASKS,
        *,
        depth: int = 10,
        symbol: str = "BTC/USD",
    ) -> None:
        self.bids, self.asks, self.depth, self.symbol = dict(bids), dict(asks), depth, symbol
        self.us = 0

    def snapshot(self) -> str:
        return snapshot(self.bids, self.asks, self.us, self.symbol)

    def change(self, bids: Sequence[Level] = (), asks: Sequence[Level] = ()) -> str:
        """Apply, cut, and tell."""
        self.us += 1_000
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, size in levels:
                side.pop(price, None)
                if size.strip("0."):
                    side[price] = size
        for side, highest in ((self.bids, True), (self.asks, False)):
            kept = dict(best(side, highest=highest, count=self.depth))
            side.clear()
            side.update(kept)
        return book("update", bids, asks, checksum(self.bids, self.asks), self.us, self.symbol)

    def sides(self) -> Sides:
        return dict(self.bids), dict(self.asks)


def plain(sides: Sides, px_e: int = -1, sz_e: int = -8) -> tuple[dict[int, int], dict[int, int]]:
    """Printed levels as integers at these exponents."""
    bids, asks = (
        {round(float(p) * 10**-px_e): round(float(q) * 10**-sz_e) for p, q in side.items()}
        for side in sides
    )
    return bids, asks


def levels_of(kept: WireBook, px_e: int = -1, sz_e: int = -8) -> Any:
    px, sz = 10 ** (px_e - kept.px_e), 10 ** (sz_e - kept.sz_e)
    return (
        {p // px: s // sz for p, s in kept.bids.sizes.items()},
        {p // px: s // sz for p, s in kept.asks.sizes.items()},
    )


def data_frame(channel: str, kind: str, *entries: str) -> str:
    return f'{{"channel":"{channel}","type":"{kind}","data":[{",".join(entries)}]}}'


def _entry(values: Mapping[str, Any]) -> str:
    """An object; values that begin with ``=`` are numbers' texts."""
    parts = (
        f'"{k}":{v[1:] if isinstance(v, str) and v[:1] == "=" else json.dumps(v)}'
        for k, v in values.items()
    )
    return "{" + ",".join(parts) + "}"


def trade_entry(number: int, us: int = 0, **changes: Any) -> str:
    values = {"symbol": "BTC/USD", "side": "buy", "price": "=100.1", "qty": "=0.01044926"}
    values |= {"ord_type": "limit", "trade_id": number, "timestamp": stamp(us)}  # type: ignore[dict-item]
    return _entry(values | changes)


def trade(number: int, us: int = 0, **changes: Any) -> str:
    return data_frame("trade", "update", trade_entry(number, us, **changes))


def ticker(**changes: Any) -> str:
    values = {"symbol": "BTC/USD", "bid": "=100.0", "bid_qty": "=0.50000000", "ask": "=100.1"}
    values |= {"ask_qty": "=1.25000000", "last": "=100.1", "volume": "=4216.61829370"}
    values |= {"vwap": "=99.2", "low": "=91.4", "high": "=106.0", "change": "=-4.9"}
    return data_frame("ticker", "update", _entry(values | {"change_pct": "=-4.67"} | changes))


def candle_entry(minute: int = 54, trades: int = 3, **changes: Any) -> str:
    values = {"symbol": "BTC/USD", "open": "=100.0", "high": "=100.4", "low": "=99.9"}
    values |= {"close": "=100.1", "trades": trades, "volume": "=7.50000000", "vwap": "=100.0"}  # type: ignore[dict-item]
    values |= {"interval_begin": f"2026-07-19T17:{minute:02d}:00.000000000Z", "interval": 1}  # type: ignore[dict-item]
    return _entry(values | changes)


def candle(minute: int = 54, trades: int = 3, **changes: Any) -> str:
    return data_frame("ohlc", "update", candle_entry(minute, trades, **changes))


def instrument(*pairs: dict[str, Any], kind: str = "snapshot") -> str:
    said = ",".join(_entry(pair) for pair in pairs or (pair(),))
    return f'{{"channel":"instrument","type":"{kind}","data":{{"assets":[],"pairs":[{said}]}}}}'


def pair(symbol: str = "BTC/USD", **changes: Any) -> dict[str, Any]:
    base, quote = symbol.split("/")
    values = {"symbol": symbol, "base": base, "quote": quote, "status": "online"}
    values |= {"qty_precision": 8, "qty_increment": "=0.00000001", "price_precision": 1}  # type: ignore[dict-item]
    return values | {"tick_size": "=0.1", "price_increment": "=0.1"} | changes


def ack(channel: str = "book", symbol: str = "BTC/USD", depth: int | None = 10) -> str:
    result = {"channel": channel, "symbol": symbol, "snapshot": True}
    if channel == "book":
        result["depth"] = depth  # type: ignore[assignment]
    return json.dumps({"method": "subscribe", "result": result, "success": True})


def refusal(error: str, symbol: str = "BTC/USD", method: str = "subscribe", **more: Any) -> str:
    said = {"error": error, "method": method, "success": False, "symbol": symbol}
    return json.dumps(said | more)


STATUS = data_frame("status", "update", '{"system":"online","version":"2.0.10"}')
HEARTBEAT = '{"channel":"heartbeat"}'


class Reader:
    """Rebuilds the book from records alone, as anyone who reads the topic would.

    Attributes:
        book: None before a first snapshot and from a gap to the next one.
    """

    def __init__(self, symbol: str = BTC.symbol) -> None:
        self.symbol = symbol
        self.book: WireBook | None = None

    def read(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.symbol != self.symbol:
                continue
            if isinstance(event, BookSnapshot):
                self.book = WireBook(event.px_e, event.sz_e)
                self.book.replace(event.bids, event.asks, 0)
            elif isinstance(event, BookDelta):
                assert self.book is not None, "a delta without a book to apply it to"
                if (event.px_e, event.sz_e) != (self.book.px_e, self.book.sz_e):
                    self.book.refine(event.px_e, event.sz_e)
                self.book.apply(event.bids, event.asks, 0)
            elif getattr(event, "status", "") in ("gap", "disconnected"):
                self.book = None


class Session:
    """An assembler with its clock, a reader of its records and the frames it has sent."""

    def __init__(self, *listings: Listing, **options: Any) -> None:
        self.assembler = KrakenAssembler(listings or (BTC,), **({"depth": 10} | options))
        self.reader = Reader()
        self.now_ms = NOW_MS
        self.sent: list[dict[str, Any]] = []

    def connect(self) -> list[Any]:
        return self.took(self.assembler.connected(self.now_ms))

    def disconnect(self) -> list[Any]:
        return self.took(self.assembler.disconnected(self.now_ms, "closed"))

    def receive(self, *frames: str | bytes) -> list[Any]:
        events: list[Any] = []
        for frame in frames:
            events += self.took(self.assembler.receive(frame, self.now_ms))
        return events

    def sync(self, *frames: str) -> list[Any]:
        """Connect, know the instrument, and have a book: the default one, or as given."""
        events = self.connect()
        return events + self.receive(STATUS, instrument(), *(frames or (snapshot(),)))

    def took(self, events: list[Any]) -> list[Any]:
        self.reader.read(events)
        self.sent += map(json.loads, self.assembler.frames_to_send())
        return events

    def pop_sent(self) -> list[tuple[str, str]]:
        """(method, channel) of the frames sent since."""
        sent, self.sent = self.sent, []
        return [(frame["method"], frame["params"]["channel"]) for frame in sent]
