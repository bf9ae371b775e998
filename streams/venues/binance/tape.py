"""Reading Binance captures: who is on them, and which of their lines are REST replies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from streams.symbols import Listing
from streams.venues.binance import urls
from streams.venues.binance.assembler import BinanceAssembler
from streams.venues.binance.schema import VENUE

_COMBINED: Final = re.compile(r'\{"stream":"(!?[A-Za-z0-9]*)@?([A-Za-z]*)')
_EVENT: Final = re.compile(r'"e":"(\w+)"')
_SYMBOL: Final = re.compile(r'"s":"([A-Z0-9]+)"')


class BinanceDialect:
    """`streams.capture.dialects.Dialect` for Binance spot."""

    venue = VENUE

    def assembler(
        self, listings: Iterable[Listing], *, infer_instruments: bool
    ) -> BinanceAssembler:
        """A new assembler."""
        return BinanceAssembler(listings, infer_instruments=infer_instruments)

    def symbols_in_address(self, address: str) -> list[str]:
        """Symbols of a stream path, or of a depth request."""
        request = urls.request_of(address)
        if request is not None:
            return [request[1]] if request[1] else []
        return urls.symbols_in_address(address)

    def look(self, frame: str) -> tuple[str, str]:
        """Wire kind (``depth``, ``trade``, ...) and symbol of a frame."""
        combined = _COMBINED.match(frame)
        if combined:
            return combined[2], combined[1].upper() if combined[2] else ""
        event, symbol = _EVENT.search(frame, 0, 200), _SYMBOL.search(frame, 0, 200)
        if event is None and (symbol is None or '"u":' not in frame[:200]):
            return "", ""
        kind = event[1] if event else "bookTicker"
        return urls.RAW_EVENTS.get(kind, kind), symbol[1] if symbol else ""

    def request_of(self, url: str) -> tuple[Literal["instrument", "snapshot"], str] | None:
        """Purpose and symbol of a REST address."""
        return urls.request_of(url)

    def inline_reply(self, frame: str) -> Literal["instrument", "snapshot"] | None:
        """Depth snapshots and exchangeInfo, by their first key."""
        if frame.startswith('{"lastUpdateId"'):
            return "snapshot"
        return "instrument" if frame.startswith('{"timezone"') else None
