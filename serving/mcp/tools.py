"""The tools as a client sees them: names, words, schemas, and the scope that each needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from serving.mcp import contract as c

READS_REPORTS: Final = "reports:read"
READS_TICKS: Final = "ticks:read"
READS_STATUS: Final = "status:read"


@dataclass(frozen=True, slots=True)
class Offer:
    """One tool.

    Attributes:
        name: What it is called by.
        says: What it is for, in the fewest words that an agent chooses rightly by.
        takes: Type of its arguments.
        scope: What a key must have.
        gives: JSON Schema of its results.
        hints: Words beside arguments whose names do not say it all.
    """

    name: str
    says: str
    takes: type[msgspec.Struct]
    scope: str
    gives: dict[str, Any]
    hints: dict[str, str]

    def arguments(self) -> dict[str, Any]:
        """JSON Schema of the arguments, with the hints in it."""
        schema = c.arguments_schema(self.takes)
        for name, hint in self.hints.items():
            schema["properties"][name]["description"] = hint
        return schema


def _book() -> dict[str, Any]:
    schema = c.result_schema(
        c.BookAnswer,
        ("read", "book", "mid_price", "imbalance", "bids", "asks", "buy", "sell"),
        ("read", "book", "bids", "asks"),
    )
    for name in ("read", "buy", "sell"):
        # Said once, with get_report, and by their own names.
        schema["properties"][name].pop("properties")
    return schema


def _wait() -> dict[str, Any]:
    schema = c.result_schema(
        c.WaitAnswer, ("matched", "read", "report"), ("matched", "read", "report")
    )
    schema["properties"]["read"].pop("properties")
    return schema


OFFERS: Final = {
    offer.name: offer
    for offer in (
        Offer(
            name="get_report",
            says="A symbol's market report, its age first; null where none is stored. fast: "
            "prices, depth, flow, health. slow: volume profile, walls, anomalies. full: all of "
            f"{c.SCHEMA_URI}.",
            takes=c.GetReport,
            scope=READS_REPORTS,
            gives=c.result_schema(
                c.ReportAnswer,
                ("read", "why", "as_of_ms", "writer_token", "seq", "gaps", "coverage", "report"),
                ("read", "report"),
            ),
            hints={"max_age_ms": "refuse older data"},
        ),
        Offer(
            name="list_symbols",
            says="All symbols with state and data age. gap: book broken; down: no report or writer.",
            takes=c.ListSymbols,
            scope=READS_REPORTS,
            gives=c.result_schema(
                c.SymbolList, ("symbols", "next_cursor"), ("symbols", "next_cursor")
            ),
            hints={"query": "part of the name"},
        ),
        Offer(
            name="compare_reports",
            says="Fields of several symbols at one moment, as a table; use it to rank.",
            takes=c.CompareReports,
            scope=READS_REPORTS,
            gives=c.result_schema(c.Comparison, ("fields", "rows", "missing"), ("fields", "rows")),
            hints={"fields": "e.g. spread_bps, depth.imbalance"},
        ),
        Offer(
            name="get_order_book",
            says="Top of book: levels, imbalance, micro price, cost of trading a notional.",
            takes=c.GetOrderBook,
            scope=READS_TICKS,
            gives=_book(),
            hints={"bucket_bps": "group levels", "notional": "quote units"},
        ),
        Offer(
            name="wait_for_report",
            says="Waits for a report newer than after_seq that satisfies when; else matched is false.",
            takes=c.WaitForReport,
            scope=READS_REPORTS,
            gives=_wait(),
            hints={"when": "e.g. spread_bps > 5"},
        ),
        Offer(
            name="get_service_status",
            says="Whether feed, topic, workers, Redis and reader work; which runbook helps.",
            takes=c.GetServiceStatus,
            scope=READS_STATUS,
            gives=c.result_schema(
                c.StatusAnswer, ("state", "stages", "symbols"), ("state", "stages")
            ),
            hints={},
        ),
    )
}
"""Every tool by name, in the order that they are listed."""
