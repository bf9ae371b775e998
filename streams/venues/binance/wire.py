"""The fast lane of `BinanceAssembler.receive`, where a C compiler has built it.

A frame of a symbol's depth, trades or quotes that is exactly what comes next becomes its event in
one step, on the objects that `SymbolFeed` and `DepthFeed` keep. Every other frame, and all of them
where there is no lane, goes through those classes' methods; events, books and counts are the same
either way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streams.events import TAGS, BookDelta, Event, Quote, Ticker, Trade
from streams.venues.binance.feed import SymbolFeed
from streams.venues.binance.schema import VENUE

if TYPE_CHECKING:
    from streams.venues.binance._wire import Lane

Take = Callable[[dict[str, "Lane"], str | bytes, int], list[Event] | None]

take: Take | None
try:
    from streams.venues.binance import _wire

    take = _wire.take
except ImportError:
    take = None

_TEMPLATES: Final[dict[str, Event]] = {
    "depth": BookDelta(
        venue=VENUE, symbol="", ts_event_ms=0, ts_recv_ms=0, px_e=0, sz_e=0, bids=[], asks=[]
    ),
    "trade": Trade(
        venue=VENUE,
        symbol="",
        ts_event_ms=0,
        ts_recv_ms=0,
        px_e=0,
        sz_e=0,
        px=1,
        sz=0,
        side="buy",
        event_id="",
    ),
    "bookTicker": Ticker(venue=VENUE, symbol="", ts_event_ms=0, ts_recv_ms=0, px_e=0, sz_e=0),
}
"""What an event of a stream is made from: a copy, with what the frame says put into it."""

_QUOTE: Final = Quote(bid_px=1, bid_sz=0, ask_px=1, ask_sz=0)


def lane_of(
    kind: str,
    feed: SymbolFeed,
    pass_on: Callable[[list[Event]], list[Event]],
    again: Callable[[str | bytes], Any],
) -> Lane | None:
    """The lane of one stream of a symbol.

    Args:
        kind: As in a stream's name, such as ``depth``.
        feed: The symbol's.
        pass_on: Counts events that follow from a frame besides its own, and returns them.
        again: A frame as the method of ``feed`` that reads this kind wants it.

    Returns:
        None where there is no compiled lane, or none for this kind.
    """
    if take is None or kind not in _TEMPLATES:
        return None
    event = msgspec.structs.replace(_TEMPLATES[kind], symbol=feed.market.symbol)
    return _wire.Lane(kind, feed, event, _QUOTE, TAGS[type(event)], pass_on, again)
