"""The engine: what a report owes to the records, and to nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.events import BookDelta
from tables.engine import ENGINE_VERSION, Engine
from tables.parameters import Parameters
from tapeline.errors import SnapshotError
from tests.support.tape import START_MS, SYMBOL, VENUE, Record, Tape, opened, random_tape

SEEDS = st.integers(0, 2**32)


def engine(records: list[Record] | None = None) -> Engine:
    made = Engine(SYMBOL, VENUE)
    if records:
        made.apply(records)
    return made


def reports(one: Engine, now_ms: int) -> tuple[object, object]:
    return one.fast_report(now_ms), one.slow_report(now_ms)


# --- equal by construction ---------------------------------------------------------------------


@given(seed=SEEDS, cut=st.integers(0, 200), late_ms=st.integers(0, 3_000_000))
@settings(max_examples=60, deadline=None)
def test_a_snapshot_taken_anywhere_and_restored_ends_equal(
    seed: int, cut: int, late_ms: int
) -> None:
    """Cut the tape, go through bytes, go on: the same state and the same reports."""
    records = random_tape(seed, 150).records
    whole = engine(records)
    half = Engine.restore(engine(records[:cut]).snapshot())
    half.apply(records[cut:])
    assert half.snapshot() == whole.snapshot()
    now_ms = whole.newest_ms + late_ms
    assert reports(half, now_ms) == reports(whole, now_ms)
    assert half.tick(1, 1) == whole.tick(1, 1)


@given(seed=SEEDS, sizes=st.lists(st.integers(1, 40), min_size=1))
@settings(max_examples=40, deadline=None)
def test_how_records_are_batched_makes_no_difference(seed: int, sizes: list[int]) -> None:
    """One by one, or many at once."""
    records = random_tape(seed, 120).records
    batched = engine()
    at = 0
    while at < len(records):
        size = sizes[at % len(sizes)]
        batched.apply(records[at : at + size])
        at += size
    assert batched.snapshot() == engine(records).snapshot()


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_reports_between_any_two_records_leave_the_state_alone(seed: int) -> None:
    """Reading is free: at any time, for any time."""
    records = random_tape(seed, 60).records
    asked = engine()
    for record in records:
        before = asked.snapshot()
        for now_ms in (0, asked.newest_ms, asked.newest_ms + 700, asked.newest_ms + 10**7):
            reports(asked, now_ms)
            asked.tick(1, 1)
        assert asked.snapshot() == before
        asked.apply([record])
    assert asked.snapshot() == engine(records).snapshot()


@given(seed=SEEDS, extra_min=st.integers(0, 20))
@settings(max_examples=8, deadline=None)
def test_an_engine_started_35_minutes_back_equals_one_from_the_start(
    seed: int, extra_min: int
) -> None:
    """Finite memory: what is older has no effect whatever."""
    steps = (40 + extra_min) * 60 // 3
    tape = random_tape(seed, steps, step_ms=3000)
    whole = engine(tape.records)
    starts = [
        at
        for at, (_, raw) in enumerate(tape.records)
        if _ts_recv_ms(raw) >= whole.newest_ms - 35 * 60_000
    ]
    assert starts[0] > 0
    late = engine(tape.records[starts[0] :])
    for now_ms in (whole.newest_ms, whole.newest_ms + 5_000, whole.newest_ms + 900_000):
        assert reports(late, now_ms) == reports(whole, now_ms)
    assert late.snapshot() == whole.snapshot()


def _ts_recv_ms(raw: bytes) -> int:
    return int(raw.split(b'"ts_recv_ms":')[1].split(b",")[0])


def test_redelivered_records_change_nothing() -> None:
    """The applied offset is the gate."""
    records = random_tape(1, 100).records
    one = engine(records)
    before = one.snapshot()
    outcome = one.apply(records[30:])
    assert outcome.skipped == len(records) - 30
    assert outcome.applied == 0
    assert one.snapshot() == before


def test_a_damaged_or_foreign_snapshot_is_refused_by_name() -> None:
    """Discard and rebuild; never guess."""
    good = engine(random_tape(1, 50).records).snapshot()
    with pytest.raises(SnapshotError, match="format"):
        Engine.restore(b"\x09" + good[1:])
    with pytest.raises(SnapshotError, match="format"):
        Engine.restore(b"")
    with pytest.raises(SnapshotError, match=f"version {ENGINE_VERSION + 1}, not"):
        Engine.restore(good[:1] + (ENGINE_VERSION + 1).to_bytes(2, "big") + good[3:])
    with pytest.raises(SnapshotError, match="damaged"):
        Engine.restore(good[:-10])
    with pytest.raises(SnapshotError, match="damaged"):
        Engine.restore(good[:3] + b"junk")


# --- the feed's sequence -------------------------------------------------------------------------


def test_a_hole_in_the_feed_mutes_the_book_until_a_snapshot() -> None:
    """Lost records: no number is shown rather than a wrong one."""
    tape = opened()
    one = engine(tape.records)
    assert one.fast_report(0).best_bid is not None
    tape.seq += 1
    tape.wait(10).trade(6_000_000, 1)
    outcome = one.apply(tape.records)
    assert outcome.counts["gap.feed_seq"] == 1
    fast = one.fast_report(0)
    assert fast.ingestion.book == "muted"
    assert fast.best_bid is None
    assert fast.depth is None
    assert fast.spread_bps is None
    assert fast.gaps.count == 1
    assert fast.gaps.by_reason == {"feed_seq": 1}
    tape.delta([(5_999_999, 7)])
    one.apply(tape.records)
    assert one.book.state == "muted"
    tape.snapshot([(10, 1)], [(12, 1)])
    one.apply(tape.records)
    assert one.fast_report(0).ingestion.book == "ok"


def test_records_of_a_lower_token_are_dropped() -> None:
    """A paused bridge's queue lands behind its successor's."""
    tape = opened()
    one = engine(tape.records)
    tape.put(_delta(tape, 5), token=3, seq=99)
    outcome = one.apply(tape.records)
    assert outcome.counts["stale_feed"] == 1
    assert outcome.applied == 0
    assert one.book.state == "ok"


def _delta(tape: Tape, sz: int) -> BookDelta:
    return BookDelta(**tape.common(), **tape.scales(), bids=[(5_999_999, sz)], asks=[])


def test_a_new_token_mutes_the_book_until_its_snapshot() -> None:
    """Whatever another bridge assembled, its deltas belong on its own snapshot."""
    tape = opened()
    one = engine(tape.records)
    tape.token, tape.seq = 8, 0
    tape.status("connected")
    one.apply(tape.records)
    assert one.fast_report(0).ingestion.book == "muted"
    assert one.fast_report(0).gaps.count == 0
    tape.snapshot([(10, 1)], [(12, 1)])
    one.apply(tape.records)
    assert one.fast_report(0).ingestion.book == "ok"


def test_a_new_token_that_does_not_start_at_one_is_a_gap() -> None:
    """Its first records were lost on the way."""
    tape = opened()
    one = engine(tape.records)
    tape.token, tape.seq = 8, 4
    tape.status("connected")
    assert one.apply(tape.records).counts["gap.feed_seq"] == 1


def test_a_repeated_feed_seq_is_dropped() -> None:
    """A producer that sent a batch twice changes nothing."""
    tape = opened()
    one = engine(tape.records)
    tape.records.append((len(tape.records), tape.records[-1][1]))
    outcome = one.apply(tape.records)
    assert outcome.counts["duplicate_records"] == 1
    assert outcome.applied == 0


def test_a_venue_gap_holds_the_book_marked() -> None:
    """The last good book stays, and says what it is."""
    tape = opened()
    tape.status("gap", "sequence")
    one = engine(tape.records)
    fast = one.fast_report(0)
    assert fast.ingestion.book == "gap"
    assert fast.ingestion.reason == "sequence"
    assert fast.best_bid is not None
    assert fast.gaps.by_reason == {"sequence": 1}
    tape.delta([(5_999_999, 1)])
    one.apply(tape.records)
    assert one.book.bids.sizes[5_999_999] == 100_000


def test_a_delta_that_crosses_the_book_mutes_it() -> None:
    """Within one venue's book that can't stand."""
    tape = opened()
    tape.delta([(6_000_050, 1)])
    one = Engine(SYMBOL, VENUE)
    outcome = one.apply(tape.records)
    assert outcome.counts["gap.crossed"] == 1
    assert one.fast_report(0).ingestion.book == "muted"


def test_records_of_a_venue_that_is_not_listed_show_nowhere_and_are_counted() -> None:
    """One report is of one venue, and tells of those that are listed."""
    tape = opened()
    other = Engine(SYMBOL, "kraken")
    outcome = other.apply(tape.records)
    assert outcome.counts["other_venue"] == 2
    assert other.fast_report(START_MS) == Engine(SYMBOL, "kraken").fast_report(START_MS)


def test_an_unknown_kind_is_skipped_without_a_gap() -> None:
    """A newer bridge may write kinds this engine has not heard of."""
    tape = opened()
    known = tape.delta([(5_999_999, 3)])
    tape.records.pop()
    tape.raw(known.replace(b'"kind":"book_delta"', b'"kind":"auction"'))
    tape.delta([(5_999_999, 4)])
    one = Engine(SYMBOL, VENUE)
    outcome = one.apply(tape.records)
    assert outcome.counts["unknown_kind"] == 1
    assert not outcome.failures
    assert one.book.state == "ok"
    assert one.book.bids.sizes[5_999_999] == 4


# --- trades and units -------------------------------------------------------------------------------


def test_trades_count_once_and_missing_ones_are_told() -> None:
    """By the venue's own numbers."""
    tape = opened()
    for trade_id in (1, 2, 2, 1, 5):
        tape.trade(6_000_000, 10, trade_id=trade_id)
    one = Engine(SYMBOL, VENUE)
    one.apply(tape.records)
    fast = one.fast_report(0)
    assert fast.flow.trade_count == 3
    assert fast.gaps.duplicates == 2
    assert fast.gaps.trades_missing == 2


