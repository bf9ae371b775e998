"""The market report, schema 1.1: what a worker publishes and every reader hands on.

A report is a pure function of an engine's state and the time given, so it can be recomputed
from the topic; `Source` says from which offset and time. ``docs/reports.md`` is the prose to
these fields. Prices are in quote units, sizes in base units, times in ms since the epoch.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from streams.events import SYMBOL_PATTERN, FeedState
from tables.anomalies import AnomalyType
from tables.book import BookState, Side
from tables.health import IngestionStatus
from tables.liquidity import Severity

SCHEMA_VERSION: Final = "1.1"
REPORT_VERSION: Final = "1.1.0"

__all__ = [
    "REPORT_VERSION",
    "SCHEMA_VERSION",
    "SYMBOL_PATTERN",  # readers check symbols without seeing `streams`
    "FastPart",
    "HeavyReport",
    "Position",
    "Report",
    "SlowPart",
    "Source",
    "Tick",
    "Writer",
    "compose",
    "decode_report",
    "encode_report",
    "encode_tick",
    "iso_utc",
    "report_schema",
]

PriceQty = tuple[float, float]
"""[price, size]."""

VenueState = Literal["none", "ok", "gap", "muted", "stale", "disconnected"]
"""A book's state, or what is wrong with its feed."""


class _Part(msgspec.Struct, frozen=True, gc=False):
    """Reports print every field, null included: a missing field is never good news."""


class Writer(_Part, frozen=True, rename={"node_id": "nodeId", "writer_token": "writerToken"}):
    """Who wrote this, and under which fencing token."""

    node_id: str
    writer_token: int


class Position(_Part, frozen=True):
    """What a part was computed from: the records up to ``offset``, at ``now_ms``."""

    topic: str
    partition: int
    offset: int
    now_ms: int


class Source(_Part, frozen=True):
    """The slow part is from an earlier moment than the fast one, and says so."""

    fast: Position
    slow: Position | None


class Ingestion(_Part, frozen=True):
    """Whether data arrives, and whether the book built of it holds.

    Attributes:
        status: By ``data_age_ms`` alone: ok < 1000, degraded <= 2000, down.
        feed: The bridge's newest word on the feed; null before any.
        book: ``ok``, ``gap`` (held, marked), ``muted`` or ``none``.
        reason: Why the book is not ok; empty when it is.
        feed_token: Token of the bridge that is being followed.
    """

    status: IngestionStatus
    feed: FeedState | None
    book: BookState
    reason: str
    feed_token: int


class Best(_Part, frozen=True):
    """One best level."""

    price: float
    qty: float


class Depth(_Part, frozen=True):
    """The reported levels, best first, and their sums."""

    levels: int
    total_bid_qty: float
    total_ask_qty: float
    imbalance: float
    bids: list[PriceQty]
    asks: list[PriceQty]


class FlowPart(_Part, frozen=True):
    """Trades of the last 10 s and 30 s."""

    orders_per_sec: float
    net_flow: float
    buy_volume: float
    sell_volume: float
    trade_count: int
    orders_window_sec: int
    net_window_sec: int


class Health(_Part, frozen=True):
    """Composite score, 0 to 100, and its parts, 0 to 1."""

    score: float
    freshness: float
    spread: float
    depth: float
    anomalies: float


class Gaps(_Part, frozen=True):
    """Breaks in the last 30 minutes.

    Attributes:
        count: Of all that made the book stop, by ``by_reason``.
        last_at_ms: Time of the newest of them.
        trades_missing: Trade ids jumped over.
        duplicates: Trades dropped because their id had been seen.
    """

    window_sec: int
    count: int
    last_at_ms: int | None
    by_reason: dict[str, int]
    trades_missing: int
    duplicates: int


class Coverage(_Part, frozen=True):
    """Share of each window's seconds in which the feed was heard, 0 to 1.

    Attributes:
        day: Whether the venue's 24 h figures are there.
        size_samples: Sizes behind the wall and vacuum thresholds, at most 10,000.
    """

    flow_10s: float
    flow_30s: float
    profile_30min: float
    day: bool
    size_samples: int


