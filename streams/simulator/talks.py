"""Who speaks with a new client: the venue's dialect, and the limits it keeps."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

from streams.simulator.dialect import Talk
from streams.simulator.dialect_coinbase import CoinbaseFeed
from streams.simulator.dialect_kraken import KrakenFeed
from streams.simulator.exchange import Exchange
from streams.simulator.talk_binance import BinanceTalk
from streams.simulator.talk_coinbase import CoinbaseTalk
from streams.simulator.talk_kraken import KrakenTalk


@dataclass(frozen=True, slots=True)
class Manners:
    """How a venue treats its sockets.

    Attributes:
        paths: Where they are opened.
        inbound_per_s: Frames a client may send, pings included; who sends more is closed.
        pings: Whether it sends pings, and cuts off who does not answer.
    """

    paths: tuple[str, ...]
    inbound_per_s: int
    pings: bool


MANNERS: Final[Mapping[str, Manners]] = MappingProxyType(
    {
        "binance": Manners(("/stream", "/ws", "/ws/{streams:.*}"), 5, pings=True),
        "coinbase": Manners(("/",), 8, pings=False),
        # Its limit is not published, and answered with an error; this one is ours.
        "kraken": Manners(("/v2",), 50, pings=False),
    }
)


def talk_with(
    exchange: Exchange, connection: int, now_ms: int, path: str, streams: str, up_ms: int
) -> Talk:
    """The venue's side of a new connection.

    Args:
        exchange: The venue.
        connection: The connection's number, from 1.
        now_ms: When it was opened.
        path: Of its address.
        streams: What the address names, with slashes between; Binance's only.
        up_ms: When the venue came up, or was restarted.
    """
    if exchange.venue == "binance":
        return BinanceTalk(streams.split("/"), combined=path == "/stream")
    if exchange.venue == "coinbase":
        return CoinbaseTalk(cast("Mapping[str, CoinbaseFeed]", exchange.feeds), now_ms, up_ms)
    number = random.Random(f"{exchange.seed}:{up_ms}:{connection}").randrange(10**18, 10**19)
    return KrakenTalk(cast("Mapping[str, KrakenFeed]", exchange.feeds), number)