def test_windows_decay_in_silence() -> None:
    """Time passes without records, too."""
    tape = opened()
    tape.trade(6_000_000, 10)
    one = engine(tape.records)
    assert one.fast_report(START_MS + 9_000).flow.orders_per_sec == 0.1
    assert one.fast_report(START_MS + 10_100).flow.orders_per_sec == 0.0
    assert one.fast_report(START_MS + 10_100).flow.trade_count == 1
    assert one.fast_report(START_MS + 30_100).flow.trade_count == 0


def test_a_finer_unit_changes_no_figure() -> None:
    """A record may bring more digits than those before it."""
    coarse, mixed = opened(), opened()
    for tape in (coarse, mixed):
        for n in range(60):
            tape.wait(1000).trade(6_000_000 + n % 3, 10 + n, "buy" if n % 2 else "sell")
            tape.delta([(5_999_990, 10 + n)], [(6_000_010, 20 + n)])
    fine = mixed.delta([(5_999_980, 70_000)])
    mixed.records[-1] = (
        mixed.records[-1][0],
        fine.replace(b'"px_e":-2', b'"px_e":-4')
        .replace(b'"sz_e":-5', b'"sz_e":-8')
        .replace(b"[5999980,70000]", b"[599998000,70000000]"),
    )
    coarse.delta([(5_999_980, 70_000)])
    one, other = engine(coarse.records), engine(mixed.records)
    assert (other.px_e, other.sz_e) == (-4, -8)
    assert reports(other, other.newest_ms + 1) == reports(one, one.newest_ms + 1)
    for tape, engine_ in ((coarse, one), (mixed, other)):
        tape.wait(100).delta([(5_999_991, 5)])
        engine_.apply(tape.records)
    assert reports(other, 0) == reports(one, 0)