class Profile(_Part, frozen=True, rename={"poc": "POC", "vah": "VAH", "val": "VAL"}):
    """Volume profile; ``val <= poc <= vah``."""

    poc: float
    vah: float
    val: float
    window_sec: int
    trade_count: int


class Wall(_Part, frozen=True):
    """One large level."""

    side: Side
    price: float
    qty: float
    severity: Severity


class Vacuum(_Part, frozen=True, rename={"from_": "from"}):
    """A run of thin levels, from the one nearer to mid."""

    side: Side
    from_: float
    to: float
    levels: int
    severity: Severity


class Liquidity(_Part, frozen=True):
    """Null profile: fewer trades than needed, or no instrument yet."""

    volume_profile: Profile | None
    walls: list[Wall]
    vacuums: list[Vacuum]


class Anomaly(_Part, frozen=True):
    """A finding, with a note for people."""

    type: AnomalyType
    severity: Severity
    note: str


class VenueBest(_Part, frozen=True):
    """The best level of any venue, and whose it is."""

    price: float
    qty: float
    venue: str


class Crossing(_Part, frozen=True):
    """One venue bids as much as another asks, or more.

    Attributes:
        bps: (bid - ask) / mid of the two, in 1/10,000; 0 where they lock.
    """

    bid_venue: str
    bid: float
    ask_venue: str
    ask: float
    bps: float


class VenuePart(_Part, frozen=True):
    """One venue of the symbol.

    Attributes:
        state: ``ok``, or why its prices are left out of the consolidation.
        reason: In words; empty where there is nothing to say.
        consolidated: Whether its prices take part.
        quote: Currency of its prices; null while unknown.
        age_ms: Since its newest record; null before any.
        gaps: Breaks in the last 30 minutes.
    """

    state: VenueState
    reason: str
    consolidated: bool
    quote: str | None
    best_bid: Best | None
    best_ask: Best | None
    age_ms: int | None
    gaps: int
    synthetic: bool


class VenuesPart(_Part, frozen=True):
    """The symbol at all its venues.

    Attributes:
        primary: Whose market the rest of the report is.
        quote: The one currency of all that is compared; null if mixed or unknown.
        quote_mixed: Venues quote in different currencies, so nothing is compared.
        best_bid, best_ask: Of the venues that take part.
        locked, crossed: Pairs of venues whose bid and ask meet, widest first.
        by_venue: The primary one first.
    """

    primary: str
    quote: str | None
    quote_mixed: bool
    best_bid: VenueBest | None
    best_ask: VenueBest | None
    locked: list[Crossing]
    crossed: list[Crossing]
    by_venue: dict[str, VenuePart]


class FastPart(_Part, frozen=True):
    """What the fast cycle computes, 4 to 10 times a second."""

    symbol: str
    venue: str
    generated_at: str
    data_age_ms: int | None
    last_change_age_ms: int | None
    ingestion: Ingestion
    last_price: float | None
    change_24h_pct: float | None
    high_24h: float | None
    low_24h: float | None
    volume_24h: float | None
    best_bid: Best | None
    best_ask: Best | None
    spread_bps: float | None
    mid_price: float | None
    micro_price: float | None
    depth: Depth | None
    flow: FlowPart
    health: Health
    gaps: Gaps
    coverage: Coverage
    synthetic: bool
    venues: VenuesPart
    custom: dict[str, Any] | None = None


class SlowPart(_Part, frozen=True):
    """What the slow cycle adds; it overwrites nothing of the fast part."""

    liquidity: Liquidity
    anomalies: list[Anomaly]


