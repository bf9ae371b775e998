"""The answers of the HTTP API as types: what OpenAPI says, and what tests hold answers to.

Routes on a hot path build their JSON themselves; it is the same by test, not by conversion. The
report's own schema comes from `tables.report` by way of ``serving/schemas``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.problems import KINDS, TYPES


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error (RFC 9457). ``type`` is a page of this reader that says what to do."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=[TYPES + kind for kind in KINDS][:1])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str


class InvalidParameter(_Model):
    """What is wrong with one parameter."""

    name: str
    message: str


class InvalidProblem(Problem):
    """Parameters are missing or out of range."""

    errors: list[InvalidParameter] = []


class Reading(_Model):
    """How old what was read is.

    A report's ``data_age_ms`` counts from the newest record behind it; ``stale`` is true where
    that is above 2000 ms, or there is none.
    """

    now_ms: int = Field(description="When it was read, ms since the epoch.")
    age_ms: int = Field(ge=0, description="Since it was written.")
    data_age_ms: int | None = Field(description="Since its newest data was received.")
    stale: bool


class ReportEntry(_Model):
    """One report of a list."""

    symbol: str
    token: int
    seq: int
    read: Reading
    report: dict[str, Any] = Field(
        description="The stored object, or the fields of it that were asked for."
    )


class ReportsAnswer(_Model):
    """Reports by symbol."""

    reports: list[ReportEntry]
    missing: list[str] = Field(description="Symbols of this page without a report.")
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class SymbolEntry(_Model):
    """One symbol.

    ``live``; ``gap``: data arrives and the book is not whole; ``stale``: the newest data is older
    than 2000 ms; ``down``: no report, or a stale one that nobody writes any more.
    """

    symbol: str
    venue: str | None
    state: Literal["live", "stale", "gap", "down"]
    age_ms: int | None
    data_age_ms: int | None
    token: int | None
    seq: int | None
    owner: str = Field(description="The node that may write it; empty while nobody may.")


class SymbolsAnswer(_Model):
    """All symbols that Redis knows of."""

    symbols: list[SymbolEntry]


class TickTrade(_Model):
    """The newest trade."""

    price: float
    qty: float
    side: Literal["buy", "sell"]
    trade_id: int | None
    ts_event_ms: int
    ts_recv_ms: int


class TickLevel(_Model):
    """One best level."""

    price: float
    qty: float


class TickFlow(_Model):
    """Trades of the last 10 s and 30 s, of the report ``token``, ``seq``."""

    orders_per_sec: float
    net_flow: float
    buy_volume: float
    sell_volume: float
    trade_count: int
    orders_window_sec: int
    net_window_sec: int
    token: int
    seq: int
    age_ms: int


class TickAnswer(_Model):
    """Last trade and top of book, with what follows from them.

    ``read.age_ms`` counts from the tick's last change, ``read.data_age_ms`` from the newest data
    of the symbol's report: a quiet market has old ticks that are right.
    """

    symbol: str
    venue: str
    token: int
    seq: int
    offset: int
    ts_recv_ms: int
    last_trade: TickTrade | None
    book: str = Field(description="`ok`, `gap`, `muted` or `none`.")
    best_bid: TickLevel | None
    best_ask: TickLevel | None
    spread: float | None = Field(description="Ask less bid, in quote units.")
    spread_bps: float | None = Field(description="Of the mid, in 1/10,000.")
    mid_price: float | None
    micro_price: float | None = Field(description="The mid weighted by the opposite sizes.")
    imbalance: float | None = Field(
        description="(bid size - ask size) / (their sum) at the top, in [-1, 1]."
    )
    flow: TickFlow | None
    synthetic: bool
    read: Reading


class QueryCall(_Model):
    """One call that the asking key has made."""

    at_ms: int
    method: str
    path: str
    query: str
    status: int
    took_ms: float
    sent_bytes: int
    request_id: str


class QueriesAnswer(_Model):
    """Calls of the asking key, newest first."""

    key_id: str
    calls: list[QueryCall]
    next_cursor: str | None


class HealthAnswer(_Model):
    """Whether this process answers, and Redis does."""

    status: Literal["ok", "unhealthy"]
    redis: str
    uptime_s: float


class LiveAnswer(_Model):
    """The process's event loop comes round."""

    live: bool


class ReadyAnswer(_Model):
    """Whether calls will be answered, else why not."""

    ready: bool
    reason: str


class SchemasAnswer(_Model):
    """Names under ``/schemas/``."""

    schemas: list[str]


class ProblemPage(_Model):
    """What a type of problem means."""

    type: str
    title: str
    status: int
    meaning: str
