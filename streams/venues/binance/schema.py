"""What Binance spot sends, as it sends it: one struct per frame or REST body.

Names are ours, single letters the venue's. Unknown fields are skipped, as the venue adds some
from time to time. Decimal numbers stay text until `decimals` makes exact integers of them.
"""

from __future__ import annotations

from typing import Annotated, Final, Generic, TypeVar

import msgspec

VENUE: Final = "binance"

Id = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
WireLevel = tuple[str, str]
"""(price, absolute size) as printed."""

PayloadT = TypeVar("PayloadT")


class Combined(msgspec.Struct, Generic[PayloadT], gc=False):
    """A frame of ``/stream``: ``{"stream": name, "data": payload}``; the name is read before."""

    data: PayloadT


class DepthUpdate(
    msgspec.Struct,
    gc=False,
    rename={"event_ms": "E", "symbol": "s", "first": "U", "last": "u", "bids": "b", "asks": "a"},
):
    """``<s>@depth[@100ms]``: levels changed by the updates ``first`` to ``last``."""

    event_ms: int
    symbol: str
    first: Id
    last: Id
    bids: list[WireLevel]
    asks: list[WireLevel]


class TradeUpdate(
    msgspec.Struct,
    gc=False,
    rename={"symbol": "s", "id": "t", "px": "p", "sz": "q", "trade_ms": "T", "buyer_made": "m"},
):
    """``<s>@trade``: one execution; ``buyer_made`` means that the taker sold."""

    symbol: str
    id: Id
    px: str
    sz: str
    trade_ms: int
    buyer_made: bool


class AggTradeUpdate(
    msgspec.Struct,
    gc=False,
    rename={
        "symbol": "s",
        "px": "p",
        "sz": "q",
        "first": "f",
        "last": "l",
        "trade_ms": "T",
        "buyer_made": "m",
    },
):
    """``<s>@aggTrade``: the fills of one taker order at one price, trades ``first`` to ``last``."""

    symbol: str
    px: str
    sz: str
    first: Id
    last: Id
    trade_ms: int
    buyer_made: bool


class BookTickerUpdate(
    msgspec.Struct,
    gc=False,
    rename={
        "last": "u",
        "symbol": "s",
        "bid_px": "b",
        "bid_sz": "B",
        "ask_px": "a",
        "ask_sz": "A",
    },
):
    """``<s>@bookTicker``: best bid and ask after update ``last``. No event type, no time."""

    last: Id
    symbol: str
    bid_px: str
    bid_sz: str
    ask_px: str
    ask_sz: str


class DayTickerUpdate(
    msgspec.Struct,
    gc=False,
    rename={
        "event_ms": "E",
        "symbol": "s",
        "last": "c",
        "open": "o",
        "high": "h",
        "low": "l",
        "volume": "v",
        "change_pct": "P",
        "trades": "n",
    },
):
    """``<s>@ticker``: the rolling 24 h figures, once a second while they change."""

    event_ms: int
    symbol: str
    last: str
    open: str
    high: str
    low: str
    volume: str
    change_pct: str
    trades: Id


class Candle(
    msgspec.Struct,
    gc=False,
    rename={
        "open_ms": "t",
        "close_ms": "T",
        "interval": "i",
        "open": "o",
        "close": "c",
        "high": "h",
        "low": "l",
        "volume": "v",
        "trades": "n",
        "closed": "x",
    },
):
    """The ``k`` of a kline frame."""

    open_ms: Id
    close_ms: Id
    interval: str
    open: str
    close: str
    high: str
    low: str
    volume: str
    trades: Id
    closed: bool


class KlineUpdate(msgspec.Struct, gc=False, rename={"event_ms": "E", "symbol": "s", "candle": "k"}):
    """``<s>@kline_<interval>``: the open candle about each 2 s, then once closed."""

    event_ms: int
    symbol: str
    candle: Candle


class VenueError(msgspec.Struct, gc=False):
    """``{"code":-1121,"msg":"Invalid symbol."}``, from REST and from the websocket."""

    code: int = 0
    msg: str = ""


class AnyFrame(
    msgspec.Struct,
    gc=False,
    rename={"event": "e", "symbol": "s", "last": "u", "snapshot_id": "lastUpdateId"},
):
    """Enough of any frame to say what it is: combined, raw, an answer or an error.

    Attributes:
        stream, data: Of a combined frame.
        event, symbol, last: Of a raw one; a raw bookTicker has no ``event``.
        result, id: Of the answer to a request.
        error, code, msg: Of a refusal, in its newer and its older form.
        snapshot_id: Of a partial depth, which names no symbol outside a combined frame.
    """

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    event: str = ""
    symbol: str = ""
    last: int | None = None
    result: msgspec.Raw = msgspec.Raw()
    id: int | str | None = None
    error: VenueError | None = None
    code: int | None = None
    msg: str = ""
    snapshot_id: int | None = None


class DepthSnapshot(msgspec.Struct, gc=False, rename={"last": "lastUpdateId"}):
    """``GET /api/v3/depth``: the best levels of each side after update ``last``."""

    last: Id
    bids: list[WireLevel]
    asks: list[WireLevel]


class Filter(msgspec.Struct, gc=False, rename="camel"):
    """One trading rule of a symbol; only price and lot steps are read."""

    filter_type: str
    tick_size: str = ""
    step_size: str = ""


class SymbolInfo(msgspec.Struct, gc=False, rename="camel"):
    """One symbol of ``exchangeInfo``; ``synthetic`` is sent by Tapeline's simulator only."""

    symbol: str
    status: str
    base_asset: str = ""
    quote_asset: str = ""
    filters: list[Filter] = []
    synthetic: bool = False

    def step(self, filter_type: str) -> str:
        """The tick or lot size as printed; empty if there is no such rule."""
        for rule in self.filters:
            if rule.filter_type == filter_type:
                return rule.tick_size or rule.step_size
        return ""


class ExchangeInfo(msgspec.Struct, gc=False):
    """``GET /api/v3/exchangeInfo``."""

    symbols: list[SymbolInfo]
