"""Recordings of Coinbase's older feed, *Exchange*: its books and its trades.

A frame has a ``type``: ``snapshot`` and ``l2update`` are books, ``match`` and ``last_match`` trades.
Books have no numbers and no checksums, so a lost update shows only where it leaves a book crossed.
Tickers are of another make and are not read.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from streams.events import Event
from streams.venues.base import excerpt
from streams.venues.coinbase.assembler import CoinbaseAssembler
from streams.venues.coinbase.feed import SymbolFeed
from streams.venues.coinbase.schema import Level, TradeEntry
from tapeline.errors import FrameError

_TYPE: Final = re.compile(r'\s*\{\s*"type"\s*:\s*"(\w+)"')
_PRODUCT: Final = re.compile(r'"product_id"\s*:\s*"([A-Z0-9-]+)"')
_TYPES: Final = frozenset(
    ("snapshot", "l2update", "match", "last_match", "ticker", "heartbeat", "subscriptions")
)
_SIDES: Final = {"buy": "bid", "sell": "offer"}


class _Frame(msgspec.Struct, gc=False):
    type: str
    product_id: str = ""
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []
    changes: list[tuple[str, str, str]] = []
    trade_id: int = 0
    price: str = ""
    size: str = ""
    side: str = ""
    time: str = ""


_decode: Final = msgspec.json.Decoder(_Frame).decode


def look(frame: str) -> tuple[str, str]:
    """Type and product of a frame of this feed; both empty of any other."""
    kind = _TYPE.match(frame)
    if kind is None or kind[1] not in _TYPES:
        return "", ""
    # A snapshot's levels come behind its product, a match's product behind its ids.
    product = _PRODUCT.search(frame, 0, 1000) if kind[1] != "subscriptions" else None
    return kind[1], product[1] if product else ""


class TapeAssembler(CoinbaseAssembler):
    """`CoinbaseAssembler` that reads the older feed as well: for recordings, which may be of either."""

    _updates = 0

    def receive(self, frame: str | bytes, ts_recv_ms: int, connection: int = 0) -> list[Event]:
        """Feed one frame of either feed.

        Raises:
            FrameError: Of neither, or a value that can't be.
        """
        if not isinstance(frame, str) or not look(frame)[0]:
            return super().receive(frame, ts_recv_ms, connection)
        self.counts.frames += 1
        self._now_ms = ts_recv_ms
        try:
            return self._passed(self._on_frame(_decode(frame), ts_recv_ms, connection))
        except (msgspec.DecodeError, FrameError) as exc:
            self.counts.errors += 1
            feed = self._roster.by_venue_symbol.get(look(frame)[1])
            if feed is not None and look(frame)[0] in ("snapshot", "l2update"):
                detail = "a message could not be read"
                self._channels.late += feed.book.hole(connection, detail, ts_recv_ms)
            raise FrameError(f"{exc}: {excerpt(frame)}") from None

    def _on_frame(self, frame: _Frame, now_ms: int, connection: int) -> list[Event]:
        feed = self._roster.by_venue_symbol.get(frame.product_id)
        if feed is None:
            self.counts.ignored += 1
            return []
        feed.heard = True
        if frame.type in ("match", "last_match"):
            return _trades(feed, frame, now_ms)
        self._updates += 1
        if frame.type == "snapshot":
            levels = [Level("bid", px, sz) for px, sz in frame.bids]
            levels += [Level("offer", px, sz) for px, sz in frame.asks]
            events = feed.book.snapshot(levels, self._updates, now_ms, now_ms, connection)
            if feed.book.synced:
                self._asks.settle(frame.product_id, now_ms)
            return events
        if frame.type == "l2update":
            levels = [_level(change, frame.time) for change in frame.changes]
            return feed.book.update(levels, self._updates, now_ms, connection)
        self.counts.ignored += 1
        return []


def _level(change: tuple[str, str, str], time: str) -> Level:
    side = _SIDES.get(change[0])
    if side is None:
        raise FrameError(f"side {change[0][:60]!r}: expected buy or sell")
    return Level(side, change[1], change[2], time)  # type: ignore[arg-type]


def _trades(feed: SymbolFeed, frame: _Frame, now_ms: int) -> list[Event]:
    """The last match before the subscription is told once more as a match where there is an overlap."""
    entry = TradeEntry(
        frame.product_id,
        str(frame.trade_id),
        frame.price,
        frame.size,
        frame.side.upper(),
        frame.time,
    )
    return feed.on_trades([entry], now_ms)
