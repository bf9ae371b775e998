"""Coinbase, as small as it gets: frames of each channel, and an assembler with its clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from streams.symbols import Listing
from streams.venues.base import HttpRequest
from streams.venues.coinbase.assembler import CoinbaseAssembler

NOW_MS = 1_786_309_548_000
NOW = "2026-08-09T21:05:48.000000Z"
BTC = Listing("coinbase", "BTC-USD", "BTCUSD")
ETH = Listing("coinbase", "ETH-USD", "ETHUSD")
USDC = Listing("coinbase", "BTC-USDC", "BTCUSDC")

Level = tuple[str, str, str]
"""(``bid`` or ``offer``, price, quantity)."""

BOOK: Sequence[Level] = [
    ("bid", "100.00", "5"), ("bid", "99.50", "2"), ("offer", "100.01", "1"), ("offer", "101", "7"),
]  # fmt: skip


def frame(channel: str, number: int, *events: dict[str, Any], **changes: Any) -> str:
    """A frame as the venue spaces it."""
    whole = {"channel": channel, "timestamp": NOW, "sequence_num": number, "events": list(events)}
    return json.dumps(whole | changes, separators=(",", ":"))


def level2(
    number: int,
    levels: Sequence[Level] = (("bid", "99.50", "3"),),
    product: str = "BTC-USD",
    kind: str = "update",
    time: str = NOW,
) -> str:
    updates = [
        {"side": side, "event_time": time, "price_level": px, "new_quantity": sz}
        for side, px, sz in levels
    ]
    return frame("l2_data", number, {"type": kind, "product_id": product, "updates": updates})


def book(number: int, levels: Sequence[Level] = BOOK, product: str = "BTC-USD") -> str:
    return level2(number, levels, product, "snapshot")


def trade(trade_id: int, **changes: Any) -> dict[str, Any]:
    whole = {"product_id": "BTC-USD", "trade_id": str(trade_id), "price": "100.01", "size": "0.5"}
    return whole | {"time": NOW, "side": "SELL"} | changes


def trades(number: int, *entries: dict[str, Any], kind: str = "update") -> str:
    return frame("market_trades", number, {"type": kind, "trades": list(entries)})


def ticker(number: int, channel: str = "ticker", **changes: Any) -> str:
    whole = {"type": "ticker", "product_id": "BTC-USD", "price": "99", "volume_24_h": "12.5"}
    whole |= {"low_24_h": "98", "high_24_h": "101.5", "price_percent_chg_24_h": "-1"}
    whole |= {"best_bid": "100.00", "best_bid_quantity": "5"}
    whole |= {"best_ask": "100.01", "best_ask_quantity": "1"}
    return frame(channel, number, {"type": "update", "tickers": [whole | changes]})


def candle(start_s: int, **changes: Any) -> dict[str, Any]:
    whole = {"product_id": "BTC-USD", "start": str(start_s), "open": "100", "high": "101"}
    return whole | {"low": "99.5", "close": "100.5", "volume": "7"} | changes


def candles(number: int, *entries: dict[str, Any]) -> str:
    return frame("candles", number, {"type": "update", "candles": list(entries)})


def heartbeat(number: int) -> str:
    return frame("heartbeats", number, {"current_time": NOW, "heartbeat_counter": number})


def ack(number: int, **channels: list[str]) -> str:
    return frame("subscriptions", number, {"subscriptions": channels})


def error(message: str) -> str:
    return json.dumps({"type": "error", "message": message})


def product(name: str = "BTC-USD", **changes: Any) -> dict[str, Any]:
    base, quote = name.split("-")
    whole = {"product_id": name, "base_increment": "0.00001", "quote_increment": "0.01"}
    whole |= {"status": "online", "base_currency_id": base, "quote_currency_id": quote}
    return whole | {"alias": name[:-1] if name.endswith("-USDC") else ""} | changes


def products(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"products": list(entries or [product()])}).encode()


class Session:
    """An assembler with its clock, the number of the next frame, and the requests it has made."""

    def __init__(self, *listings: Listing, **options: Any) -> None:
        self.assembler = CoinbaseAssembler(listings or (BTC,), **options)
        self.now_ms = NOW_MS
        self.number = 0
        self.waiting: list[HttpRequest] = []

    def connect(self, connection: int = 0) -> list[Any]:
        self.number = 0
        return self._took(self.assembler.connected(self.now_ms, connection))

    def receive(self, wire: str | bytes, connection: int = 0) -> list[Any]:
        return self._took(self.assembler.receive(wire, self.now_ms, connection))

    def feed(self, make: Any, *args: Any, **changes: Any) -> list[Any]:
        """Make a frame with the next number, and receive it."""
        self.number += 1
        return self.receive(make(self.number - 1, *args, **changes))

    def answer(self, body: bytes, status: int = 200, **kwargs: Any) -> list[Any]:
        """Answer the oldest request."""
        request = self.waiting.pop(0)
        self.now_ms = max(self.now_ms, request.not_before_ms)
        return self._took(
            self.assembler.http_response(request, status, body, self.now_ms, **kwargs)
        )

    def sync(self) -> list[Any]:
        """Connect and bring everything: the books of all symbols, as `BOOK` has them."""
        events = self.connect()
        names = [feed.market.venue_symbol for feed in self._feeds()]
        events += self.answer(products(*map(product, names)))
        for name in names:
            events += self.feed(book, product=name)
        return events

    def sent(self) -> list[dict[str, Any]]:
        """What the venue is sent now."""
        return [json.loads(text) for text in self.assembler.frames_to_send()]

    def levels(self, symbol: str = "BTCUSD") -> Any:
        """(bids, asks) of a symbol in sync, else None."""
        snapshot = self.assembler.snapshot(symbol, self.now_ms, "refresh")
        return snapshot and (snapshot.bids, snapshot.asks)

    def _feeds(self) -> Any:
        return self.assembler._roster.by_symbol.values()

    def _took(self, events: list[Any]) -> list[Any]:
        self.waiting += self.assembler.requests_to_send()
        return events


def told(events: list[Any]) -> list[str]:
    """Events in words: kind, and what tells them apart."""
    words = []
    for event in events:
        word = str(event.__struct_config__.tag)
        if word == "feed_status":
            word = event.status + (f":{event.reason}" if event.reason else "")
        elif word == "book_snapshot":
            word += f":{event.reason}"
        words.append(f"{event.symbol} {word}")
    return words
