"""The frames of ``/ws``, version 1: JSON objects in text frames, as `docs/websocket.md` has them.

What a client sends has an ``op``, what the server sends a ``type``. Market data is not encoded
through these types but spliced (`serving.hub.wire`); tests decode every frame with them, and the
AsyncAPI document is made of them.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from serving.reader import SYMBOL_PATTERN

PROTOCOL: Final = 1
SERVER: Final = "tapeline 0.1.0"

STATE_CHANNELS: Final = ("reports.fast", "reports.slow", "ticks", "book", "status")
"""Each frame is the whole state: whoever has the newest has missed nothing."""

EVENT_CHANNELS: Final = ("trades", "klines", "merged", "anomalies", "executions")
"""Each frame is a piece of a sequence, with a cursor to go on from."""

CHANNELS: Final = STATE_CHANNELS + EVENT_CHANNELS

LOSSLESS: Final = "executions"
"""The one channel of which nothing is coalesced or left out, whatever happens."""

SCOPES: Final[dict[str, frozenset[str]]] = {
    "reports.fast": frozenset({"reports:read"}),
    "reports.slow": frozenset({"reports:read"}),
    "anomalies": frozenset({"reports:read"}),
    "ticks": frozenset({"ticks:read"}),
    "book": frozenset({"ticks:read"}),
    "trades": frozenset({"ticks:read"}),
    "klines": frozenset({"ticks:read"}),
    "merged": frozenset({"ticks:read"}),
    "status": frozenset({"status:read", "reports:read"}),
    "executions": frozenset({"admin"}),
}
"""Any one of these lets a client subscribe."""

ALL_SYMBOLS: Final = "*"
DEPTH_DEFAULT: Final = 20
DEPTH_MAX: Final = 50
SUBSCRIPTIONS_MAX: Final = 100
SYMBOLS_MAX: Final = 1000
STREAMS_MAX: Final = 10_000
"""(channel, symbol) pairs of one client."""

MESSAGE_BYTES_MAX: Final = 65_536

_SYMBOL: Final = re.compile(SYMBOL_PATTERN, re.ASCII)


class Close(IntEnum):
    """Why a connection ends."""

    GOING_AWAY = 1001
    BINARY = 1003
    REFUSED = 1008
    TOO_BIG = 1009
    OWN_FAULT = 1011
    TRY_AGAIN = 1013


ErrorCode = Literal[
    "bad_request",
    "unknown_channel",
    "unknown_symbol_name",
    "too_many_subscriptions",
    "rate_limited",
    "unauthorized",
    "forbidden",
]

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]


# --- what a client sends -------------------------------------------------------------------------


class _Op(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, kw_only=True, frozen=True):
    pass


class Auth(_Op, tag="auth", frozen=True):
    """The first message, where a key is needed and none came in a header."""

    key: Annotated[str, Meta(min_length=1, max_length=256)]
    id: Id | None = None


class Subscribe(_Op, tag="subscribe", frozen=True):
    """Follow channels of symbols.

    Attributes:
        symbols: ``["*"]`` is all, those that appear later too.
        venues: Of event channels, only these venues' events.
        max_hz: Of state channels, at most so many frames a second of each symbol.
        depth: Of ``book``, levels a side.
        resume: Where to go on, by ``channel|SYMBOL``: ``TOKEN.SEQ`` of a state channel, the
            cursor of an event channel.
    """

    channels: Annotated[list[Name], Meta(min_length=1, max_length=len(CHANNELS))]
    symbols: Annotated[list[Name], Meta(min_length=1, max_length=SYMBOLS_MAX)]
    id: Id | None = None
    venues: Annotated[list[Name], Meta(min_length=1, max_length=32)] | None = None
    max_hz: Annotated[float, Meta(ge=0.01, le=1000)] | None = None
    depth: Annotated[int, Meta(ge=1, le=DEPTH_MAX)] = DEPTH_DEFAULT
    resume: dict[str, Annotated[str, Meta(max_length=64)]] | None = None


class Unsubscribe(_Op, tag="unsubscribe", frozen=True):
    """Follow them no more."""

    subscription_id: Name
    id: Id | None = None


class AskSnapshot(_Op, tag="snapshot", frozen=True):
    """Send the state of a subscribed (channel, symbol) again."""

    channel: Name
    symbol: Name
    id: Id | None = None


class Ping(_Op, tag="ping", frozen=True):
    """Answer with a pong."""

    id: Id | None = None


Request = Auth | Subscribe | Unsubscribe | AskSnapshot | Ping


# --- what the server sends -----------------------------------------------------------------------


class Frame(msgspec.Struct, tag_field="type", kw_only=True, frozen=True):
    """Any frame."""


class Limits(msgspec.Struct, kw_only=True, frozen=True):
    """What a client has to live with."""

    rate_per_s: float
    burst: int
    flush_ms: int
    subscriptions_max: int = SUBSCRIPTIONS_MAX
    symbols_max: int = SYMBOLS_MAX
    message_bytes_max: int = MESSAGE_BYTES_MAX


class Hello(Frame, tag="hello", frozen=True):
    """The first frame."""

    session_id: str
    now_ms: int
    heartbeat_s: float
    auth_required: bool
    limits: Limits
    protocol: int = PROTOCOL
    server: str = SERVER
    channels: tuple[str, ...] = CHANNELS


class Subscribed(Frame, tag="subscribed", frozen=True):
    """A subscription is in force; ``already`` if it was before."""

    id: str | None
    subscription_id: str
    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    already: bool


class Unsubscribed(Frame, tag="unsubscribed", frozen=True):
    """A subscription is no more."""

    id: str | None
    subscription_id: str


class Pong(Frame, tag="pong", frozen=True):
    """Answer to a ping."""

    id: str | None
    now_ms: int


class Read(msgspec.Struct, kw_only=True, frozen=True):
    """How old a state is as it is sent: beside it, for it is the same for every reader.

    Attributes:
        age_ms: Since it was written; null where nothing is stored.
        data_age_ms: Since the newest record behind it was received; null without any.
        stale: Whether that is more than 2000 ms, or there is none.
    """

    now_ms: int
    age_ms: int | None
    data_age_ms: int | None
    stale: bool


class Snapshot(Frame, tag="snapshot", frozen=True):
    """A whole state, to begin with; ``data`` null where nothing is stored yet."""

    channel: str
    symbol: str
    token: int
    seq: int
    read: Read
    data: Any


class Update(Frame, tag="update", frozen=True):
    """The state that follows (``prev_token``, ``prev_seq``), the last one of this connection."""

    channel: str
    symbol: str
    token: int
    seq: int
    prev_token: int
    prev_seq: int
    read: Read
    data: Any


class Events(Frame, tag="events", frozen=True):
    """Events in order; ``lost`` where some before them are not kept any more."""

    channel: str
    symbol: str
    cursor: str
    data: list[Any]
    lost: bool = False


class SubscriberCountChanged(Frame, tag="subscriber_count_changed", frozen=True):
    """How many connections of this process follow this (channel, symbol)."""

    channel: str
    symbol: str
    count: int


class Heartbeat(Frame, tag="heartbeat", frozen=True):
    """The server is there.

    Attributes:
        dropped: Frames replaced by newer ones, or left out, on this connection so far.
        throttled_s: Seconds in which something waited for the rate limit.
    """

    now_ms: int
    dropped: int
    throttled_s: float


class SourceChanged(Frame, tag="source", frozen=True):
    """The store went away or came back."""

    redis: Literal["up", "down"]
    since_ms: int


class Stale(Frame, tag="stale", frozen=True):
    """A report's data has become too old, with no new write."""

    channel: str
    symbol: str
    read: Read


