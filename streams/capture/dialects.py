"""What playing a capture has to know of a venue, and which venues it knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from streams.symbols import Listing
from streams.venues.base import Assembler
from streams.venues.binance.tape import BinanceDialect
from streams.venues.coinbase.tape import CoinbaseDialect
from streams.venues.kraken.tape import KrakenDialect
from tapeline.errors import ConfigError

Purpose = Literal["instrument", "snapshot"]


class Dialect(Protocol):
    """How to read one venue's captures."""

    venue: str

    def assembler(self, listings: Iterable[Listing], *, infer_instruments: bool) -> Assembler:
        """A new assembler; ``infer_instruments``: the tape holds no instrument reply."""
        ...

    def symbols_in_address(self, address: str) -> list[str]:
        """Venue symbols that a websocket's or a REST address names."""
        ...

    def look(self, frame: str) -> tuple[str, str]:
        """(wire kind, venue symbol) of a frame, each empty if it has none; cheap, never fails."""
        ...

    def request_of(self, url: str) -> tuple[Purpose, str] | None:
        """(purpose, venue symbol or empty) of a REST address; None if it is none of ours."""
        ...

    def inline_reply(self, frame: str) -> Purpose | None:
        """What a REST body answers that stands among the frames; None if it is a frame."""
        ...


_DIALECTS: dict[str, Dialect] = {
    "binance": BinanceDialect(),
    "coinbase": CoinbaseDialect(),
    "kraken": KrakenDialect(),
}


def dialect_of(venue: str) -> Dialect:
    """The dialect of a venue.

    Raises:
        ConfigError: No adapter has that name.
    """
    try:
        return _DIALECTS[venue]
    except KeyError:
        raise ConfigError("venue", venue, f"one of {', '.join(_DIALECTS)}") from None
