"""Stored reports and ticks as answers: what is said of them, and in which words. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from serving.directory import SymbolRow as Listed
from serving.mcp.condition import value_at
from serving.mcp.contract import (
    CompareRow,
    Comparison,
    Detail,
    Kind,
    Read,
    ReportAnswer,
    SymbolRow,
    WaitAnswer,
)
from serving.reader import STALE_MS, StoredReport

NONE_STORED: Final = "no report is stored: none was written yet, or the last one expired"
STEPPED_BACK: Final = (
    "the store holds an older report than one that was given before; the next write mends it"
)

QUOTED_MAX: Final = 120
LISTED_MAX: Final = 3
"""Walls, vacuums and findings in a summary; the report itself has them all."""

FAST_FIELDS: Final = (
    "venue", "data_age_ms", "last_price", "change_24h_pct", "best_bid", "best_ask", "spread_bps",
    "mid_price", "micro_price", "synthetic",
)  # fmt: skip
FAST_PARTS: Final = {
    "ingestion": ("status", "book"),
    "depth": ("imbalance", "total_bid_qty", "total_ask_qty"),
    "flow": ("net_flow", "buy_volume", "sell_volume", "trade_count"),
    "health": ("score",),
}
COMPARED: Final = ("last_price", "spread_bps", "depth.imbalance", "flow.net_flow", "health.score")
"""What is compared unless fields are named."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def decoded(report: StoredReport) -> dict[str, Any]:
    """The stored object."""
    return _decode(report.payload)


def quoted(text: str) -> str:
    """A venue's words as data: in quotes, short, with nothing in it that a terminal or a model
    could take for more than words.
    """
    plain = "".join(
        char if unicodedata.category(char)[0] not in {"C", "Z"} else " " for char in text
    )
    plain = re.sub(r"\s+", " ", plain).strip().replace('"', "'").replace("`", "'")
    return f'"{plain if len(plain) <= QUOTED_MAX else plain[: QUOTED_MAX - 1] + "…"}"'


def read_of(report: StoredReport | None, now_ms: int) -> Read:
    """The ages of a report that was read; of none, what is known of it."""
    if report is None:
        return Read(now_ms, None, None, stale=True)
    return Read(now_ms, report.age_ms, report.data_age_ms, report.stale)


def why(report: StoredReport, body: Mapping[str, Any]) -> str:
    """Why a report is stale or to be used with care; '' where nothing is to be said."""
    said = []
    if report.stale:
        said.append(_why_stale(report, body))
    ingestion = body["ingestion"]
    if ingestion["book"] != "ok":
        reason = f": {quoted(ingestion['reason'])}" if ingestion["reason"] else ""
        said.append(f"book is {ingestion['book']}{reason}")
    if body["heavy"]:
        said.append("depth, liquidity and anomalies are too long for the report")
    return "; ".join(said)


def _why_stale(report: StoredReport, body: Mapping[str, Any]) -> str:
    if report.data_age_ms is None:
        return "stale: no record of the venue has been received"
    if report.age_ms > STALE_MS:
        return f"stale: its writer wrote nothing for {_duration(report.age_ms)}"
    feed = body["ingestion"]["feed"]
    heard = f" (feed: {feed})" if feed else ""
    return f"stale: nothing was received from the venue for {_duration(report.data_age_ms)}{heard}"


def answer(
    symbol: str,
    report: StoredReport | None,
    kind: Kind,
    detail: Detail,
    now_ms: int,
    none: str,
    whole: dict[str, Any] | None = None,
) -> ReportAnswer:
    """A report as `get_report` gives it.

    Args:
        symbol: Whose.
        report: What was read.
        kind: Which part of it is summed up.
        detail: ``full`` gives the stored object as it is, whatever the kind.
        now_ms: The moment of reading.
        none: Why there is none, where there is none.
        whole: What is summed up, where that is more than the stored object.
    """
    return ReportAnswer(**_members(symbol, report, kind, detail, now_ms, none, whole))


def wait_answer(
    symbol: str, report: StoredReport | None, now_ms: int, none: str, *, matched: bool
) -> WaitAnswer:
    """A report as `wait_for_report` gives it: the fast part, summed up."""
    return WaitAnswer(**_members(symbol, report, "fast", "summary", now_ms, none), matched=matched)


def _members(
    symbol: str,
    report: StoredReport | None,
    kind: Kind,
    detail: Detail,
    now_ms: int,
    none: str,
    whole: dict[str, Any] | None = None,
) -> dict[str, Any]:
    read = read_of(report, now_ms)
    if report is None:
        empty = dict.fromkeys(("as_of_ms", "writer_token", "seq", "gaps", "coverage", "report"))
        return {"read": read, "why": none, "symbol": symbol, **empty}
    body = whole or decoded(report)
    source = body["source"][kind]
    return {
        "read": read,
        "why": why(report, body),
        "symbol": symbol,
        "as_of_ms": source["now_ms"] if source else None,
        "writer_token": report.token,
        "seq": report.seq,
        "gaps": body["gaps"]["count"],
        "coverage": body["coverage"]["flow_30s" if kind == "fast" else "profile_30min"],
        "report": body if detail == "full" else summed_up(body, kind),
    }


