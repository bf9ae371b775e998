"""What the bridge has to know of each venue to put its assembler on sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from streams.book_care import CareTimes
from streams.rest import RestClient
from streams.sockets import SocketSource
from streams.sources import FrameTap
from streams.symbols import Listing
from streams.venues.base import Assembler
from streams.venues.binance.assembler import BinanceAssembler
from streams.venues.coinbase.assembler import CoinbaseAssembler
from streams.venues.kraken import urls as kraken
from streams.venues.kraken.assembler import KrakenAssembler
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Wiring:
    """One venue.

    Attributes:
        assembler: Makes one for these listings, as the settings say.
        stream_root, rest_root: Where the settings say it is.
        weight_per_minute: Request weight that it grants an address.
        used_weight_header: Where its answers tell how much of that is spent.
    """

    assembler: Callable[[Iterable[Listing], Settings], Assembler]
    stream_root: Callable[[Settings], str]
    rest_root: Callable[[Settings], str]
    weight_per_minute: int
    used_weight_header: str = ""


WIRINGS: Final = {
    "binance": Wiring(
        assembler=lambda ours, settings: BinanceAssembler(ours, late_ms=settings.late_ms),
        stream_root=lambda settings: settings.binance_stream_url,
        rest_root=lambda settings: settings.binance_rest_url,
        weight_per_minute=6_000,
        used_weight_header="X-MBX-USED-WEIGHT-1M",
    ),
    "coinbase": Wiring(
        assembler=lambda ours, _: CoinbaseAssembler(ours),
        stream_root=lambda settings: settings.coinbase_stream_url,
        rest_root=lambda settings: settings.coinbase_rest_url,
        weight_per_minute=600,
    ),
    "kraken": Wiring(
        assembler=lambda ours, _: KrakenAssembler(ours),
        stream_root=lambda settings: settings.kraken_stream_url,
        rest_root=lambda _: kraken.REST_ROOT,  # nothing is asked there
        weight_per_minute=60,
    ),
}


def care_times(settings: Settings) -> CareTimes:
    """How patient a bridge is with books.

    Raises:
        ConfigError: The earliest refresh is later than the latest.
    """
    least, most = settings.book_refresh_min_ms, settings.book_refresh_max_ms
    if least > most:
        raise ConfigError(
            "NT_BOOK_REFRESH_MIN_MS", str(least), f"at most NT_BOOK_REFRESH_MAX_MS, {most}"
        )
    return CareTimes(settings.book_stale_ms, least, most)


def socket_sources(
    settings: Settings,
    listings: Iterable[Listing],
    clock: Clock,
    *,
    taps: Mapping[str, FrameTap] | None = None,
) -> list[SocketSource]:
    """A source for each venue, also without listings: some may come. Needs a running event loop.

    Args:
        settings: Where the venues are.
        listings: What to follow.
        clock: For all of them.
        taps: By venue, who is told all that passes.
    """
    by_venue: dict[str, list[Listing]] = {venue: [] for venue in WIRINGS}
    for listing in listings:
        by_venue[listing.venue].append(listing)
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
                wiring.assembler(ours, settings),
                ours,
                stream_root=wiring.stream_root(settings),
                rest=rest,
                clock=clock,
                care=care_times(settings),
                flush_s=settings.flush_ms / 1000,
                tap=(taps or {}).get(venue),
            )
        )
    return sources
