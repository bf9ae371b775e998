"""The records of ``md.events.v1``: what a bridge writes and an engine applies.

One event is one record, JSON, keyed by the canonical symbol. Prices and sizes are integers
with a decimal exponent beside them: ``price = px * 10 ** px_e``. That is exact, and five
times cheaper to read than decimal strings. ``docs/contracts.md`` is the prose to this module.

Times are milliseconds since the epoch, UTC: ``ts_event_ms`` on the venue's clock,
``ts_recv_ms`` on the bridge's. Windows count by the second one, because venues' clocks jump.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from tapeline.errors import MalformedRecord, RecordError, UnknownKind, UnknownVersion

CONTRACT_VERSION: Final = 1
"""The ``v`` of every record. Additions that old readers may ignore do not raise it."""

EXPONENT_MIN, EXPONENT_MAX = -18, 9

Exponent = Annotated[int, msgspec.Meta(ge=EXPONENT_MIN, le=EXPONENT_MAX)]
Price = Annotated[int, msgspec.Meta(gt=0, le=2**62)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Millis = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Ordinal = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
Level = tuple[Price, Size]
"""(price, absolute size at that price); size 0 in a delta removes the level."""

# Patterns are for the published schema only: checking them costs four times the rest of the
# decoding, and a reader compares symbol and venue with its own anyway.
SYMBOL_PATTERN: Final = "^[A-Z0-9][A-Z0-9._-]{0,31}$"
VENUE_PATTERN: Final = "^[a-z][a-z0-9_]{0,31}$"
Symbol = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": SYMBOL_PATTERN})]
Venue = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": VENUE_PATTERN})]

Side = Literal["buy", "sell"]
FeedState = Literal["connected", "alive", "gap", "resync", "stale", "disconnected"]


class Feed(msgspec.Struct, frozen=True, gc=False):
    """Which bridge wrote a record, and its place in that bridge's stream.

    Attributes:
        token: Fencing token of the feed lease of (venue, symbol); a lower one is dropped.
        seq: Contiguous from 1 under one token; a hole is a gap.
    """

    token: Ordinal
    seq: Ordinal


UNSTAMPED: Final = Feed(0, 0)
"""The ``feed`` of an event that no bridge has stamped: this very object, equal to no record's."""


class Record(msgspec.Struct, kw_only=True, tag_field="kind", omit_defaults=True):
    """Fields common to all kinds.

    An assembler leaves ``v``, ``feed`` and ``routing_version`` at defaults that no record may
    have; `stamp` sets them. `decode` refuses a record without them.

    Attributes:
        v: Contract version.
        venue: Lower-case venue name, such as ``binance``.
        symbol: Canonical symbol, such as ``BTCUSDT``; also the record's key.
        ts_event_ms: The venue's time; equals ``ts_recv_ms`` where the venue gives none.
        ts_recv_ms: When the bridge received it.
        feed: Which bridge wrote this, and its place in that bridge's stream.
        routing_version: The bridge's subscription set when it wrote this.
        seq: The venue's own sequence, where it has one.
        trace_id: Only on sampled records.
    """

    venue: Venue
    symbol: Symbol
    ts_event_ms: Millis
    ts_recv_ms: Millis
    v: int = 0
    feed: Feed = UNSTAMPED
    routing_version: int = -1
    seq: Count | None = None
    trace_id: str | None = None


class Instrument(Record, tag="instrument", kw_only=True):
    """What the symbol's prices and sizes are made of; written before the first book.

    Attributes:
        tick_size: Smallest price step, in units of ``10 ** px_e``.
        lot_size: Smallest size step, in units of ``10 ** sz_e``.
        status: The venue's word in lower case, such as ``trading`` or ``break``.
        origin: ``venue`` if the venue said so; ``inferred`` if read off the book's own digits.
        synthetic: True if the venue is a simulator. Every report repeats it.
    """

    px_e: Exponent
    sz_e: Exponent
    tick_size: Price
    lot_size: Price
    status: str
    base: str = ""
    quote: str = ""
    origin: Literal["venue", "inferred"] = "venue"
    synthetic: bool = False


class BookSnapshot(Record, tag="book_snapshot", kw_only=True):
    """A whole book, best level first, in ``parts`` records applied when all are there.

    Attributes:
        part: 1-based.
        reason: ``initial``, ``resync`` or ``refresh``.
    """

    px_e: Exponent
    sz_e: Exponent
    bids: list[Level]
    asks: list[Level]
    part: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    parts: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    reason: str = "refresh"


class BookDelta(Record, tag="book_delta", kw_only=True):
    """Levels that changed, with their new absolute size."""

    px_e: Exponent
    sz_e: Exponent
    bids: list[Level]
    asks: list[Level]


class Trade(Record, tag="trade", kw_only=True):
    """One execution, or the venue's own aggregate of several.

    Attributes:
        side: The taker's.
        event_id: (venue, symbol, trade id): the same from every bridge.
        trade_id: The venue's number, rising by one per trade; None if it has none.
        first_id: First of an aggregate whose last is ``trade_id``.
    """

    px_e: Exponent
    sz_e: Exponent
    px: Price
    sz: Price
    side: Side
    event_id: str
    trade_id: Count | None = None
    first_id: Count | None = None


