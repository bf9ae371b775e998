"""Kraken's websocket v2: where it is, what is asked of it, and in which words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

STREAM_ROOT: Final = "wss://ws.kraken.com"
STREAM_PATH: Final = "/v2"
REST_ROOT: Final = "https://api.kraken.com"
"""Asked for nothing: instruments and books come on the socket, and REST's book has neither a
sequence nor a checksum to splice it by."""

DEPTHS: Final = (10, 25, 100, 500, 1_000)
DEPTH: Final = 1_000
"""Levels a side that are subscribed."""

CANDLE_MINUTES: Final = 1
INTERVALS: Final = {
    1: "1m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 240: "4h", 1_440: "1d", 10_080: "1w",
    21_600: "15d",
}  # fmt: skip

BOOK: Final = "book"
INSTRUMENT: Final = "instrument"
CHANNELS: Final = (BOOK, "trade", "ticker", "ohlc")
"""What is subscribed for each symbol; `INSTRUMENT` is for all of them at once."""

FRAME_SYMBOLS_MAX: Final = 50
"""Symbols in one frame; each is answered by itself."""

_REQUEST_IDS: Final = {name: n for n, name in enumerate((INSTRUMENT, *CHANNELS), 1)}
_CHANNELS_BY_ID: Final = {n: name for name, n in _REQUEST_IDS.items()}
"""A refusal does not say of which channel it speaks, but repeats the id of the request."""


def subscribe(channel: str, venue_symbols: Sequence[str] = (), depth: int = DEPTH) -> list[str]:
    """Frames that subscribe these symbols; of `INSTRUMENT`, which has none, one frame."""
    return _frames("subscribe", channel, venue_symbols, depth, {"snapshot": True})


def unsubscribe(channel: str, venue_symbols: Sequence[str], depth: int = DEPTH) -> list[str]:
    """Frames that end the subscription of these symbols."""
    return _frames("unsubscribe", channel, venue_symbols, depth, {})


def channel_asked(req_id: int | None) -> str:
    """The channel that a request of ours was about; empty if it is none of ours."""
    return _CHANNELS_BY_ID.get(req_id or 0, "")


def depth_of(levels: int) -> int:
    """The least depth that can be subscribed and holds so many levels a side."""
    return next((depth for depth in DEPTHS if depth >= levels), DEPTHS[-1])


def _frames(
    method: str, channel: str, venue_symbols: Sequence[str], depth: int, options: dict[str, Any]
) -> list[str]:
    # An unsubscription names what was subscribed, or it is of another subscription.
    if channel == BOOK:
        options = {"depth": depth, **options}
    elif channel == "ticker":
        options = {"event_trigger": "bbo", **options}
    elif channel == "ohlc":
        options = {"interval": CANDLE_MINUTES, **options}
    return [
        json.dumps(
            {
                "method": method,
                "params": {"channel": channel, **named, **options},
                "req_id": _REQUEST_IDS[channel],
            },
            separators=(",", ":"),
        )
        for named in _named(channel, venue_symbols)
    ]


def _named(channel: str, venue_symbols: Sequence[str]) -> Iterable[dict[str, list[str]]]:
    if channel == INSTRUMENT:
        return [{}]
    step = FRAME_SYMBOLS_MAX
    return [
        {"symbol": [*venue_symbols[at : at + step]]} for at in range(0, len(venue_symbols), step)
    ]
