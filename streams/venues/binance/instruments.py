"""Binance's trading rules as the contract's `Instrument`."""

from __future__ import annotations

from streams.events import Instrument
from streams.venues.binance.schema import VENUE, SymbolInfo
from streams.venues.decimals import common_step


def instrument_of(symbol: str, info: SymbolInfo, now_ms: int) -> Instrument:
    """Tick and lot size as exchangeInfo says them.

    Raises:
        FrameError: A step is not a number.
    """
    # A step of 0 is the venue's way to say that the rule is off.
    tick_size, px_e = common_step({info.step("PRICE_FILTER") or "0"}, "tickSize")
    lot_size, sz_e = common_step({info.step("LOT_SIZE") or "0"}, "stepSize")
    return Instrument(
        venue=VENUE,
        symbol=symbol,
        ts_event_ms=now_ms,
        ts_recv_ms=now_ms,
        px_e=px_e,
        sz_e=sz_e,
        tick_size=tick_size,
        lot_size=lot_size,
        status=info.status.lower(),
        base=info.base_asset,
        quote=info.quote_asset,
        synthetic=info.synthetic,
    )
