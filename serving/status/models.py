"""What ``/status`` and ``/api/v1/streams`` answer: one model set for JSON, OpenAPI and the hub."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["ok", "degraded", "down"]
StageName = Literal["feed", "topic", "workers", "redis", "reader"]
Book = Literal["in_sync", "out_of_sync", "unlisted", "unknown"]
Presence = Literal["up", "draining", "vanished", "silent", "gone"]

WORST: Final[dict[State, int]] = {"ok": 0, "degraded": 1, "down": 2}


def worst(*states: State) -> State:
    """The worst of some states; ok where there are none."""
    return max(states, key=WORST.__getitem__, default="ok")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Judged(_Model):
    state: State
    sentence: str = Field(description="What is wrong, or how it goes, in words.")


class BrokerSight(_Model):
    """How a bridge gets on with the broker."""

    connected: bool
    outage: bool = Field(description="The broker has taken nothing for too long.")
    records: int = Field(description="Not acknowledged yet.")
    bytes: int = Field(description="Not acknowledged yet.")
    age_ms: int = Field(description="Of the oldest of them.")
    acknowledged_per_s: float | None


class VenueSight(_Model):
    """A bridge's connection to one venue."""

    connected: bool
    frame_age_ms: int | None = Field(description="Since the newest frame.")
    frames_per_s: float | None
    reconnects: int
    symbols: int
    in_sync: int = Field(description="Of those: books that follow the venue's.")


class BridgeSight(_Judged):
    """One bridge, by its heartbeat."""

    id: str
    hostname: str
    pid: int
    version: str
    started_at: int
    up_s: float
    heartbeat_age_ms: int | None = Field(description="Null where it can't be known.")
    restarts: int = Field(description="Counted until a day has passed without one.")
    metrics_url: str
    broker: BrokerSight | None
    venues: dict[str, VenueSight]


class PartitionSight(_Model):
    """How far a worker is in one partition of the events topic."""

    partition: int
    position: int = Field(description="Offset of the next record that it will take.")
    end: int = Field(description="Offset of the next record to be written, as last seen.")
    lag: int
    rate_per_s: float | None


class WorkerSight(_Judged):
    """One worker, by its heartbeat."""

    id: str
    presence: Presence = Field(
        description="vanished: its connection to Redis has gone; silent: its heartbeat is late; "
        "gone: it has expired."
    )
    hostname: str
    pid: int
    started_at: int
    up_s: float
    heartbeat_age_ms: int | None
    restarts: int | None
    metrics_url: str
    status: str | None = Field(description="What its /health says: ok, degraded or stalled.")
    rate_per_s: float | None
    lag: int | None
    owned: int | None = Field(description="Symbols that it writes.")
    partitions: list[PartitionSight]
    partitions_left_out: int


class RedisSight(_Model):
    """The store that this reader reads."""

    version: str | None
    role: str | None
    up_s: float | None
    used_memory_bytes: int | None


class ReaderSight(_Model):
    """This process."""

    id: str
    version: str
    pid: int
    started_at: int
    up_s: float


class Stage(_Judged):
    """One link of the chain; a figure that is null has its reason in ``unknown``."""

    stage: StageName
    runbook: str = Field(description="Where to read on; empty while all is well.")
    rate_per_s: float | None
    lag: float | None
    lag_unit: Literal["ms", "records"]
    age_ms: int | None
    restarts: int | None
    unknown: dict[str, str]
    parts: list[BridgeSight | WorkerSight | RedisSight | ReaderSight]
    topic: str | None = None
    partitions: int | None = None


class FeedSight(_Judged):
    """One symbol of one venue, as a bridge brings it: a stream."""

    stream_id: str
    venue: str
    symbol: str
    bridge: str = Field(description="Who tells of it: the one that writes it, if any does.")
    connected: bool
    book: Book
    token: int = Field(description="Of the feed lease; 0 while none is held.")
    records_per_s: float | None = Field(
        description="Written to the topic; a silent market's signs of life are records too."
    )
    last_record_age_ms: int | None
    gaps: int
    resyncs: int


class FeedState(_Model):
    """A feed of a symbol, in short."""

    stream_id: str
    state: State


class SymbolSight(_Judged):
    """One symbol's reports: who writes them, and how old the newest is."""

    symbol: str
    runbook: str
    owner: str = Field(description="The worker in the lease; empty while nobody has it.")
    token: int
    seq: int
    lease_ms: int = Field(description="What is left of the lease.")
    report_age_ms: int | None
    data_age_ms: int | None
    partition: int | None
    offset: int | None
    feeds: list[FeedState]


class Status(_Judged):
    """The chain as a whole, at one moment."""

    at_ms: int
    chain: list[Stage]
    symbols: list[SymbolSight]
    feeds: list[FeedSight]


class StreamLinks(_Model):
    """Where to go on."""

    self: str
    metrics: str
    ws: str


class Stream(FeedSight):
    """A feed as a resource."""

    links: StreamLinks


class Streams(_Model):
    """All feeds that bridges follow."""

    at_ms: int
    streams: list[Stream]


class MinutePoint(_Model):
    """One minute of a feed."""

    ts_ms: int = Field(description="Where the minute begins.")
    records: int
    records_per_s: float | None
    gaps: int
    resyncs: int
    reconnects: int
    in_sync_pct: float | None
    age_ms_max: int | None = Field(description="Longest that its newest record was old.")


class StreamMetrics(_Model):
    """A feed's last hour; a minute without a point was a minute without a bridge."""

    stream_id: str
    period_s: int = 60
    points: list[MinutePoint]


class StreamWish(_Model):
    """A feed to follow from now on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    venue: str = Field(min_length=1, max_length=32, pattern=r"^[a-z0-9_-]+$")
    symbol: str = Field(
        min_length=1, max_length=32, pattern=r"^[A-Z0-9][A-Z0-9._-]*$", description="Canonical."
    )
    venue_symbol: str = Field(
        default="",
        max_length=64,
        pattern=r"^[A-Za-z0-9._/:-]*$",
        description="The venue's own name, where it differs: BTC/USD.",
    )


class StreamAnswer(_Model):
    """What became of a command."""

    stream_id: str
    command_id: str
    status: Literal["success", "unanswered"]
    changed: bool | None = Field(description="Whether other feeds are followed since.")
    routing_version: int | None
    node_id: str | None = Field(description="The bridge that answered.")


def examples() -> dict[str, Any]:
    """Bodies that are shown beside the schemas."""
    return {"follow": {"venue": "kraken", "symbol": "BTCUSD", "venue_symbol": "BTC/USD"}}