def test_a_new_tick_size_starts_the_profile_anew() -> None:
    """Bins of two widths can't be added."""
    tape = opened()
    for _ in range(20):
        tape.trade(6_000_000, 10)
    one = engine(tape.records)
    assert one.slow_report(0).liquidity.volume_profile is not None
    tape.instrument(tick_size=5)
    one.apply(tape.records)
    assert one.slow_report(0).liquidity.volume_profile is None


def test_an_engine_without_records_reports_nothing_and_says_so() -> None:
    """No data is not zero."""
    fast = engine().fast_report(START_MS)
    assert fast.data_age_ms is None
    assert fast.ingestion.status == "down"
    assert fast.last_price is None
    assert fast.best_bid is None
    assert fast.health.freshness == 0.0
    assert engine().slow_report(START_MS).liquidity.volume_profile is None


def test_the_time_given_is_never_before_the_newest_record() -> None:
    """A worker whose clock is behind the bridge's reports no negative age."""
    one = engine(opened().records)
    assert one.fast_report(START_MS - 5_000) == one.fast_report(START_MS)
    assert one.fast_report(START_MS - 5_000).data_age_ms == 0


def test_alive_marks_keep_the_data_fresh_and_the_change_old() -> None:
    """A quiet market is not a dead feed."""
    tape = opened()
    tape.wait(5_000).status("alive")
    fast = engine(tape.records).fast_report(START_MS + 5_200)
    assert fast.data_age_ms == 200
    assert fast.last_change_age_ms == 5_200
    assert fast.ingestion.status == "ok"
    assert fast.ingestion.feed == "alive"


