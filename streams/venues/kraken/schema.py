"""What Kraken's websocket v2 sends, as it sends it: one struct per channel.

Names are mostly the venue's own. Unknown fields are skipped. Numbers are JSON numbers whose very
digits count: the book's checksum is made of them, zeros at the end included. So a decoder leaves
each as its text (``float_hook``); a number without a point arrives as an integer, whose text is
itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec

from tapeline.errors import FrameError

VENUE: Final = "kraken"

DECIMALS_MAX: Final = 12
"""Prices of ten decimals are listed; no record's reader takes more than twelve."""

Id = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Number = Any
"""A number's text, or an integer."""

UNCHECKED: Final = -1
"""The checksum of a snapshot that has none, as those of v1; no frame can say it."""

EntryT = TypeVar("EntryT")


class Frame(msgspec.Struct, Generic[EntryT], gc=False):
    """``{"channel": .., "type": .., "data": [..]}``; the channel is read before."""

    type: Literal["snapshot", "update"]
    data: list[EntryT]


class WireLevel(msgspec.Struct, gc=False):
    """One price and its absolute size; size 0 removes it."""

    price: Number
    qty: Number


class BookEntry(msgspec.Struct, gc=False):
    """Of ``book``: one symbol's levels, and the checksum of its book after them.

    ``timestamp`` is the matching engine's; early snapshots of v2 had none.
    """

    symbol: str
    bids: list[WireLevel]
    asks: list[WireLevel]
    checksum: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    timestamp: str = ""


class TradeEntry(msgspec.Struct, gc=False):
    """Of ``trade``: one execution; ``side`` is the taker's."""

    symbol: str
    side: Literal["buy", "sell"]
    price: Number
    qty: Number
    trade_id: Id
    timestamp: str = ""


class TickerEntry(msgspec.Struct, gc=False):
    """Of ``ticker``: best bid and ask, and the rolling 24 h figures."""

    symbol: str
    bid: Number
    bid_qty: Number
    ask: Number
    ask_qty: Number
    last: Number
    volume: Number
    low: Number
    high: Number
    change: Number
    change_pct: Number
    timestamp: str = ""


class CandleEntry(msgspec.Struct, gc=False):
    """Of ``ohlc``: a candle as it stands; nothing says when it is closed."""

    symbol: str
    interval_begin: str
    interval: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    trades: Id


class Pair(msgspec.Struct, gc=False):
    """One symbol of ``instrument``; ``synthetic`` is sent by Tapeline's simulator only."""

    symbol: str
    base: str = ""
    quote: str = ""
    status: str = ""
    price_increment: Number = 0
    tick_size: Number = 0
    qty_increment: Number = 0
    synthetic: bool = False


class Instruments(msgspec.Struct, gc=False):
    """The ``data`` of an ``instrument`` frame: all pairs in a snapshot, those changed later."""

    pairs: list[Pair] = []


class InstrumentFrame(msgspec.Struct, gc=False):
    """Of ``instrument``: its data is no list."""

    type: Literal["snapshot", "update"]
    data: Instruments


class SystemStatus(msgspec.Struct, gc=False):
    """Of ``status``: ``online``, ``maintenance``, ``cancel_only`` or ``post_only``."""

    system: str = ""


class Subscribed(msgspec.Struct, gc=False):
    """The ``result`` of an answer to a subscription."""

    channel: str = ""
    symbol: str = ""
    depth: int = 0


class AnyFrame(msgspec.Struct, gc=False):
    """Enough of any frame to say what it is: a channel's, or an answer.

    Attributes:
        channel: Of a channel's frame.
        method, success, error, symbol, result, req_id: Of an answer.
    """

    channel: str = ""
    method: str = ""
    success: bool | None = None
    error: str = ""
    symbol: str = ""
    result: msgspec.Raw = msgspec.Raw()
    req_id: int | None = None


def text_of(number: Number) -> str:
    """A number's digits as they stood on the wire.

    Raises:
        FrameError: It is no number.
    """
    if type(number) is str:
        return number
    if type(number) is int:
        return str(number)
    raise FrameError(f"{number!r:.60} is not a number")


def _decoder(wire_type: Any) -> Callable[[str | msgspec.Raw], Any]:
    # Not made into numbers: the checksum wants their very digits.
    return msgspec.json.Decoder(wire_type, float_hook=str).decode


decode_any: Final = _decoder(AnyFrame)
decode_book: Final = _decoder(Frame[BookEntry])
decode_trade: Final = _decoder(Frame[TradeEntry])
decode_ticker: Final = _decoder(Frame[TickerEntry])
decode_candle: Final = _decoder(Frame[CandleEntry])
decode_instrument: Final = _decoder(InstrumentFrame)
decode_status: Final = _decoder(Frame[SystemStatus])
decode_subscribed: Final = _decoder(Subscribed)