def summed_up(body: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Some fields of a report, where they stand in it and as exact."""
    if kind == "slow":
        return _slow_summed_up(body)
    found: dict[str, Any] = {name: body[name] for name in FAST_FIELDS}
    for part, names in FAST_PARTS.items():
        inner = body[part]
        found[part] = None if inner is None else {name: inner[name] for name in names}
    return found


def _slow_summed_up(body: Mapping[str, Any]) -> dict[str, Any]:
    liquidity, anomalies = body["liquidity"], body["anomalies"]
    found: dict[str, Any] = {"venue": body["venue"], "liquidity": None, "anomalies": None}
    if liquidity is not None:
        found["liquidity"] = {
            "volume_profile": liquidity["volume_profile"],
            "walls": liquidity["walls"][:LISTED_MAX],
            "vacuums": liquidity["vacuums"][:LISTED_MAX],
        }
        found["counts"] = {name: len(liquidity[name]) for name in ("walls", "vacuums")}
    if anomalies is not None:
        found["anomalies"] = anomalies[:LISTED_MAX]
        found.setdefault("counts", {})["anomalies"] = len(anomalies)
    return found


def in_words(found: ReportAnswer, kind: Kind) -> str:
    """Two lines: how far it can be trusted, and what it says."""
    if found.report is None:
        return f"{found.symbol}: {found.why}."
    read = found.read
    age = "no data yet" if read.data_age_ms is None else f"data {_duration(read.data_age_ms)} old"
    trust = f"{'STALE' if read.stale else 'Fresh'}: {age}; seq {found.seq}"
    trust += f", gaps {found.gaps}" if found.gaps else ""
    trust += f". {found.why}" if found.why else ""
    words = _slow_words(found.report) if kind == "slow" else _fast_words(found.report)
    return f"{trust}.\n{found.symbol} {words}."


def _fast_words(body: Mapping[str, Any]) -> str:
    said = ["simulated" if body["synthetic"] else "", body["venue"]]
    if body["mid_price"] is None:
        said.append("no book")
    else:
        said.append(f"mid {number(body['mid_price'])}, spread {number(body['spread_bps'])} bps")
    if body["last_price"] is not None:
        said.append(f"last {number(body['last_price'])}")
    said.append(f"net flow {number(body['flow']['net_flow'])} in 30 s")
    return ", ".join(filter(None, said))


def _slow_words(body: Mapping[str, Any]) -> str:
    liquidity, anomalies = body["liquidity"], body["anomalies"]
    if liquidity is None:
        return "has no slow part in it yet"
    profile = liquidity["volume_profile"]
    said = (
        f"POC {number(profile['POC'])}, value {number(profile['VAL'])} to {number(profile['VAH'])}"
        if profile
        else "no volume profile yet"
    )
    types = ", ".join(sorted({finding["type"] for finding in anomalies or ()})) or "none"
    walls, vacuums = len(liquidity["walls"]), len(liquidity["vacuums"])
    return f"{said}; walls {walls}, vacuums {vacuums}; findings: {types}"


# --- several symbols -----------------------------------------------------------------------------


def row(one: Listed) -> SymbolRow:
    """A symbol as lists show it: its data's age, as that is what it can be trusted by."""
    return SymbolRow(one.symbol, one.venue or "", one.state, one.data_age_ms, one.seq)


def compared(
    reports: Mapping[str, StoredReport | None], fields: Sequence[str], now_ms: int
) -> Comparison:
    """Fields of several reports, in the order that symbols were asked for."""
    rows, moments = [], []
    for symbol, report in reports.items():
        if report is None:
            continue
        body = decoded(report)
        moments.append(body["source"]["fast"]["now_ms"])
        values = [value_at(body, field) for field in fields]
        rows.append(CompareRow(symbol, report.data_age_ms, report.stale, report.seq, values))
    return Comparison(
        now_ms=now_ms,
        skew_ms=max(moments) - min(moments) if moments else 0,
        fields=list(fields),
        rows=rows,
        missing=[symbol for symbol, report in reports.items() if report is None],
    )


def number(value: float | None) -> str:
    """A number in a sentence: six digits, the object beside it has them all."""
    return "unknown" if value is None else f"{value:,.6g}".replace(",", "")


def value_in_words(value: Any) -> str:
    """A field's value in a sentence."""
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        return quoted(str(value))
    return number(value)


def _duration(ms: int) -> str:
    if ms < 1000:
        return f"{ms} ms"
    return f"{ms / 1000:.1f} s" if ms < 600_000 else f"{ms // 60_000} min"