def test_24_hour_figures_are_the_venues() -> None:
    """Null until it has said them."""
    tape = opened()
    one = engine(tape.records)
    assert one.fast_report(0).high_24h is None
    assert one.fast_report(0).coverage.day is False
    tape.day(6_000_000)
    one.apply(tape.records)
    fast = one.fast_report(0)
    assert (fast.last_price, fast.high_24h, fast.low_24h) == (60_000.0, 60_001.0, 59_999.0)
    assert fast.change_24h_pct == 1.25
    assert fast.volume_24h == 10_000.0


def test_a_simulators_instrument_makes_the_report_synthetic() -> None:
    """Nobody shall trade on made-up numbers unknowingly."""
    tape = Tape()
    tape.instrument(synthetic=True)
    assert engine(tape.records).fast_report(0).synthetic is True


def test_the_quote_is_shown_only_while_it_is_ahead_of_the_book() -> None:
    """By the venue's own update ids."""
    tape = opened()
    tape.delta([(5_999_999, 9)], seq=100)
    tape.quote(5_999_999, 6_000_001, seq=101)
    one = engine(tape.records)
    assert one.tick(1, 1).quote == ((59_999.99, 0.00003), (60_000.01, 0.00004))
    tape.delta([(5_999_999, 8)], seq=101)
    one.apply(tape.records)
    assert one.tick(1, 1).quote is None


def test_the_snapshot_is_bounded_at_a_thousand_events_a_second() -> None:
    """State at full windows, under the 256 KB that the contract allows."""
    tape = opened(levels=1000)
    tape.wait(0)
    for n in range(40_000):
        tape.now_ms = START_MS + n * 45
        if n % 5:
            tape.delta(
                [(5_999_999 - n % 90, 1 + n * 7919 % 10**6)],
                [(6_000_001 + n % 90, 1 + n * 104729 % 10**6)],
            )
        else:
            tape.trade(6_000_000 + n * 31 % 200, 1 + n * 7919 % 10**5)
    one = engine(tape.records)
    assert len(one.snapshot()) <= 256 * 1024
    assert one.applied == len(tape.records) - 1


def test_parameters_are_not_part_of_the_state() -> None:
    """A changed threshold works on the next report."""
    one = engine(random_tape(3, 200).records)
    other = Engine.restore(one.snapshot(), Parameters(report_levels=3))
    assert other.fast_report(0).depth is None or other.fast_report(0).depth.levels == 3  # type: ignore[union-attr]