class DayStats(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """The venue's own rolling 24 h figures.

    Attributes:
        last, open, high, low: Prices in units of ``10 ** px_e``.
        volume: Base volume in units of ``10 ** sz_e``.
        change_pct: As the venue prints it, percent.
        trades: Number of trades.
    """

    last: Price
    open: Price
    high: Price
    low: Price
    volume: Size
    change_pct: float
    trades: Count | None = None


class Quote(msgspec.Struct, kw_only=True, gc=False):
    """The venue's own best bid and ask, ahead of its book messages."""

    bid_px: Price
    bid_sz: Size
    ask_px: Price
    ask_sz: Size


class Ticker(Record, tag="ticker", kw_only=True):
    """24 h figures, or a quote, or both; ``seq`` is the book's id at a quote, if given."""

    px_e: Exponent
    sz_e: Exponent
    day: DayStats | None = None
    quote: Quote | None = None


class Kline(Record, tag="kline", kw_only=True):
    """One candle of the venue.

    Attributes:
        interval: The venue's word, such as ``1m``.
        closed: True when it will not change any more.
    """

    px_e: Exponent
    sz_e: Exponent
    interval: str
    open_ms: Millis
    close_ms: Millis
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Size
    trades: Count
    closed: bool


class FeedStatus(Record, tag="feed_status", kw_only=True):
    """What the bridge knows of its feed.

    Attributes:
        status: ``alive`` is written after 500 ms of silence while the venue's own
            liveness (pong, heartbeat) holds; ``gap`` mutes the book until a snapshot.
        reason: One word, such as ``sequence`` or ``broker_outage``.
        detail: A sentence for people.
    """

    status: FeedState
    reason: str = ""
    detail: str = ""


Event = Instrument | BookSnapshot | BookDelta | Trade | Ticker | Kline | FeedStatus

TAGS: Final[dict[type, str]] = {t: str(t.__struct_config__.tag) for t in get_args(Event)}
"""The ``kind`` of each type."""

KINDS: Final[tuple[str, ...]] = tuple(TAGS.values())


class Head(msgspec.Struct):
    """Just enough of a record to say why the whole did not decode."""

    v: int | None = None
    kind: str | None = None
    venue: str = ""
    symbol: str = ""
    ts_recv_ms: int = 0
    feed: Feed = UNSTAMPED


_decoder: Final = msgspec.json.Decoder(Event)
_head_decoder: Final = msgspec.json.Decoder(Head)
_encoder: Final = msgspec.json.Encoder()

encode = _encoder.encode
"""One stamped event as the bytes of its record."""


def stamp(event: Event, feed: Feed, routing_version: int) -> None:
    """Make an assembler's event a record: in place, as nobody else has it yet."""
    event.v = CONTRACT_VERSION
    event.feed = feed
    event.routing_version = routing_version


read: Final[Callable[[Any], Event]] = _decoder.decode
"""`decode` for a loop that can't afford calls: it may raise anything, for `refusal` to explain,
and what `is_stamped` says of its result is still to be asked."""


def opening(kind: type, venue: str, symbol: str) -> bytes:
    """What `encode` begins each record of that kind and symbol with, up to ``ts_event_ms``."""
    words = (encode(word).decode() for word in (TAGS[kind], venue, symbol))
    return '{{"kind":{},"venue":{},"symbol":{},"ts_event_ms":'.format(*words).encode()


def is_stamped(event: Event) -> bool:
    """Whether a bridge has written this: version, feed and routing version are there."""
    return (
        event.v == CONTRACT_VERSION and event.feed is not UNSTAMPED and event.routing_version >= 0
    )


def decode(raw: bytes) -> Event:
    """Read one record.

    Raises:
        UnknownVersion: ``v`` is not 1.
        UnknownKind: The version is known, the kind is not; ``head`` holds its common fields,
            so that the feed's sequence stays contiguous over it.
        MalformedRecord: Anything else; the message names the field.
    """
    try:
        event: Event = read(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refusal(raw, error) from None
    if not is_stamped(event):
        raise unstamped(event)
    return event


def unstamped(event: Event) -> RecordError:
    """What is wrong with an event of which `is_stamped` is false."""
    if event.v != CONTRACT_VERSION:
        return UnknownVersion(event.v or None)
    return MalformedRecord(
        f"feed {event.feed.token}/{event.feed.seq}, routing_version {event.routing_version}: "
        "expected a token and a seq from 1 and a routing_version from 0"
    )


def refusal(raw: bytes | None, error: Exception) -> Exception:
    """What `decode` raises where `read` raised ``error``; another error as it is.

    Of a record without a value, a tombstone by Kafka's rules, it says so.
    """
    if raw is None:
        return MalformedRecord("a record needs a value")
    if not isinstance(error, msgspec.DecodeError | UnicodeDecodeError):
        return error
    try:
        head = _head_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return MalformedRecord(str(error))
    if head.v is not None and head.v != CONTRACT_VERSION:
        return UnknownVersion(head.v)
    if head.kind is not None and head.kind not in KINDS:
        return UnknownKind(head.kind, head)
    return MalformedRecord(str(error))


def kind_of(event: Event) -> str:
    """The record's ``kind``."""
    return TAGS[type(event)]


def event_schema() -> dict[str, object]:
    """JSON Schema of a record, draft 2020-12, generated from the types above."""
    (schema,), definitions = msgspec.json.schema_components([Event], ref_template="#/$defs/{name}")
    for kind in get_args(Event):
        definition = definitions[kind.__name__]
        definition["required"] = [*definition["required"], "v", "feed", "routing_version"]
        for stamped in ("v", "feed", "routing_version"):
            definition["properties"][stamped].pop("default", None)
        definition["properties"]["v"] = {"const": CONTRACT_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "tapeline:md.events.v1",
        "title": "md.events.v1",
        **schema,
        "$defs": definitions,
    }
