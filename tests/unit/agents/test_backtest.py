"""Backtests: what a strategy is given, and when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.backtest import Context, Item, Plan, backtest, run_backtest
from agents.timeline import Timeline
from streams import events
from streams.capture.formats import CaptureError, CaptureWriter
from streams.capture.records import Placed
from streams.simulator.tape import simulated_records
from tables.report import Report, encode_report
from tapeline.errors import ConfigError
from tests.support.tape import SYMBOL, VENUE, random_tape

WHOLE = 1 << 30
OTHER = "ETHUSDT"


def placed(seed: int, steps: int, symbol: str = SYMBOL) -> list[Placed]:
    records = random_tape(seed, steps).records
    return [(symbol, at, raw.replace(SYMBOL.encode(), symbol.encode())) for at, raw in records]


def reports_of(source: list[Placed], symbol: str = SYMBOL) -> list[bytes]:
    return [
        encode_report(item, WHOLE)[0]
        for _, _, item in backtest(source, kinds=())
        if isinstance(item, Report) and item.symbol == symbol
    ]


def test_reports_are_those_of_a_timeline() -> None:
    source = placed(4, 300)
    timeline = Timeline(SYMBOL, VENUE, Plan())
    fed = [*timeline.feed([(at, raw) for _, at, raw in source]), *timeline.finish()]
    assert reports_of(source) == [encode_report(report, WHOLE)[0] for report in fed]


@given(order=st.randoms(use_true_random=False))
@settings(max_examples=5, deadline=None)
def test_other_symbols_on_the_tape_change_nothing(order) -> None:  # type: ignore[no-untyped-def]
    """However their records lie between."""
    ours, others = placed(4, 200), placed(9, 200, OTHER)
    mixed: list[Placed] = []
    queues = [list(reversed(ours)), list(reversed(others))]
    while any(queues):
        queue = order.choice([q for q in queues if q])
        mixed.append(queue.pop())
    assert reports_of(mixed) == reports_of(ours)
    assert reports_of(mixed, OTHER) == reports_of(others, OTHER)


def test_nothing_is_given_before_its_time() -> None:
    """Items of a symbol rise in time, and a report has every event up to its time before it."""
    seen: list[tuple[int, Item]] = []

    def strategy(item: Item, context: Context) -> None:
        seen.append((context.now_ms, item))
        if isinstance(item, Report):
            assert context.reports[item.symbol] is item
            newest = max(ms for ms, one in seen if not isinstance(one, Report))
            assert newest <= context.now_ms

    outcome = run_backtest(placed(6, 300), strategy)
    times = [ms for ms, item in seen]
    assert times == sorted(times)
    assert outcome.events == sum(not isinstance(item, Report) for _, item in seen) > 250
    assert outcome.reports == len(seen) - outcome.events > 100
    assert outcome.records == outcome.events
    assert (outcome.first_ms, outcome.last_ms) == (times[0], times[-1])


def test_kinds_and_symbols_are_chosen_and_reports_stay_the_same() -> None:
    source = [*placed(4, 200), *placed(9, 50, OTHER)]
    kinds: set[str] = set()
    reports: list[bytes] = []

    def strategy(item: Item, context: Context) -> None:
        assert context.symbol == SYMBOL
        if isinstance(item, Report):
            reports.append(encode_report(item, WHOLE)[0])
        else:
            kinds.add(events.kind_of(item))

    run_backtest(source, strategy, kinds=["trade"], symbols=[SYMBOL])
    assert kinds == {"trade"}
    assert reports == reports_of(placed(4, 200))


def test_events_and_reports_are_those_of_the_range() -> None:
    """From its beginning up to but without its end."""
    source = placed(6, 300)
    times = [events.decode(raw).ts_recv_ms for _, _, raw in source]
    begin, end = times[100], times[200]
    items = list(backtest(source, plan=Plan(from_ms=begin, to_ms=end)))
    seen = [ms for ms, _, item in items if not isinstance(item, Report)]
    assert seen == [ms for ms in times if begin <= ms < end]
    assert all(begin <= ms < end for ms, _, _ in items)


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="kinds is 'trades'; expected kinds out of instrument"):
        list(backtest([], kinds=["trades"]))


def test_an_empty_source_gives_nothing() -> None:
    assert list(backtest([])) == []


def test_a_capture_file_is_a_source(tmp_path: Path) -> None:
    """Named as text or as a path; one that can't be read is said by its name."""
    path = tmp_path / "empty.jsonl.gz"
    with CaptureWriter(path, venue="binance"):
        pass
    assert list(backtest([str(path)])) == []
    with pytest.raises(CaptureError, match="missing"):
        list(backtest([tmp_path / "missing.gz"]))


def test_the_simulator_s_tape_is_the_same_on_each_run() -> None:
    first, again = (list(simulated_records([SYMBOL, OTHER], seconds=5)) for _ in range(2))
    assert first == again
    assert {symbol for symbol, _, _ in first} == {SYMBOL, OTHER}
    for symbol in (SYMBOL, OTHER):
        offsets = [at for name, at, _ in first if name == symbol]
        assert offsets == list(range(len(offsets)))
    assert len(reports_of(first)) > 10


def test_no_kafka_and_no_redis_is_needed() -> None:
    """Neither is imported."""
    done = subprocess.run(
        [sys.executable, "-c", "import agents.backtest, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "tables" in loaded
    assert not loaded & {"faust", "redis", "mode"}, loaded & {"faust", "redis", "mode"}
