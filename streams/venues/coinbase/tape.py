"""Reading Coinbase captures: who is on them, and which of their lines are REST replies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from streams.symbols import Listing
from streams.venues.coinbase import legacy, urls
from streams.venues.coinbase.schema import VENUE

_CHANNEL: Final = re.compile(r'"channel"\s*:\s*"(\w+)"')
_PRODUCT: Final = re.compile(r'"product_id"\s*:\s*"([A-Z0-9-]+)"')
_HEAD: Final = 400
"""Characters in which a frame says what it is; a book's frame has five million."""


class CoinbaseDialect:
    """`streams.capture.dialects.Dialect` for Coinbase Advanced Trade, and the older Exchange feed."""

    venue = VENUE

    def assembler(
        self, listings: Iterable[Listing], *, infer_instruments: bool
    ) -> legacy.TapeAssembler:
        """A new assembler."""
        return legacy.TapeAssembler(listings, infer_instruments=infer_instruments)

    def symbols_in_address(self, address: str) -> list[str]:
        """None: an address of this venue names no product that is followed."""
        return []

    def look(self, frame: str) -> tuple[str, str]:
        """Channel and the first product of a frame."""
        channel = _CHANNEL.search(frame, 0, _HEAD)
        product = _PRODUCT.search(frame, 0, _HEAD)
        if channel is None:
            return ("error", "") if frame.startswith('{"type":"error"') else legacy.look(frame)
        return channel[1], product[1] if product else ""

    def request_of(self, url: str) -> tuple[Literal["instrument", "snapshot"], str] | None:
        """Replies about products speak of all of them, or are read as if they did."""
        return ("instrument", "") if urls.is_products(url) else None

    def inline_reply(self, frame: str) -> Literal["instrument", "snapshot"] | None:
        """The reply about products, by its first key."""
        return "instrument" if frame.startswith('{"products":') else None
