"""Each symbol as it is judged: who writes it, and how old its newest report is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from serving.reader import STALE_MS
from serving.status.facts import Facts, SymbolFacts
from serving.status.models import FeedSight, FeedState, State, SymbolSight
from serving.status.words import RUNBOOKS, ago

AGED_MS: Final = 1_000
"""Older data than this is degraded, as to the writer."""

SYMBOLS_MAX: Final = 2_000


def symbols_of(facts: Facts, feeds: Mapping[str, FeedSight]) -> list[SymbolSight]:
    """Symbols that are followed, written or stored; of others Redis keeps no more than their order."""
    by_symbol: dict[str, list[FeedSight]] = {}
    for feed in feeds.values():
        by_symbol.setdefault(feed.symbol, []).append(feed)
    known = {name for name, one in facts.symbols.items() if one.owner or one.stored}
    names = sorted(known | by_symbol.keys())[:SYMBOLS_MAX]
    nothing = SymbolFacts()
    return [
        _symbol(facts, name, facts.symbols.get(name, nothing), by_symbol.get(name, []))
        for name in names
    ]


def _symbol(facts: Facts, name: str, one: SymbolFacts, feeds: Sequence[FeedSight]) -> SymbolSight:
    report = one.report
    data_age_ms = report.data_age_ms if report else None
    state, sentence, anchor = _judged(one, data_age_ms, feeds)
    return SymbolSight(
        symbol=name,
        state=state,
        sentence=sentence,
        runbook=f"{RUNBOOKS}{anchor}" if anchor else "",
        owner=one.owner,
        token=one.token,
        seq=one.seq,
        lease_ms=one.lease_ms,
        report_age_ms=max(0, facts.at_ms - one.updated_at) if one.updated_at else None,
        data_age_ms=data_age_ms,
        partition=one.partition,
        offset=one.offset,
        feeds=[FeedState(stream_id=feed.stream_id, state=feed.state) for feed in feeds],
    )


def _judged(
    one: SymbolFacts, data_age_ms: int | None, feeds: Sequence[FeedSight]
) -> tuple[State, str, str]:
    if not one.stored:
        return "down", "no report is stored", "reports-not-generated"
    if one.report is None:
        return "down", "what is stored is no report", "reports-not-generated"
    if data_age_ms is None:
        return "down", "its report is of no data yet", "reports-not-generated"
    if data_age_ms > STALE_MS:
        return "down", f"stale: its newest data is {ago(data_age_ms)} old", "reports-not-generated"
    if not one.owner:
        return "degraded", "nobody holds its lease", "symbol-without-a-writer"
    if data_age_ms > AGED_MS:
        return "degraded", f"its newest data is {ago(data_age_ms)} old", "slow-cycle-lagging"
    if one.book not in ("", "ok"):
        why = f": {one.reason}" if one.reason else ""
        return "degraded", f"its book is {one.book}{why}", "venue-or-key-rejected"
    ill = [feed for feed in feeds if feed.state != "ok"]
    if ill:
        return "degraded", f"{ill[0].stream_id}: {ill[0].sentence}", "venue-or-key-rejected"
    return "ok", "", ""
