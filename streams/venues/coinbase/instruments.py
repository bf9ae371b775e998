"""Coinbase's products as the contract's `Instrument`."""

from __future__ import annotations

from typing import Final

from streams.events import Instrument
from streams.venues.coinbase.schema import VENUE, Product
from streams.venues.decimals import common_step

DELISTED: Final = "delisted"
_RESTRICTIONS: Final = (
    "is_disabled", "trading_disabled", "cancel_only", "auction_mode", "post_only", "limit_only",
)  # fmt: skip


def instrument_of(symbol: str, product: Product, now_ms: int) -> Instrument:
    """Tick and lot size as the venue says them; what restricts trading goes before its status.

    Raises:
        FrameError: A step is not a number.
    """
    # A step of 0 is no step: one unit of the usual decimals stands for it.
    tick_size, px_e = common_step({product.quote_increment or "0"}, "quote_increment")
    lot_size, sz_e = common_step({product.base_increment or "0"}, "base_increment")
    restrictions = [name for name in _RESTRICTIONS if getattr(product, name)]
    return Instrument(
        venue=VENUE,
        symbol=symbol,
        ts_event_ms=now_ms,
        ts_recv_ms=now_ms,
        px_e=px_e,
        sz_e=sz_e,
        tick_size=tick_size,
        lot_size=lot_size,
        status=restrictions[0] if restrictions else product.status.lower(),
        base=product.base_currency_id,
        quote=product.quote_currency_id,
        synthetic=product.synthetic,
    )
