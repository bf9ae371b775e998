"""What the tools take and give, and their schemas.

One set of types: arguments are checked against them, results are made of them, and the schemas
that a client sees are generated from them, slimmed so that the whole contract stays small.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from serving.reader import SYMBOL_PATTERN

SYMBOLS_MAX: Final = 10
"""Most symbols of one comparison."""

FIELDS_MAX: Final = 12
DEPTH_MAX: Final = 50
"""Levels a side that ``tick:SYMBOL`` has."""

WAIT_MAX_S: Final = 30
LIST_MAX: Final = 200

SCHEMA_URI: Final = "market://schema/report/v1"

Symbol = Annotated[str, Meta(pattern=f"^{SYMBOL_PATTERN}$")]
Kind = Literal["fast", "slow"]
Detail = Literal["summary", "full"]
State = Literal["live", "stale", "gap", "down"]
"""Of a symbol, as `serving.directory` has it: ``stale`` by its data's age; ``gap`` where it is fresh,
but its book does not hold; ``down`` where there is no report, or a stale one that nobody writes."""

Level = tuple[float, float]
"""[price, size]."""


class _Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An argument that is not in the contract is a mistake, not a wish to be ignored."""


class GetReport(_Arguments, frozen=True):
    symbol: Symbol
    kind: Kind = "fast"
    detail: Detail = "summary"
    max_age_ms: Annotated[int, Meta(ge=0)] | UnsetType = UNSET


class ListSymbols(_Arguments, frozen=True):
    query: str | UnsetType = UNSET
    state: State | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = 50
    cursor: str | UnsetType = UNSET


class CompareReports(_Arguments, frozen=True):
    symbols: Annotated[list[Symbol], Meta(min_length=1, max_length=SYMBOLS_MAX)]
    fields: (
        Annotated[
            list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=FIELDS_MAX)
        ]
        | UnsetType
    ) = UNSET


class GetOrderBook(_Arguments, frozen=True):
    symbol: Symbol
    depth: Annotated[int, Meta(ge=1, le=DEPTH_MAX)] = 10
    bucket_bps: Annotated[float, Meta(gt=0, le=1000)] | UnsetType = UNSET
    notional: Annotated[float, Meta(gt=0)] | UnsetType = UNSET


class WaitForReport(_Arguments, frozen=True):
    symbol: Symbol
    after_seq: Annotated[int, Meta(ge=0)]
    timeout_s: Annotated[float, Meta(gt=0, le=WAIT_MAX_S)] = 10
    when: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class GetServiceStatus(_Arguments, frozen=True):
    pass


# --- what they give ------------------------------------------------------------------------------


class Read(msgspec.Struct, frozen=True):
    """How old something was when it was read.

    Attributes:
        now_ms: The moment of reading, ms since the epoch.
        age_ms: Since it was written; None where nothing is stored.
        data_age_ms: Since its newest record was received; None without any.
        stale: Whether that is more than 2000 ms, or there is none.
    """

    now_ms: int
    age_ms: int | None
    data_age_ms: int | None
    stale: bool


class ReportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A report, its reading first.

    Attributes:
        read: Its age.
        why: Why it is stale, or null, or to be used with care; '' where nothing is to be said.
        as_of_ms: The moment that the asked part was computed for.
        writer_token, seq: Its place in the order of all reports of the symbol.
        gaps: Breaks of the feed in the last 30 minutes.
        coverage: Share of the last 30 s in which the feed was heard; of 30 min for ``slow``.
        report: The stored object, or some of its fields; None where none is stored.
    """

    read: Read
    why: str
    symbol: str
    as_of_ms: int | None
    writer_token: int | None
    seq: int | None
    gaps: int | None
    coverage: float | None
    report: dict[str, Any] | None


class WaitAnswer(ReportAnswer, frozen=True, kw_only=True):
    """The report that was waited for, or the newest there is.

    Attributes:
        matched: Whether it is newer than ``after_seq`` and as ``when`` wants it.
    """

    matched: bool


class SymbolRow(msgspec.Struct, frozen=True):
    """One symbol in a list; ``age_ms`` is that of its data."""

    symbol: str
    venue: str
    state: State
    age_ms: int | None
    seq: int | None


class SymbolList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of symbols; ``total`` counts those that match, on all pages."""

    now_ms: int
    total: int
    symbols: list[SymbolRow]
    next_cursor: str | None


