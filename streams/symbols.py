"""Which symbols to follow, and what each venue calls them.

``SYMBOLS=binance:BTCUSDT,kraken:BTC/USD>BTCUSD``: venue, the venue's own name, and, where it
differs, the canonical symbol that keys the topic and the reports. Several venues may list one
canonical symbol: the first of them is its primary venue, whose market the report is of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from streams.events import SYMBOL_PATTERN
from tapeline.errors import ConfigError

VENUES = ("binance", "coinbase", "kraken")
"""Venues that have an adapter."""

QUOTE_MIXED: Final = "NT_QUOTE_MIXED"

QUOTES: Final = (
    "USDT", "USDC", "USD", "EUR", "GBP", "JPY", "TRY", "BRL", "AUD", "CAD", "CHF", "BTC", "ETH", "BNB",
)  # fmt: skip
"""Currencies that a name without a separator may end with."""

_DOUBTFUL: Final = ("TUSD", "BUSD", "FDUSD")
"""Coins that end like another: BNBUSD is BNB in USD, ARBUSD ARB, BTCTUSD BTC in TUSD."""

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
    """Whether two different listings can't both be followed: a venue's symbol, or market, twice."""
    return one.venue == other.venue and (one.symbol == other.symbol or one[:2] == other[:2])


def check_venue(venue: str, *, name: str) -> None:
    """Raises ConfigError for a venue without an adapter."""
    if venue not in VENUES:
        raise ConfigError(name, venue, f"a venue out of {', '.join(VENUES)}")


def is_symbol(text: str) -> bool:
    """Whether ``text`` can be a canonical symbol."""
    return re.fullmatch(SYMBOL_PATTERN, text) is not None


def parse_symbols(
    text: str, *, name: str = "SYMBOLS", quote_mixed: str = ""
) -> tuple[Listing, ...]:
    """Read a ``SYMBOLS`` value.

    Args:
        text: The value.
        name: What it is called in an error.
        quote_mixed: A ``NT_QUOTE_MIXED`` value: symbols whose venues may quote in different
            currencies.

    Raises:
        ConfigError: An entry that does not parse, an unknown venue, something named twice, or
            a symbol of several quote currencies.
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
        listing = Listing(venue, venue_symbol, symbol)
        for known in listings:
            if known.venue == venue and known.symbol == symbol:
                raise ConfigError(
                    name, text, f"each symbol once of a venue; {venue} has {symbol} twice"
                )
            if known[:2] == listing[:2]:
                raise ConfigError(
                    name, text, f"one symbol for each market; {venue}:{venue_symbol} has two"
                )
        listings.append(listing)
    if not listings:
        raise ConfigError(name, text, _EXPECTED)
    check_quotes(listings, name=name, quote_mixed=quote_mixed)
    return tuple(listings)


def venues_by_symbol(listings: Iterable[Listing]) -> dict[str, tuple[str, ...]]:
    """The venues of each canonical symbol, its primary one first."""
    found: dict[str, tuple[str, ...]] = {}
    for listing in listings:
        found[listing.symbol] = (*found.get(listing.symbol, ()), listing.venue)
    return found


def quote_of(venue_symbol: str) -> str:
    """The currency that a market's prices are in; empty where its name does not tell."""
    base, separator, quote = venue_symbol.upper().replace("-", "/").rpartition("/")
    if separator:
        return quote if base else ""
    if venue_symbol.endswith(_DOUBTFUL):
        return ""
    return next((q for q in QUOTES if venue_symbol.endswith(q) and venue_symbol != q), "")


def check_quotes(listings: Iterable[Listing], *, name: str, quote_mixed: str) -> None:
    """Refuse a symbol whose venues do not all quote in one currency, unless it is asked for.

    Args:
        listings: Of any symbols.
        name: What they are called in an error.
        quote_mixed: Symbols that are let pass, comma-separated.

    Raises:
        ConfigError: It names the listings and their currencies.
    """
    asked = {each.strip() for each in quote_mixed.split(",")} - {""}
    for symbol in asked:
        if not is_symbol(symbol):
            raise ConfigError(QUOTE_MIXED, symbol, "canonical symbols such as BTCUSD")
    together: dict[str, list[Listing]] = {}
    for listing in listings:
        together.setdefault(listing.symbol, []).append(listing)
    for symbol, ours in together.items():
        quotes = [quote_of(listing.venue_symbol) for listing in ours]
        if len(ours) > 1 and symbol not in asked and ("" in quotes or len({*quotes}) > 1):
            pairs = zip(ours, quotes, strict=True)
            raise ConfigError(
                name,
                ", ".join(f"{each} in {quote or 'an unknown currency'}" for each, quote in pairs),
                f"one quote currency in {symbol}, or {symbol} among {QUOTE_MIXED}",
            )
