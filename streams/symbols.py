"""Which symbols to follow, and what each venue calls them.

``SYMBOLS=binance:BTCUSDT,kraken:BTC/USD>BTCUSD``: venue, the venue's own name, and, where it
differs, the canonical symbol that keys the topic and the reports.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from streams.events import SYMBOL_PATTERN
from tapeline.errors import ConfigError

VENUES = ("binance", "coinbase", "kraken")
"""Venues that have an adapter."""

_EXPECTED = (
    "a comma-separated list of VENUE:SYMBOL or VENUE:VENUE_SYMBOL>SYMBOL, such as "
    "binance:BTCUSDT,kraken:BTC/USD>BTCUSD"
)


class Listing(NamedTuple):
    """One symbol at one venue.

    Attributes:
        venue: Lower case, such as ``binance``.
        venue_symbol: As the venue spells it, such as ``BTC/USD``.
        symbol: Canonical, such as ``BTCUSD``.
    """

    venue: str
    venue_symbol: str
    symbol: str

    def __str__(self) -> str:
        renamed = "" if self.symbol == self.venue_symbol else f">{self.symbol}"
        return f"{self.venue}:{self.venue_symbol}{renamed}"


def clash(one: Listing, other: Listing) -> bool:
    """Whether two different listings can't both be followed."""
    return one.symbol == other.symbol or one[:2] == other[:2]


def check_venue(venue: str, *, name: str) -> None:
    """Raises ConfigError for a venue without an adapter."""
    if venue not in VENUES:
        raise ConfigError(name, venue, f"a venue out of {', '.join(VENUES)}")


def is_symbol(text: str) -> bool:
    """Whether ``text`` can be a canonical symbol."""
    return re.fullmatch(SYMBOL_PATTERN, text) is not None


def parse_symbols(text: str, *, name: str = "SYMBOLS") -> tuple[Listing, ...]:
    """Read a ``SYMBOLS`` value.

    Raises:
        ConfigError: An entry that does not parse, an unknown venue, or a symbol named twice.
    """
    listings: list[Listing] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        venue, colon, rest = entry.partition(":")
        venue_symbol, _, symbol = rest.partition(">")
        symbol = symbol or venue_symbol
        if not colon or not venue_symbol or not is_symbol(symbol):
            raise ConfigError(name, entry, _EXPECTED)
        if venue not in VENUES:
            raise ConfigError(name, entry, f"a venue out of {', '.join(VENUES)}; {_EXPECTED}")
        if any(symbol == known.symbol for known in listings):
            raise ConfigError(name, text, f"each symbol once; {symbol} is there twice")
        listings.append(Listing(venue, venue_symbol, symbol))
    if not listings:
        raise ConfigError(name, text, _EXPECTED)
    return tuple(listings)
