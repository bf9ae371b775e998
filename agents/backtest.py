"""Strategies on recorded markets: the worker's engine on a virtual clock, in one process.

Usable without Kafka and without Redis::

    from agents.backtest import run_backtest
    from tables.report import Report

    def strategy(item, context):
        if isinstance(item, Report) and item.micro_price is not None:
            ...

    run_backtest(["btcusdt_20240808.gz"], strategy)

A strategy is given what a live reader could have had by then and never anything later: each
event as it is received, and each report before the first record that its time leaves out. The
clock rule is that of `agents.timeline`: a symbol's reports do not depend on who else is on the tape.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import cast

from agents.timeline import Plan, Timeline
from streams import events
from streams.capture.records import Placed, TapeRecords
from streams.events import KINDS, Event
from streams.record_time import recv_ms
from tables.report import Report
from tapeline.errors import ConfigError, RecordError

Source = Iterable[Placed] | Iterable[str | Path]
"""Records as (symbol, offset, value), each symbol's in the order of its offsets; or capture files,
in the order they were recorded."""

Item = Event | Report


@dataclass(slots=True)
class Context:
    """What a strategy may look at beside the item it is given.

    Attributes:
        symbol: Whose item it is.
        now_ms: Its time: ``ts_recv_ms`` of an event, the grid time of a report.
        offset: Of the event, or of the newest record in the report.
        reports: Newest report of each symbol.
        state: The strategy's own, untouched.
    """

    symbol: str = ""
    now_ms: int = 0
    offset: int = -1
    reports: dict[str, Report] = field(default_factory=dict)
    state: dict[str, object] = field(default_factory=dict)


Strategy = Callable[[Item, Context], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a backtest went through.

    Attributes:
        records, events, reports: How many; events are those that the strategy was given.
        first_ms, last_ms: Times of the first and the last item; None without any.
        context: As the strategy left it.
    """

    records: int
    events: int
    reports: int
    first_ms: int | None
    last_ms: int | None
    context: Context


def backtest(
    source: Source,
    *,
    plan: Plan | None = None,
    venue: str = "binance",
    symbols: Collection[str] | None = None,
    kinds: Collection[str] = KINDS,
) -> Iterator[tuple[int, int, Item]]:
    """Yield (time in ms, offset, item): events and reports, each symbol's in order of time.

    Across symbols the order is that of the source: a report waits for its own symbol's next
    record, and is late, never early, beside the others.

    Args:
        source: Records, or capture files.
        plan: Periods, thresholds and range; the defaults are those of a worker's settings.
        venue: Whose market it is; records of others are skipped, as a worker skips them.
        symbols: Only these; all if None.
        kinds: Of events to yield. Engines see all; with none, nothing is decoded twice.

    Raises:
        ConfigError: A kind that there is not, or no adapter for the venue's captures.
        CaptureError: A capture can't be read.
    """
    plan = plan or Plan()
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ConfigError("kinds", unknown[0], f"kinds out of {', '.join(KINDS)}")
    wanted = None if symbols is None else frozenset(symbols)
    shown = frozenset(kinds)
    begin_ms = float("-inf") if plan.from_ms is None else plan.from_ms
    end_ms = float("inf") if plan.to_ms is None else plan.to_ms
    timelines: dict[str, Timeline] = {}
    for symbol, offset, raw in _placed(source, venue):
        timeline = timelines.get(symbol)
        if timeline is None:
            if wanted is not None and symbol not in wanted:
                continue
            timeline = timelines[symbol] = Timeline(symbol, venue, plan)
        ts_ms = recv_ms(raw)
        if ts_ms > timeline.due_ms:
            for report in timeline.advance(ts_ms, raw):
                yield report.updated_at, report.source.fast.offset, report
        elif ts_ms > timeline.clock_ms:
            timeline.clock_ms = ts_ms
        timeline.hold(((offset, raw),))
        if shown and begin_ms <= ts_ms < end_ms:
            event = _event(raw)
            if event is not None and events.kind_of(event) in shown:
                yield ts_ms, offset, event
    for timeline in timelines.values():
        for report in timeline.finish():
            yield report.updated_at, report.source.fast.offset, report


def run_backtest(
    source: Source,
    strategy: Strategy,
    *,
    plan: Plan | None = None,
    venue: str = "binance",
    symbols: Collection[str] | None = None,
    kinds: Collection[str] = KINDS,
) -> Outcome:
    """Give ``strategy(item, context)`` each event and each report.

    Args:
        source: As of `backtest`, and so are the others.
        strategy: Called with an event of `streams.events` or a `tables.report.Report`.
        plan: Periods, thresholds and range.
        venue: Whose market it is.
        symbols: Only these; all if None.
        kinds: Of events to give.

    Raises:
        ConfigError: As of `backtest`.
        CaptureError: A capture can't be read.
    """
    context = Context()
    counted = 0
    seen = {"events": 0, "reports": 0}
    first_ms = last_ms = None

    def counting() -> Iterator[Placed]:
        nonlocal counted
        for record in _placed(source, venue):
            counted += 1
            yield record

    for now_ms, offset, item in backtest(
        counting(), plan=plan, venue=venue, symbols=symbols, kinds=kinds
    ):
        context.symbol, context.now_ms, context.offset = item.symbol, now_ms, offset
        if isinstance(item, Report):
            context.reports[item.symbol] = item
            seen["reports"] += 1
        else:
            seen["events"] += 1
        first_ms = now_ms if first_ms is None else first_ms
        last_ms = now_ms
        strategy(item, context)
    return Outcome(counted, seen["events"], seen["reports"], first_ms, last_ms, context)


def _placed(source: Source, venue: str) -> Iterator[Placed]:
    """Records of either kind of source."""
    items = iter(source)
    first = next(items, None)
    if first is None:
        return iter(())
    if isinstance(first, str | Path):
        names = chain([first], cast("Iterator[str | Path]", items))
        return TapeRecords(venue, [Path(name) for name in names]).play()
    return chain([first], cast("Iterator[Placed]", items))


def _event(raw: bytes) -> Event | None:
    try:
        return events.decode(raw)
    except RecordError:
        return None


__all__ = ["Context", "Item", "Outcome", "Plan", "Source", "Strategy", "backtest", "run_backtest"]
