"""What the bridge has to know of each venue to put its assembler on sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from streams.rest import RestClient
from streams.sockets import SocketSource
from streams.symbols import Listing
from streams.venues.base import Assembler
from streams.venues.binance.assembler import BinanceAssembler
from streams.venues.coinbase.assembler import CoinbaseAssembler
from tapeline.clock import Clock
from tapeline.config import Settings


@dataclass(frozen=True, slots=True)
class Wiring:
    """One venue.

    Attributes:
        assembler: Makes one for these listings.
        stream_root, rest_root: Where the settings say it is.
        weight_per_minute: Request weight that it grants an address.
        used_weight_header: Where its answers tell how much of that is spent.
    """

    assembler: Callable[[Iterable[Listing]], Assembler]
    stream_root: Callable[[Settings], str]
    rest_root: Callable[[Settings], str]
    weight_per_minute: int
    used_weight_header: str = ""


WIRINGS: Final = {
    "binance": Wiring(
        assembler=BinanceAssembler,
        stream_root=lambda settings: settings.binance_stream_url,
        rest_root=lambda settings: settings.binance_rest_url,
        weight_per_minute=6_000,
        used_weight_header="X-MBX-USED-WEIGHT-1M",
    ),
    "coinbase": Wiring(
        assembler=CoinbaseAssembler,
        stream_root=lambda settings: settings.coinbase_stream_url,
        rest_root=lambda settings: settings.coinbase_rest_url,
        weight_per_minute=600,
    ),
}


def socket_sources(
    settings: Settings, listings: Iterable[Listing], clock: Clock
) -> list[SocketSource]:
    """A source for each venue that has listings. Needs a running event loop."""
    by_venue: dict[str, list[Listing]] = {}
    for listing in listings:
        by_venue.setdefault(listing.venue, []).append(listing)
    sources = []
    for venue, ours in by_venue.items():
        wiring = WIRINGS[venue]
        rest = RestClient(
            wiring.rest_root(settings),
            weight_per_minute=wiring.weight_per_minute,
            used_weight_header=wiring.used_weight_header,
        )
        sources.append(
            SocketSource(
                wiring.assembler(ours),
                ours,
                stream_root=wiring.stream_root(settings),
                rest=rest,
                clock=clock,
            )
        )
    return sources