class Report(
    _Part,
    frozen=True,
    kw_only=True,
    rename={"schema_version": "schemaVersion", "updated_at": "updatedAt"},
):
    """The whole. Equal (``writer.writerToken``, ``seq``) means equal bytes.

    Attributes:
        seq: Rises with each write, also from one token to the next.
        updated_at: When it was written; rises from one accepted write to the next.
        liquidity, anomalies: Null before the first slow cycle, and when ``heavy``.
        heavy: The long lists are in ``report:SYMBOL:heavy``, under the same token and seq.
        venues: Null in reports written before there was such a section.
        custom: Fields of plugged-in calculators.
    """

    schema_version: Literal["1.1"] = SCHEMA_VERSION
    report_version: str = REPORT_VERSION
    writer: Writer
    seq: int
    updated_at: int
    symbol: str
    venue: str
    generated_at: str
    source: Source
    data_age_ms: int | None
    last_change_age_ms: int | None
    ingestion: Ingestion
    last_price: float | None
    change_24h_pct: float | None
    high_24h: float | None
    low_24h: float | None
    volume_24h: float | None
    best_bid: Best | None
    best_ask: Best | None
    spread_bps: float | None
    mid_price: float | None
    micro_price: float | None
    depth: Depth | None
    flow: FlowPart
    liquidity: Liquidity | None
    anomalies: list[Anomaly] | None
    health: Health
    gaps: Gaps
    coverage: Coverage
    synthetic: bool
    heavy: bool = False
    venues: VenuesPart | None = None
    custom: dict[str, Any] | None = None


class HeavyReport(_Part, frozen=True):
    """What was taken out of a report above the size limit; match it by token and seq."""

    symbol: str
    writer_token: int
    seq: int
    depth: Depth | None
    liquidity: Liquidity | None
    anomalies: list[Anomaly] | None
    custom: dict[str, Any] | None


class LastTrade(_Part, frozen=True):
    """The newest trade."""

    price: float
    qty: float
    side: Literal["buy", "sell"]
    trade_id: int | None
    ts_event_ms: int
    ts_recv_ms: int


class Tick(_Part, frozen=True):
    """``tick:SYMBOL``: last trade and top of book, for readers in a hurry.

    Attributes:
        writer_token, seq: Order of ticks; independent of the reports' seq.
        quote: The venue's own best bid and ask when it is ahead of the book.
        bids, asks: Up to 50 levels, best first; empty when the book is not shown.
    """

    symbol: str
    venue: str
    writer_token: int
    seq: int
    offset: int
    ts_recv_ms: int
    last_trade: LastTrade | None
    quote: tuple[PriceQty, PriceQty] | None
    book: BookState
    bids: list[PriceQty]
    asks: list[PriceQty]
    synthetic: bool


_FAST_FIELDS: Final = FastPart.__struct_fields__
_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Report)


def compose(
    fast: FastPart,
    slow: SlowPart | None,
    *,
    writer: Writer,
    seq: int,
    updated_at: int,
    source: Source,
) -> Report:
    """A report of its two parts and what only the writer knows."""
    return Report(
        writer=writer,
        seq=seq,
        updated_at=updated_at,
        source=source,
        liquidity=slow.liquidity if slow else None,
        anomalies=slow.anomalies if slow else None,
        **{name: getattr(fast, name) for name in _FAST_FIELDS},
    )


def encode_report(report: Report, split_bytes: int) -> tuple[bytes, bytes]:
    """Canonical JSON, and the heavy part's: empty unless the whole is above ``split_bytes``."""
    payload = _encode(report)
    if len(payload) <= split_bytes:
        return payload, b""
    heavy = HeavyReport(
        symbol=report.symbol,
        writer_token=report.writer.writer_token,
        seq=report.seq,
        depth=report.depth,
        liquidity=report.liquidity,
        anomalies=report.anomalies,
        custom=report.custom,
    )
    light = msgspec.structs.replace(
        report, depth=None, liquidity=None, anomalies=None, custom=None, heavy=True
    )
    return _encode(light), _encode(heavy)


def encode_tick(tick: Tick) -> bytes:
    """Canonical JSON of a tick."""
    return _encode(tick)


def decode_report(payload: bytes) -> Report:
    """Read a report of this or an older schema 1.x.

    Raises:
        msgspec.DecodeError: It is not one.
    """
    return _decoder.decode(payload)


def iso_utc(ms: int) -> str:
    """RFC 3339 text of a time, to the millisecond."""
    seconds, millis = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def report_schema() -> dict[str, object]:
    """JSON Schema of a report, draft 2020-12, generated from the types above."""
    (schema,), definitions = msgspec.json.schema_components([Report], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "tapeline:report-1.1",
        "title": "Market report 1.1",
        **schema,
        "$defs": definitions,
    }
