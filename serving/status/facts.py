"""What Redis says of the chain, decoded: whatever lies there, reading it raises nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from serving.reader import StoredReport, aged
from tapeline.errors import ReportError

HEAD_BYTES: Final = 1_536
"""Of a report; what is needed of it stands in front of its first price, whatever its topic's name."""

_FIRST_PRICE: Final = b',"last_price":'


class Broker(msgspec.Struct, frozen=True):
    connected: bool = False
    outage: bool = False
    records: int = 0
    bytes: int = 0
    age_ms: int = 0
    acknowledged_per_s: float | None = None


class Venue(msgspec.Struct, frozen=True):
    connected: bool = False
    frame_age_ms: int | None = None
    frames_per_s: float | None = None
    reconnects: int = 0
    symbols: int = 0
    in_sync: int = 0


class Feed(msgspec.Struct, frozen=True):
    book: str = ""
    token: int = 0
    records_per_s: float | None = None
    last_record_age_ms: int | None = None
    gaps: int = 0
    resyncs: int = 0


class BridgeBeat(msgspec.Struct, frozen=True):
    """``nt:bridge:ID``, as a bridge writes it."""

    hostname: str = ""
    pid: int = 0
    version: str = ""
    started_at: int = 0
    restarts: int = 0
    metrics_url: str = ""
    last_heartbeat: int = 0
    topic: str = ""
    partitions: int = 0
    broker: Broker = Broker()
    venues: dict[str, Venue] = {}
    feeds: dict[str, Feed] = {}
    feeds_left_out: int = 0


class NodeBeat(msgspec.Struct, frozen=True):
    """``nt:node:ID``, as a worker writes it."""

    hostname: str = ""
    pid: int = 0
    incarnation: str = ""
    started_at: int = 0
    metrics_url: str = ""
    last_heartbeat: int = 0
    state: str = "up"


class Partition(msgspec.Struct, frozen=True):
    partition: int
    position: int
    end: int
    lag: int
    rate_per_s: float | None = None


class NodeStats(msgspec.Struct, frozen=True):
    """``nt:node:ID:stats``, as a worker writes it."""

    restarts: int = 0
    status: str = ""
    outages: dict[str, Any] = {}
    complete: bool = False
    owned: int = 0
    rate_per_s: float | None = None
    lag: int | None = None
    partitions: list[Partition] = []
    partitions_left_out: int = 0


class _Place(msgspec.Struct, frozen=True):
    partition: int = -1
    offset: int = -1


class _Places(msgspec.Struct, frozen=True):
    fast: _Place = _Place()


class _Ingestion(msgspec.Struct, frozen=True):
    book: str = ""
    reason: str = ""


class _Head(msgspec.Struct, frozen=True):
    venue: str = ""
    source: _Places = _Places()
    ingestion: _Ingestion = _Ingestion()


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeFacts:
    """One bridge.

    Attributes:
        beat: Its newest heartbeat; None where none could be read.
        age_ms: Since it was sent, by Redis' clock; None once it has expired.
    """

    beat: BridgeBeat | None
    age_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """One worker.

    Attributes:
        beat, age_ms: As those of `BridgeFacts`.
        stats: How far it says it is; None where that is not known.
        listens: Whether it is connected to Redis; None where we may not ask.
    """

    beat: NodeBeat | None
    age_ms: int | None
    stats: NodeStats | None = None
    listens: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolFacts:
    """One symbol.

    Attributes:
        owner, lease_ms: Of its lease; empty and 0 without one.
        token, seq, updated_at: Of the newest accepted report; 0 before the first.
        stored: Whether a report is stored.
        report: What its head says, seen now; None where that can't be read.
        venue, book, reason: As the report has them; empty without one.
        partition, offset: Of the newest record behind it; None without one.
    """

    owner: str = ""
    lease_ms: int = 0
    token: int = 0
    seq: int = 0
    updated_at: int = 0
    stored: bool = False
    report: StoredReport | None = None
    venue: str = ""
    book: str = ""
    reason: str = ""
    partition: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """Redis itself.

    Attributes:
        error: Why it did not answer; empty where it did.
        took_ms: How long its answer to a ping took.
        version, role, up_s, used_memory_bytes: As it says; None where we may not ask.
        accepted_per_s: Reports accepted, all symbols; None before two looks.
    """

    error: str = ""
    took_ms: float | None = None
    version: str | None = None
    role: str | None = None
    up_s: float | None = None
    used_memory_bytes: int | None = None
    accepted_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderFacts:
    """This process.

    Attributes:
        rate_per_s: Answers to readers; None where nobody counts them.
    """

    id: str = ""
    version: str = ""
    pid: int = 0
    started_at: int = 0
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known at one moment.

    Attributes:
        at_ms: The moment, ms since the epoch.
        bridges, nodes, symbols: By name.
    """

    at_ms: int
    store: StoreFacts = StoreFacts()
    reader: ReaderFacts = ReaderFacts()
    bridges: Mapping[str, BridgeFacts] = field(default_factory=dict)
    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    symbols: Mapping[str, SymbolFacts] = field(default_factory=dict)


# --- decoding -------------------------------------------------------------------------------------

T = TypeVar("T")

_bridge: Final = msgspec.json.Decoder(BridgeBeat)
_node: Final = msgspec.json.Decoder(NodeBeat)
_stats: Final = msgspec.json.Decoder(NodeStats)
_head: Final = msgspec.json.Decoder(_Head)


def _decoded(decoder: msgspec.json.Decoder[T], payload: Any) -> T | None:
    if not isinstance(payload, bytes):
        return None
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def bridge_beat(payload: Any) -> BridgeBeat | None:
    """A bridge's heartbeat; None for what is none."""
    return _decoded(_bridge, payload)


def node_beat(payload: Any) -> NodeBeat | None:
    """A worker's heartbeat; None for what is none."""
    return _decoded(_node, payload)


def node_stats(payload: Any) -> NodeStats | None:
    """How far a worker says it is; None for what says nothing."""
    return _decoded(_stats, payload)


def symbol_facts(lease: Any, lease_ms: Any, meta: Any, head: Any, now_ms: int) -> SymbolFacts:
    """One symbol, of Redis' answers; an error counts as no answer.

    Args:
        lease: The lease's value.
        lease_ms: What is left of it, as PTTL says.
        meta: Token, seq and time of the last accepted write, as HMGET says.
        head: The first `HEAD_BYTES` of the report.
        now_ms: For ages.
    """
    values = [*meta][:3] if isinstance(meta, list) else []
    token, seq, updated_at = ([_number(value) for value in values] + [0, 0, 0])[:3]
    stored = isinstance(head, bytes) and head != b""
    report = said = None
    if stored:
        cut = head.find(_FIRST_PRICE)
        whole = head[:cut] + b"}" if cut > 0 else head
        try:
            report = aged(whole, now_ms)
        except (ReportError, UnicodeDecodeError, RecursionError):
            report = None
        said = _decoded(_head, whole) if report is not None else None
    fast = said.source.fast if said is not None else None
    return SymbolFacts(
        owner=_text(lease).partition("|")[0],
        lease_ms=max(0, lease_ms) if isinstance(lease_ms, int) else 0,
        token=token,
        seq=seq,
        updated_at=updated_at,
        stored=stored,
        report=report,
        venue=said.venue if said else "",
        book=said.ingestion.book if said else "",
        reason=said.ingestion.reason if said else "",
        partition=fast.partition if fast else None,
        offset=fast.offset if fast else None,
    )


def _number(value: Any) -> int:
    try:
        return int(value or 0)
    except (ValueError, TypeError):
        return 0


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
