"""Top of book and depth: spread, mid, micro price, sums and imbalance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streams.events import Level
from tables.scale import to_float


class Touch(NamedTuple):
    """Figures of the best bid and ask; prices in quote units, as the report prints them."""

    spread_bps: float
    mid_price: float
    micro_price: float


def touch(bid: Level, ask: Level, px_e: int) -> Touch:
    """Spread, mid and micro price of a book that is not crossed (locked is fine).

    Args:
        bid: Best (price, size), integer units.
        ask: Best (price, size), integer units.
        px_e: Exponent of the prices.

    Returns:
        ``spread_bps``: (ask - bid) / mid, in 1/10,000. ``mid_price``: (bid + ask) / 2.
        ``micro_price``: the mid weighted by the opposite sizes,
        (bid * ask_size + ask * bid_size) / (bid_size + ask_size), as in J. Gatheral and
        R. Oomen, *Zero-intelligence realized variance estimation* (2010).
    """
    doubled = bid[0] + ask[0]
    return Touch(
        spread_bps=20_000 * (ask[0] - bid[0]) / doubled,
        mid_price=to_float(5 * doubled, px_e - 1),
        micro_price=_micro_price(bid, ask, px_e),
    )


def _micro_price(bid: Level, ask: Level, px_e: int) -> float:
    """Kept as a ratio of integers to the last step, so that it is rounded once."""
    weighted = bid[0] * ask[1] + ask[0] * bid[1]
    sizes = bid[1] + ask[1]
    power = int(10 ** abs(px_e))
    return weighted / (sizes * power) if px_e < 0 else weighted * power / sizes


class DepthSums(NamedTuple):
    """Resting size over the reported levels, and how one-sided it is."""

    bid: int
    ask: int
    imbalance: float


def depth_sums(bids: Sequence[Level], asks: Sequence[Level]) -> DepthSums:
    """Sums of sizes, and (bid - ask) / (bid + ask): -1 all asks, 1 all bids, 0 when empty."""
    bid = sum(sz for _, sz in bids)
    ask = sum(sz for _, sz in asks)
    return DepthSums(bid, ask, (bid - ask) / (bid + ask) if bid + ask else 0.0)
