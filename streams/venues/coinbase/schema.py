"""What Coinbase Advanced Trade sends, as it sends it: one struct per channel or REST body.

Names are the venue's. Unknown fields are skipped, as the venue adds some from time to time.
Decimal numbers stay text until `streams.venues.decimals` makes exact integers of them.
"""

from __future__ import annotations

from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec

VENUE: Final = "coinbase"

Id = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]

EventT = TypeVar("EventT")


class Frame(msgspec.Struct, Generic[EventT], gc=False):
    """A frame of one channel.

    Attributes:
        sequence_num: From 0, one more with each frame of the connection, whatever its channel.
        timestamp: When the venue's gateway sent it.
        events: Mostly one.
    """

    sequence_num: Id
    events: list[EventT]
    timestamp: str = ""


class Level(msgspec.Struct, gc=False):
    """One price of a book. ``new_quantity`` is absolute, ``0`` removes the price."""

    side: Literal["bid", "offer"]
    price_level: str
    new_quantity: str
    event_time: str = ""


class Level2Event(msgspec.Struct, gc=False):
    """Of ``l2_data``: the whole book, or what has changed of it."""

    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[Level]


class TradeEntry(msgspec.Struct, gc=False):
    """One execution; ``side`` is the maker's."""

    product_id: str
    trade_id: str
    price: str
    size: str
    side: str
    time: str = ""


class TradesEvent(msgspec.Struct, gc=False):
    """Of ``market_trades``: the last 100 of a product, then what happens; newest first."""

    trades: list[TradeEntry]


class TickerEntry(msgspec.Struct, gc=False):
    """The last trade's price, the best levels and the figures of 24 h.

    ``ticker_batch`` has no best levels; a product that was not traded has zeros.
    """

    product_id: str
    price: str = ""
    volume_24_h: str = ""
    low_24_h: str = ""
    high_24_h: str = ""
    price_percent_chg_24_h: str = ""
    best_bid: str = ""
    best_ask: str = ""
    best_bid_quantity: str = ""
    best_ask_quantity: str = ""


class TickerEvent(msgspec.Struct, gc=False):
    """Of ``ticker`` and ``ticker_batch``."""

    tickers: list[TickerEntry]


class CandleEntry(msgspec.Struct, gc=False):
    """Five minutes; ``start`` is in seconds since the epoch. Nothing says that it is closed."""

    product_id: str
    start: str
    open: str
    high: str
    low: str
    close: str
    volume: str


class CandlesEvent(msgspec.Struct, gc=False):
    """Of ``candles``: the last 100 that had a trade, then the open one as it changes."""

    candles: list[CandleEntry]


class SubscriptionsEvent(msgspec.Struct, gc=False):
    """Of ``subscriptions``: all products of the connection, by channel."""

    subscriptions: dict[str, list[str]]


class Anything(msgspec.Struct, gc=False):
    """An event that nobody reads further."""


class AnyFrame(msgspec.Struct, gc=False):
    """Enough of any frame to say what it is.

    Attributes:
        channel, sequence_num: Of a channel's frame.
        type, message: Of an error, which has no number.
    """

    channel: str = ""
    sequence_num: Id | None = None
    type: str = ""
    message: str = ""


class Product(msgspec.Struct, gc=False):
    """One product of ``GET /market/products``, or the body of ``GET /market/products/{id}``.

    Attributes:
        alias: Under which other name the websocket speaks of it; empty if under its own.
        synthetic: Sent by Tapeline's simulator only.
    """

    product_id: str
    base_increment: str
    quote_increment: str
    status: str = ""
    base_currency_id: str = ""
    quote_currency_id: str = ""
    alias: str = ""
    is_disabled: bool = False
    trading_disabled: bool = False
    cancel_only: bool = False
    limit_only: bool = False
    post_only: bool = False
    auction_mode: bool = False
    synthetic: bool = False


class Products(msgspec.Struct, gc=False):
    """``GET /market/products``."""

    products: list[Product]
