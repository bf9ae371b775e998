"""Reading Kraken captures: who is on them, and what their frames are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from streams.symbols import Listing
from streams.venues.kraken import legacy
from streams.venues.kraken.schema import VENUE

_CHANNEL: Final = re.compile(r'\s*\{\s*"(channel|method)"\s*:\s*"(\w+)"')
_SYMBOL: Final = re.compile(r'"symbol"\s*:\s*"([^"]+)"')
_LOOKED_AT: Final = 300

_MARKET_DATA: Final = frozenset(("book", "trade", "ticker", "ohlc", "subscribe"))


class KrakenDialect:
    """`streams.capture.dialects.Dialect` for Kraken spot, websocket v2, and the books of v1."""

    venue = VENUE

    def assembler(
        self, listings: Iterable[Listing], *, infer_instruments: bool
    ) -> legacy.TapeAssembler:
        """A new assembler; the depth of its books is what the tape says."""
        return legacy.TapeAssembler(listings, infer_instruments=infer_instruments, depth=None)

    def symbols_in_address(self, address: str) -> list[str]:
        """None: an address names no symbol."""
        return []

    def look(self, frame: str) -> tuple[str, str]:
        """Channel, or method of an answer, and symbol of a frame; the first where it has more."""
        head = frame[:_LOOKED_AT]
        channel = _CHANNEL.match(head)
        if channel is None:
            return legacy.look(frame)
        symbol = _SYMBOL.search(head) if channel[2] in _MARKET_DATA else None
        return channel[2], symbol[1] if symbol else ""

    def request_of(self, url: str) -> tuple[Literal["instrument", "snapshot"], str] | None:
        """None: nothing is asked for by HTTP."""
        return None

    def inline_reply(self, frame: str) -> Literal["instrument", "snapshot"] | None:
        """None: instruments and snapshots are frames like any other."""
        return None
