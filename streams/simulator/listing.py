"""What the simulated exchange can list: each symbol's steps, price level and grain."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from streams.simulator import fitted
from streams.symbols import is_symbol
from tapeline.errors import ConfigError

E8 = 10**8
"""Prices and sizes on the wire have eight decimals."""

_QUOTES = ("USDT", "USDC", "FDUSD", "EUR", "USD", "BTC", "ETH")


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    """One listed symbol.

    Attributes:
        symbol: As the venue spells it, such as ``BTCUSDT``.
        tick_e8, lot_e8: Price and size step, in units of 1e-8.
        start_px: First mid price, in ticks.
    """

    symbol: str
    base: str
    quote: str
    tick_e8: int
    lot_e8: int
    start_px: int

    @property
    def fineness(self) -> float:
        """How fine the tick is, relative to the fitted symbol's."""
        return self.start_px / fitted.TICKS_PER_PRICE

    @property
    def reach(self) -> float:
        """Ticks here per tick of the fitted symbol, at equal relative distance.

        At least 1/40: with a coarse tick every price is taken, and a book is not squeezed
        into three levels.
        """
        return min(1.0, max(0.025, self.fineness))

    @property
    def lots_per_unit(self) -> float:
        """Lots that are worth what one unit of the fitted symbol is worth."""
        price = self.start_px * self.tick_e8 / E8
        return fitted.PRICE / price * E8 / self.lot_e8


def _spec(symbol: str, tick: float, lot: float, price: float) -> SymbolSpec:
    quote = next((q for q in _QUOTES if symbol.endswith(q) and symbol != q), "USDT")
    base = symbol.removesuffix(quote) or symbol
    return SymbolSpec(
        symbol,
        base,
        quote,
        max(1, round(tick * E8)),
        max(1, round(lot * E8)),
        max(1000, round(price / tick)),
    )


KNOWN = {
    spec.symbol: spec
    for spec in (
        _spec("BTCUSDT", 0.01, 0.00001, 61_700.0),
        _spec("ETHUSDT", 0.01, 0.0001, 2_680.0),
        _spec("BNBUSDT", 0.01, 0.001, 510.0),
        _spec("SOLUSDT", 0.01, 0.001, 155.0),
        _spec("XRPUSDT", 0.0001, 0.1, 0.61),
        _spec("ADAUSDT", 0.0001, 0.1, 0.35),
        _spec("DOGEUSDT", 0.00001, 1.0, 0.105),
        _spec("LTCUSDT", 0.01, 0.001, 62.0),
        _spec("LINKUSDT", 0.001, 0.01, 10.4),
        _spec("AVAXUSDT", 0.01, 0.01, 23.0),
        _spec("DOTUSDT", 0.001, 0.01, 4.6),
        _spec("TRXUSDT", 0.0001, 0.1, 0.127),
        _spec("ATOMUSDT", 0.001, 0.01, 4.7),
        _spec("NEARUSDT", 0.001, 0.1, 4.1),
        _spec("UNIUSDT", 0.001, 0.01, 7.8),
        _spec("ETHBTC", 0.00001, 0.0001, 0.0434),
        _spec("BTCEUR", 0.01, 0.00001, 56_500.0),
    )
}


_PAIRS = {"kraken": "/", "coinbase": "-"}
"""What stands between base and quote where a venue's symbols are pairs."""

_DOLLARS = ("USD", "USDC", "USDT")

_COARSE = {("kraken", "BTC"): 10}
"""Where a venue's price step is a multiple of what `KNOWN` says."""


def spec_for(symbol: str, venue: str = "binance") -> SymbolSpec:
    """The listing of a symbol; an invented one, always the same, for a name not in `KNOWN`.

    Args:
        symbol: As the venue spells it: ``BTCUSDT``, ``BTC/USD`` at Kraken, ``BTC-USD`` at
            Coinbase.
        venue: Such as ``binance``.

    Raises:
        ConfigError: Not a name that a symbol can have.
    """
    between = _PAIRS.get(venue)
    return _spec_at_binance(symbol) if between is None else _spec_of_pair(symbol, venue, between)


def _spec_of_pair(symbol: str, venue: str, between: str) -> SymbolSpec:
    base, found, quote = symbol.partition(between)
    if not (found and is_symbol(base) and is_symbol(quote)):
        raise ConfigError("symbols", symbol, f"pairs such as BTC{between}USD for {venue}")
    at_binance = _spec_at_binance(base + ("USDT" if quote in _DOLLARS else quote))
    times = _COARSE.get((venue, base), 1)
    return SymbolSpec(
        symbol,
        base,
        quote,
        at_binance.tick_e8 * times,
        # Both venues print sizes in steps of 1e-8.
        1,
        max(1000, at_binance.start_px // times),
    )


def _spec_at_binance(symbol: str) -> SymbolSpec:
    if not is_symbol(symbol):
        raise ConfigError("symbols", symbol, "upper-case symbols such as BTCUSDT")
    if symbol in KNOWN:
        return KNOWN[symbol]
    price = 10.0 ** random.Random(symbol).uniform(-1.5, 2.5)
    tick = 10.0 ** (math.floor(math.log10(price)) - 4)
    lot = 10.0 ** math.floor(math.log10(0.5 / price))
    return _spec(symbol, tick, lot, price)
