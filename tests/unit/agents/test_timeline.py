"""One symbol on a virtual clock: grid times, batches, ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.schedule import phase_ms
from agents.timeline import IDLE_MAX_MS, PENDING_MAX, Plan, Record, Timeline
from streams import events
from tables.engine import Engine
from tables.report import Position, Report, Source, Writer, compose, encode_report
from tests.support.tape import START_MS, SYMBOL, VENUE, Tape, opened, random_tape

WHOLE = 1 << 30
FAST, SLOW = Plan().report_period_ms, Plan().slow_period_ms
WARM_UP_MS = 35 * 60 * 1000


def run(batches: Sequence[Sequence[Record]], plan: Plan | None = None) -> list[Report]:
    timeline = Timeline(SYMBOL, VENUE, plan or Plan())
    reports = [report for batch in batches for report in timeline.feed(batch)]
    return [*reports, *timeline.finish()]


def lines(reports: Sequence[Report]) -> list[bytes]:
    return [encode_report(report, WHOLE)[0] for report in reports]


@cache
def lively() -> list[Record]:
    return random_tape(5, 200).records


@cache
def whole(seed: int = 5) -> list[bytes]:
    return lines(run([random_tape(seed, 200).records]))


def one_by_one(records: Sequence[Record]) -> list[bytes]:
    """The clock rule as the manual has it: every grid time of its own, every record by itself."""
    engine = Engine(SYMBOL, VENUE)
    reports: list[Report] = []
    slow = None
    times = [events.decode(raw).ts_recv_ms for _, raw in records]
    phases = phase_ms(SYMBOL, FAST), phase_ms(SYMBOL, SLOW)
    taken = 0

    def at(now_ms: int) -> Position:
        return Position("capture", 0, engine.applied, now_ms)

    for now_ms in range(times[0] + 1, max(times) + 1):
        is_fast = (now_ms - phases[0]) % FAST == 0
        is_slow = (now_ms - phases[1]) % SLOW == 0
        if not is_fast and not is_slow:
            continue
        while taken < len(records) and times[taken] <= now_ms:
            engine.apply([records[taken]])
            taken += 1
        if is_slow or slow is None:
            slow = engine.slow_report(now_ms), at(now_ms)
        if is_fast:
            reports.append(
                compose(
                    engine.fast_report(now_ms),
                    slow[0],
                    writer=Writer("replay", 0),
                    seq=now_ms // FAST,
                    updated_at=now_ms,
                    source=Source(at(now_ms), slow[1]),
                )
            )
    return lines(reports)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_reports_are_those_of_the_rule_applied_step_by_step(seed: int) -> None:
    records = random_tape(seed, 150).records
    assert lines(run([records])) == one_by_one(records)


@given(cuts=st.lists(st.integers(0, 220), max_size=12))
@settings(max_examples=12, deadline=None)
def test_any_batches_give_the_same_bytes(cuts: list[int]) -> None:
    records = lively()
    ends = [0, *sorted(min(cut, len(records)) for cut in cuts), len(records)]
    batches = [records[begin:end] for begin, end in pairwise(ends)]
    assert lines(run(batches)) == whole()


def test_one_record_a_batch_gives_the_same_bytes() -> None:
    assert lines(run([[record] for record in lively()])) == whole()


def test_more_records_than_are_held_back_between_two_grid_times() -> None:
    """They are applied early: memory is bounded, and the report is the same."""
    tape = opened()
    for n in range(PENDING_MAX + 50):
        tape.trade(6_000_000 + n % 7, 10)
    tape.wait(2 * FAST).trade(6_000_000, 10)
    held = Timeline(SYMBOL, VENUE, Plan())
    for record in tape.records[:-1]:
        assert list(held.feed([record])) == []
        assert len(held._pending) < PENDING_MAX
    reports = [*held.feed(tape.records[-1:]), *held.finish()]
    assert lines(reports) == lines(run([tape.records]))


@given(from_at=st.floats(-0.1, 1.1), to_at=st.floats(-0.1, 1.1))
@settings(max_examples=12, deadline=None)
def test_a_range_is_a_piece_of_the_whole(from_at: float, to_at: float) -> None:
    """Byte for byte: order, slow parts and offsets do not tell where the replay began."""
    reports = run([lively()])
    begin, span = reports[0].updated_at, reports[-1].updated_at - reports[0].updated_at
    from_ms, to_ms = (begin + int(span * at) for at in (from_at, to_at))
    piece = run([lively()], Plan(from_ms=from_ms, to_ms=to_ms))
    assert lines(piece) == lines([r for r in reports if from_ms <= r.updated_at < to_ms])


@pytest.mark.slow
def test_35_minutes_of_warm_up_are_enough() -> None:
    """A range read from 35 minutes before it gives the bytes of a replay from the start."""
    tape = random_tape(8, 1800, step_ms=2_700)
    times = [events.decode(raw).ts_recv_ms for _, raw in tape.records]
    plan = Plan(report_period_ms=1000, slow_period_ms=5000)
    from_ms = times[0] + 70 * 60 * 1000
    begin = next(at for at, ts_ms in enumerate(times) if ts_ms >= from_ms - WARM_UP_MS)
    assert begin > 300
    reports = run([tape.records], plan)
    piece = run([tape.records[begin:]], replace(plan, from_ms=from_ms))
    assert len(piece) > 300
    assert lines(piece) == lines([r for r in reports if r.updated_at >= from_ms])


def test_a_report_is_of_the_records_up_to_its_time_and_no_later() -> None:
    """A record at the grid time itself is in, the next millisecond's is out."""
    tape = opened()
    grid_ms = first_grid(tape.now_ms)
    tape.wait(grid_ms - tape.now_ms).trade(6_000_100, 1)
    tape.wait(1).trade(6_000_200, 1)
    (report,) = run([tape.records])
    assert (report.updated_at, report.last_price) == (grid_ms, 60_001.0)
    assert report.source.fast.offset == len(tape.records) - 2
    assert report.source.fast.now_ms == grid_ms


