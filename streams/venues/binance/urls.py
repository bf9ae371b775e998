"""Binance spot's addresses: where to connect, what to ask for, and reading them back."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, Literal
from urllib.parse import parse_qs, quote, urlsplit

STREAM_ROOT: Final = "wss://stream.binance.com:9443"
REST_ROOT: Final = "https://api.binance.com"
DATA_STREAM_ROOT: Final = "wss://data-stream.binance.vision"
DATA_REST_ROOT: Final = "https://data-api.binance.vision"
"""Market data only, no account: reachable from more places than the main hosts."""

STREAMS: Final = ("depth@100ms", "trade", "ticker", "bookTicker", "kline_1m")
"""What is subscribed for each symbol."""

RAW_EVENTS: Final = {"depthUpdate": "depth", "24hrTicker": "ticker"}
"""Event types that are not called as their streams are."""

STREAMS_MAX: Final = 1_024
"""The venue's limit per connection."""

FRAME_STREAMS_MAX: Final = 200
"""Streams named by one control frame: a few kilobytes, however many symbols join at once."""

SNAPSHOT_LEVELS: Final = 1_000
SNAPSHOT_WEIGHT: Final = 50
INSTRUMENT_WEIGHT: Final = 20
"""Request weights; the budget is 6,000 a minute and address."""

_STREAM_SYMBOL = re.compile(r"[/=]([a-z0-9]+)@[a-z]")


def stream_path(venue_symbols: Sequence[str]) -> str:
    """The combined stream of all symbols, grouped by kind."""
    return "/stream?streams=" + "/".join(stream_names(venue_symbols))


def stream_names(venue_symbols: Sequence[str]) -> list[str]:
    """All streams of these symbols, grouped by kind."""
    return [f"{symbol.lower()}@{kind}" for kind in STREAMS for symbol in venue_symbols]


def snapshot_path(venue_symbol: str) -> str:
    """The depth snapshot of one symbol."""
    return f"/api/v3/depth?symbol={quote(venue_symbol)}&limit={SNAPSHOT_LEVELS}"


def instrument_path(venue_symbols: Sequence[str]) -> str:
    """The trading rules of these symbols, in one request."""
    if len(venue_symbols) == 1:
        return f"/api/v3/exchangeInfo?symbol={quote(venue_symbols[0])}"
    names = json.dumps(list(venue_symbols), separators=(",", ":"))
    return f"/api/v3/exchangeInfo?symbols={quote(names)}"


def symbols_in_address(address: str) -> list[str]:
    """Venue symbols named by a websocket address, each once, in its order."""
    return list(dict.fromkeys(name.upper() for name in _STREAM_SYMBOL.findall(address)))


def request_of(url: str) -> tuple[Literal["instrument", "snapshot"], str] | None:
    """(purpose, venue symbol) of a REST address; None if it is neither of ours."""
    parts = urlsplit(url)
    if parts.path.endswith("/exchangeInfo"):
        return "instrument", ""
    if parts.path.endswith("/depth"):
        return "snapshot", parse_qs(parts.query).get("symbol", [""])[0].upper()
    return None