class CompareRow(msgspec.Struct, frozen=True):
    """One symbol of a comparison; ``values`` are in the order of ``fields``."""

    symbol: str
    data_age_ms: int | None
    stale: bool
    seq: int
    values: list[Any]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Reports of several symbols, read at one moment.

    Attributes:
        skew_ms: Between the oldest and the newest moment they were computed for.
        missing: Symbols without a report.
    """

    now_ms: int
    skew_ms: int
    fields: list[str]
    rows: list[CompareRow]
    missing: list[str]


class Cost(msgspec.Struct, frozen=True):
    """Taking a notional from one side.

    Attributes:
        price: Average over what is filled; None where the side is empty.
        slippage_bps: Of that price against mid; paid, so never negative in an uncrossed book.
        filled: Share of the notional that the shown levels hold, 0 to 1.
    """

    price: float | None
    slippage_bps: float | None
    filled: float


class BookAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The top of one venue's book, its reading first.

    Attributes:
        book: ``ok``, ``gap``, ``muted`` or ``none``; only ``ok`` is to be traded on.
        bids, asks: Best first; in buckets of ``bucket_bps`` from mid where that was asked for.
        imbalance: (bids - asks) / (bids + asks) of the sizes taken, -1 to 1.
        buy, sell: What the notional would cost; None unless asked for.
    """

    read: Read
    why: str
    symbol: str
    writer_token: int | None
    seq: int | None
    book: str
    mid_price: float | None
    spread_bps: float | None
    micro_price: float | None
    imbalance: float | None
    bids: list[Level]
    asks: list[Level]
    buy: Cost | None
    sell: Cost | None


class Stage(msgspec.Struct, frozen=True):
    """One link of the chain.

    Attributes:
        runbook: Its anchor, for ``market://runbook/ANCHOR``; '' where nothing is wrong.
    """

    stage: str
    state: str
    note: str
    runbook: str


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The chain from feed to reader; ``symbols`` counts them by state."""

    now_ms: int
    state: str
    stages: list[Stage]
    symbols: dict[str, int]


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a tool gave no answer, and what to do about it."""

    code: str
    message: str
    retry_after_ms: int | None = None
    suggestions: list[str] = []


# --- schemas -------------------------------------------------------------------------------------

_KEPT: Final = frozenset(
    {
        "type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "maxLength",
        "minItems", "maxItems", "default",
    }
)  # fmt: skip


def arguments_schema(type_: type[msgspec.Struct]) -> dict[str, Any]:
    """JSON Schema of a tool's arguments, draft 2020-12: no titles, no prose."""
    schema, definitions = _schema(type_)
    return _slim(schema, definitions, bounds=True)


def result_schema(
    type_: type[msgspec.Struct], names: tuple[str, ...], required: tuple[str, ...]
) -> dict[str, Any]:
    """JSON Schema of what a tool gives, as much of it as a client keys on.

    The whole contract is in an agent's context before its first question, so what names and
    values say for themselves is left out; a result may have more members than its schema names.

    Args:
        type_: What results are made of.
        names: Members to name, in this order.
        required: Those that are said to be always there.
    """
    schema, definitions = _schema(type_)
    made = _slim(schema, definitions, bounds=False)
    return {
        "type": "object",
        "properties": {name: made["properties"][name] for name in names},
        "required": list(required),
    }


def _schema(type_: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), definitions = msgspec.json.schema_components([type_])
    return _resolved(schema, definitions), definitions


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]]
    return node


def _slim(node: dict[str, Any], definitions: dict[str, Any], *, bounds: bool) -> dict[str, Any]:
    node = _resolved(node, definitions)
    choices = node.get("anyOf", [])
    if choices:
        # Whatever may be null here is one thing or null.
        [one] = [choice for choice in choices if choice != {"type": "null"}]
        made = _slim(one, definitions, bounds=bounds)
        return {**made, "type": [made["type"], "null"]}
    if "enum" in node and not bounds:
        return {"type": "string"}
    made = {key: value for key, value in node.items() if key in _KEPT and (bounds or key == "type")}
    for name, inner in node.get("properties", {}).items():
        made.setdefault("properties", {})[name] = _slim(inner, definitions, bounds=bounds)
    if bounds:
        if node.get("required"):
            made["required"] = node["required"]
        made |= {"additionalProperties": False} if made.get("type") == "object" else {}
    items = node.get("items") or node.get("prefixItems", [None])[0]
    if items:
        made["items"] = _slim(items, definitions, bounds=bounds)
    return made