def first_grid(at_ms: int) -> int:
    phase = phase_ms(SYMBOL, FAST)
    return at_ms - (at_ms - phase) % FAST + FAST


def test_alive_marks_move_the_clock_of_a_quiet_market() -> None:
    tape = opened()
    for _ in range(10):
        tape.wait(500).status("alive")
    reports = run([tape.records])
    assert [r.updated_at for r in reports] == list(
        range(first_grid(START_MS), START_MS + 5_000 + 1, FAST)
    )
    assert max(r.data_age_ms or 0 for r in reports) < 500


def test_silence_ages_the_reports_until_the_next_record() -> None:
    tape = opened()
    tape.wait(10_000).trade(6_000_000, 1)
    reports = run([tape.records])
    assert len(reports) == 40
    assert {r.source.fast.offset for r in reports[:-1]} == {1}
    assert (reports[-2].data_age_ms or 0) > 9_000


def test_a_week_without_records_gives_35_minutes_of_reports() -> None:
    """The grid times left out are counted; then it goes on, with a slow part of its own."""
    tape = opened()
    before_ms = tape.now_ms
    tape.wait(7 * 86_400_000).snapshot([(5_999_999, 5)], [(6_000_001, 5)])
    back_ms = tape.now_ms
    tape.wait(1_000).trade(6_000_000, 1)
    timeline = Timeline(SYMBOL, VENUE, Plan())
    reports = [*timeline.feed(tape.records), *timeline.finish()]
    held = [r for r in reports if r.updated_at < back_ms]
    assert held[-1].updated_at == before_ms + IDLE_MAX_MS - 1 - (
        (before_ms + IDLE_MAX_MS - 1 - phase_ms(SYMBOL, FAST)) % FAST
    )
    after = reports[len(held) :]
    assert [r.updated_at for r in after] == list(
        range(first_grid(back_ms), back_ms + 1_000 + 1, FAST)
    )
    assert after[0].source.slow is not None
    assert after[0].source.slow.now_ms == after[0].updated_at
    assert timeline.left_out == (back_ms - held[-1].updated_at) // FAST


def test_a_broken_record_from_the_far_future_does_not_stop_the_clock() -> None:
    """It is counted as failed, and reports go on as if it were not there."""
    tape = opened()
    tape.wait(600).trade(6_000_000, 1)
    broken = Tape(now_ms=START_MS + 10**12)
    sound = [*tape.records]
    tape.raw(broken.trade(6_000_000, 1).replace(b'"v":1', b'"v":9'))
    tape.wait(600).trade(6_000_010, 1)
    timeline = Timeline(SYMBOL, VENUE, Plan())
    reports = [*timeline.feed(tape.records), *timeline.finish()]
    assert timeline.failed == {"unknown_version": 1}
    assert len(sound) == 3
    assert [r.updated_at for r in reports] == list(
        range(first_grid(START_MS), START_MS + 1_200 + 1, FAST)
    )


def test_a_broken_first_record_does_not_start_the_clock() -> None:
    tape = Tape()
    tape.raw(b"{")
    tape.wait(1000)
    tape.instrument()
    tape.wait(1000).trade(6_000_000, 1)
    reports = run([tape.records])
    assert reports[0].updated_at == first_grid(START_MS + 1000)


def test_behind_the_end_of_the_range_nothing_is_applied() -> None:
    records = lively()
    to_ms = START_MS + 20_000
    timeline = Timeline(SYMBOL, VENUE, Plan(to_ms=to_ms))
    reports = [*timeline.feed(records), *timeline.finish()]
    assert timeline.done
    assert reports[-1].updated_at < to_ms
    assert timeline.engine.newest_ms <= to_ms + FAST


def test_periods_shift_by_symbol_as_a_worker_s_do() -> None:
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        timeline = Timeline(symbol, VENUE, Plan())
        tape = opened().wait(5_000)
        tape.trade(6_000_000, 1)
        records = [(at, raw.replace(b"BTCUSDT", symbol.encode())) for at, raw in tape.records]
        reports = [*timeline.feed(records), *timeline.finish()]
        assert {(r.updated_at - phase_ms(symbol, FAST)) % FAST for r in reports} == {0}
        slow = {r.source.slow.now_ms for r in reports[8:] if r.source.slow}
        assert {(ms - phase_ms(symbol, SLOW)) % SLOW for ms in slow} == {0}
