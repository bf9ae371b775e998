"""One symbol at all its venues: the best bid and ask of any, and where they lock or cross.

Prices are compared as integers of one exponent, so nothing is lost on the way. Venues of different
quote currencies are never compared: a dollar coin is not a dollar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from streams.events import FeedState, Level
from tables.book import OrderBook
from tables.health import DATA_AGE_DEGRADED_MS
from tables.report import Best, Crossing, VenueBest, VenuePart, VenuesPart, VenueState
from tables.scale import rescale, to_float

QUOTE_UNKNOWN: Final = "its quote currency is not known"


class Standing(NamedTuple):
    """One venue, as far as it matters to the others.

    Attributes:
        state, reason: Of its book and feed; only ``ok`` may be consolidated.
        quote: Currency of its prices; empty while unknown.
        px_e, sz_e: Exponents of ``bid`` and ``ask``.
        bid, ask: Best (price, size); None where there is none to show.
        age_ms: Since its newest record; None before any.
        gaps: In the last 30 minutes.
    """

    venue: str
    state: VenueState
    reason: str
    quote: str = ""
    px_e: int = 0
    sz_e: int = 0
    bid: Level | None = None
    ask: Level | None = None
    age_ms: int | None = None
    gaps: int = 0
    synthetic: bool = False


def standing_of(
    venue: str,
    book: OrderBook,
    feed: FeedState | None,
    *,
    quote: str,
    age_ms: int,
    gaps: int,
    synthetic: bool,
) -> Standing:
    """A venue by its book and its feed: what is wrong with the feed is said first."""
    state: VenueState = book.state
    reason = book.reason
    if feed == "disconnected":
        state, reason = "disconnected", "the bridge has no connection to the venue"
    elif feed == "stale":
        state, reason = "stale", "the venue gives no sign of life"
    elif age_ms > DATA_AGE_DEGRADED_MS:
        state, reason = "stale", f"no record for more than {DATA_AGE_DEGRADED_MS} ms"
    shown = book.shown
    return Standing(
        venue,
        state,
        reason,
        quote,
        book.px_e,
        book.sz_e,
        book.best_bid() if shown else None,
        book.best_ask() if shown else None,
        age_ms,
        gaps,
        synthetic,
    )


def consolidate(standings: Sequence[Standing]) -> VenuesPart:
    """The ``venues`` section; the first is the primary venue.

    Of equal prices the one of the venue that comes first counts as the best.
    """
    quotes = {each.quote for each in standings if each.quote}
    mixed = len(quotes) > 1
    # Alone, a venue needs no common currency.
    known = [each for each in standings if each.quote or len(standings) == 1]
    taking_part = [] if mixed else [each for each in known if each.state == "ok"]
    px_e = min((each.px_e for each in taking_part), default=0)
    bids = [(rescale(s.bid[0], s.px_e, px_e), s) for s in taking_part if s.bid]
    asks = [(rescale(s.ask[0], s.px_e, px_e), s) for s in taking_part if s.ask]
    best_bid = max(bids, key=_price, default=None)
    best_ask = min(asks, key=_price, default=None)
    met = [
        Crossing(
            bid_venue=bidding.venue,
            bid=to_float(bid, px_e),
            ask_venue=asking.venue,
            ask=to_float(ask, px_e),
            bps=20_000 * (bid - ask) / (bid + ask),
        )
        for bid, bidding in bids
        for ask, asking in asks
        if bid >= ask and bidding is not asking
    ]
    return VenuesPart(
        primary=standings[0].venue,
        quote=next(iter(quotes)) if len(quotes) == 1 else None,
        quote_mixed=mixed,
        best_bid=_best(best_bid[1].venue, best_bid[1].bid, best_bid[1]) if best_bid else None,
        best_ask=_best(best_ask[1].venue, best_ask[1].ask, best_ask[1]) if best_ask else None,
        locked=[each for each in met if not each.bps],
        crossed=sorted((each for each in met if each.bps), key=lambda each: -each.bps),
        by_venue={
            each.venue: VenuePart(
                state=each.state,
                reason=QUOTE_UNKNOWN
                if each.state == "ok" and not mixed and each not in known
                else each.reason,
                consolidated=each in taking_part,
                quote=each.quote or None,
                best_bid=_level(each.bid, each),
                best_ask=_level(each.ask, each),
                age_ms=each.age_ms,
                gaps=each.gaps,
                synthetic=each.synthetic,
            )
            for each in standings
        },
    )


def _price(one: tuple[int, Standing]) -> int:
    return one[0]


def _level(level: Level | None, units: Standing) -> Best | None:
    if level is None:
        return None
    return Best(to_float(level[0], units.px_e), to_float(level[1], units.sz_e))


def _best(venue: str, level: Level | None, units: Standing) -> VenueBest | None:
    if level is None:
        return None
    return VenueBest(to_float(level[0], units.px_e), to_float(level[1], units.sz_e), venue)