class Error(Frame, tag="error", frozen=True):
    """A request was refused; the connection goes on unless it is closed behind it."""

    id: str | None
    code: ErrorCode
    message: str
    retry_after_ms: int | msgspec.UnsetType = msgspec.UNSET


ServerFrame = (
    Hello
    | Subscribed
    | Unsubscribed
    | Pong
    | Snapshot
    | Update
    | Events
    | SubscriberCountChanged
    | Heartbeat
    | SourceChanged
    | Stale
    | Error
)

encode: Final = msgspec.json.Encoder().encode
decode_frame: Final = msgspec.json.Decoder(ServerFrame).decode
"""A frame as a client may read it."""


# --- reading requests ----------------------------------------------------------------------------


class Refused(Exception):
    """A request that is answered with an error frame."""

    def __init__(self, code: ErrorCode, message: str, id_: str | None = None) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.id = id_

    def frame(self, retry_after_ms: int | None = None) -> Error:
        """The frame that says so."""
        after = msgspec.UNSET if retry_after_ms is None else retry_after_ms
        return Error(id=self.id, code=self.code, message=str(self), retry_after_ms=after)


class _OnlyId(msgspec.Struct):
    id: Id | None = None


_decode_request: Final = msgspec.json.Decoder(Request).decode
_decode_id: Final = msgspec.json.Decoder(_OnlyId).decode


def decode_request(text: str) -> Request:
    """What a client wants.

    Raises:
        Refused: It is no request, or names what there is not.
    """
    try:
        request: Request = _decode_request(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise Refused("bad_request", f"not a request: {error}", _id_of(text)) from None
    match request:
        case Subscribe():
            _check_channels(request.channels, request.id)
            if request.symbols != [ALL_SYMBOLS]:
                _check_symbols(request.symbols, request.id)
        case AskSnapshot():
            _check_channels([request.channel], request.id)
            if request.channel not in STATE_CHANNELS:
                raise Refused(
                    "bad_request",
                    f"{request.channel} has no snapshot; expected one of "
                    f"{', '.join(STATE_CHANNELS)}",
                    request.id,
                )
            _check_symbols([request.symbol], request.id)
    return request


def _id_of(text: str) -> str | None:
    try:
        return _decode_id(text).id
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _check_channels(channels: list[str], id_: str | None) -> None:
    for channel in channels:
        if channel not in CHANNELS:
            raise Refused(
                "unknown_channel",
                f"no channel {channel!r}; expected some of {', '.join(CHANNELS)}",
                id_,
            )


def _check_symbols(symbols: list[str], id_: str | None) -> None:
    for symbol in symbols:
        if _SYMBOL.fullmatch(symbol) is None:
            raise Refused(
                "unknown_symbol_name",
                f"symbol {symbol!r} is malformed; expected 1 to 32 capital letters, digits, dots, "
                'dashes or underscores, such as BTCUSDT, or "*" alone',
                id_,
            )


def order_of(text: str) -> tuple[int, int] | None:
    """A ``TOKEN.SEQ`` or a cursor ``MS-N`` as numbers that compare; None if it is neither."""
    first, dot, second = text.replace("-", ".", 1).partition(".")
    if not (first.isascii() and first.isdecimal() and len(first) <= 20):
        return None
    if not dot:
        return int(first), 0
    if not (second.isascii() and second.isdecimal() and len(second) <= 20):
        return None
    return int(first), int(second)
