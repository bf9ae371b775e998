"""Which payload each stream of Binance spot carries, and how it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from streams.venues.binance.schema import (
    AggTradeUpdate,
    BookTickerUpdate,
    Combined,
    DayTickerUpdate,
    DepthUpdate,
    KlineUpdate,
    TradeUpdate,
)

Decode = Callable[[str | bytes], Any]

PAYLOADS: Final[dict[str, tuple[type, str]]] = {
    "depth": (DepthUpdate, "on_depth"),
    "trade": (TradeUpdate, "on_trade"),
    "aggTrade": (AggTradeUpdate, "on_agg_trade"),
    "bookTicker": (BookTickerUpdate, "on_quote"),
    "ticker": (DayTickerUpdate, "on_day_ticker"),
    "kline": (KlineUpdate, "on_kline"),
}
"""By stream name, rate and interval cut off: what the payload is, and who reads it."""

BARE: Final[dict[str, Decode]] = {
    name: msgspec.json.Decoder(payload).decode for name, (payload, _) in PAYLOADS.items()
}
COMBINED: Final[dict[str, Decode]] = {
    name: msgspec.json.Decoder(Combined[payload]).decode  # type: ignore[valid-type]
    for name, (payload, _) in PAYLOADS.items()
}
