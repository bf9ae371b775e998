"""An engine of a symbol that several venues list."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tables import lane
from tables.engine import Engine
from tables.other_venues import VENUES_MAX, OtherVenue
from tapeline.errors import MalformedRecord
from tests.support.tape import (
    START_MS,
    SYMBOL,
    VENUE,
    Record,
    Tape,
    interleaved,
)
from tests.support.venues import (
    OTHERS,
    all_of,
    also,
    apply,
    book_of,
    engine,
    section,
    tape_of,
    three,
    two,
)

SEEDS = st.integers(0, 2**32)

# --- equal by construction ---------------------------------------------------------------------


@given(seed=SEEDS, step=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_the_primary_s_part_is_that_of_its_records_alone(seed: int, step: int) -> None:
    """Whatever the others send, and however it is mixed in."""
    tapes = three(seed, 80)
    mixed, alone = engine(interleaved(seed, *tapes), step), engine(tapes[0].records)
    now_ms = max(tape.now_ms for tape in tapes)
    for at_ms in (0, now_ms, now_ms + 5_000):
        ours, plain = mixed.fast_report(at_ms), alone.fast_report(at_ms)
        assert msgspec.structs.replace(ours, venues=plain.venues) == plain
        assert ours.venues.by_venue[VENUE] == plain.venues.by_venue[VENUE]
        assert mixed.slow_report(at_ms) == alone.slow_report(at_ms)
    assert msgspec.structs.replace(mixed.tick(1, 1), offset=0) == (
        msgspec.structs.replace(alone.tick(1, 1), offset=0)
    )


@given(seed=SEEDS, step=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_another_venue_is_shown_as_it_would_be_as_the_primary_one(seed: int, step: int) -> None:
    """Its book, gaps and age are made by other code, of the same records."""
    tapes = three(seed, 80)
    mixed = engine(interleaved(seed, *tapes), step)
    now_ms = max(tape.now_ms for tape in tapes)
    for tape in tapes[1:]:
        itself = engine(tape.records, venue=tape.venue)
        for at_ms in (now_ms, now_ms + 1_500, now_ms + 60_000):
            assert section(mixed, tape.venue, at_ms) == section(itself, tape.venue, at_ms)


@given(seed=SEEDS, cut=st.integers(0, 240), late_ms=st.integers(0, 3_000_000))
@settings(max_examples=40, deadline=None)
def test_a_snapshot_taken_anywhere_and_restored_ends_equal(
    seed: int, cut: int, late_ms: int
) -> None:
    """Books of the others are part of it: no failover leaves them out for minutes."""
    records = interleaved(seed, *three(seed, 80))
    whole, half = engine(records), engine(records[:cut])
    restored = Engine.restore(half.snapshot(), listed=OTHERS)
    now_ms = half.newest_ms + 100
    assert restored.fast_report(now_ms) == half.fast_report(now_ms)
    restored.apply(records[cut:])
    now_ms = whole.newest_ms + late_ms
    assert all_of(restored, now_ms) == all_of(whole, now_ms)


@given(seed=SEEDS, step=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_neither_batches_nor_the_lane_make_a_difference(seed: int, step: int) -> None:
    """In state, reports, counts and refusals; with records that can't be applied among them."""
    rng = random.Random(seed)
    records: list[Record] = []
    for offset, raw in interleaved(seed, *three(seed, 80)):
        edit = rng.choice([(b"", b"")] * 30 + [
            (b'"kind":"book_delta"', b'"kind":"auction"'), (b'"v":1', b'"v":2'), (b"{", b""),
            (b'"px_e":-', b'"px_e":-1'), (SYMBOL.encode(), b"ETHUSDT"), (b'"venue"', b'"v e"'),
        ])  # fmt: skip
        records.append((offset, raw.replace(*edit, 1)))
    one, other = engine(), engine()
    counts = apply(one, records, step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane, "take", None)
        # One by one, so that nothing is ever put in another order.
        assert apply(other, records, 1) == counts
    now_ms = one.newest_ms + 150
    assert all_of(one, now_ms) == all_of(other, now_ms)


@given(seed=SEEDS)
@settings(max_examples=5, deadline=None)
def test_an_engine_started_35_minutes_back_equals_one_from_the_start(seed: int) -> None:
    """Also where a venue fell silent 32 minutes ago, and one long before."""
    tapes = three(seed, 900, step_ms=3000)
    end_ms = max(tape.now_ms for tape in tapes)
    for tape, silent_min in zip(
        tapes[1:], random.Random(seed).sample([0, 29, 32, 40], 2), strict=True
    ):
        tape.records = [
            record for record in tape.records if recv_ms(record) <= end_ms - silent_min * 60_000
        ]
    records = interleaved(seed, *tapes)
    first = next(at for at, one in enumerate(records) if recv_ms(one) >= end_ms - 35 * 60_000)
    assert first > 0
    whole, late = engine(records), engine(records[first:])
    for now_ms in (end_ms, end_ms + 5_000, end_ms + 900_000):
        assert late.fast_report(now_ms) == whole.fast_report(now_ms)
        assert late.slow_report(now_ms) == whole.slow_report(now_ms)


def recv_ms(record: Record) -> int:
    return int(record[1].split(b'"ts_recv_ms":')[1].split(b",")[0])


def test_redelivered_records_change_nothing() -> None:
    records = interleaved(3, *three(3, 60))
    one = engine(records)
    before = one.snapshot()
    outcome = one.apply(records[20:])
    assert (outcome.skipped, outcome.applied) == (len(records) - 20, 0)
    assert one.snapshot() == before
    twice = [record for record in records for _ in range(2)]
    assert apply(engine(), twice)["skipped"] == len(records)
    assert engine(twice, 7).snapshot() == before


# --- what a venue says of itself ------------------------------------------------------------------


def test_both_tops_and_the_best_of_both() -> None:
    one, _ = two()
    venues = one.fast_report(0).venues
    assert (venues.primary, venues.quote) == (VENUE, "USD")
    assert venues.best_bid is not None
    assert (venues.best_bid.venue, venues.best_bid.price) == ("kraken", 60_000.1)
    assert venues.best_ask is not None
    assert (venues.best_ask.venue, venues.best_ask.price) == (VENUE, 60_001.0)
    assert one.fast_report(0).best_bid.price == 60_000.0  # type: ignore[union-attr]
    assert list(venues.by_venue) == [VENUE, *OTHERS]
    assert (venues.by_venue["coinbase"].state, venues.by_venue["coinbase"].age_ms) == ("none", None)


def test_markets_that_lock_or_cross_are_shown() -> None:
    locked = two(6_000_100, 6_000_200)[0].fast_report(0).venues
    assert [(each.bid_venue, each.ask_venue) for each in locked.locked] == [("kraken", VENUE)]
    assert locked.crossed == []
    one, tape = two(5_999_800, 5_999_900)
    (crossed,) = one.fast_report(0).venues.crossed
    assert (crossed.bid_venue, crossed.ask_venue) == (VENUE, "kraken")
    assert crossed.bps == pytest.approx(10_000 * 1.0 / 59_999.5)
    tape.delta([], [(5_999_900, 0), (5_999_901, 0), (6_000_050, 1)])
    also(one, tape)
    assert one.fast_report(0).venues.crossed == []


def test_a_hole_in_its_feed_mutes_it_alone_until_its_snapshot() -> None:
    one, tape = two()
    tape.seq += 1
    tape.delta([(6_000_020, 1)])
    assert also(one, tape)["gap.feed_seq"] == 1
    venues = one.fast_report(0).venues
    kraken = venues.by_venue["kraken"]
    assert (kraken.state, kraken.gaps, kraken.best_bid, kraken.consolidated) == (
        "muted", 1, None, False,
    )  # fmt: skip
    assert venues.best_bid is not None
    assert venues.best_bid.venue == VENUE
    assert (one.book.state, one.fast_report(0).gaps.count) == ("ok", 0)
    tape.snapshot([(6_000_020, 1)], [(6_000_110, 1)])
    also(one, tape)
    assert section(one, "kraken").state == "ok"
    assert section(one, "kraken").gaps == 1


def test_another_bridge_of_it_mutes_it_until_that_one_s_snapshot() -> None:
    one, tape = two()
    late = tape.token, tape.seq
    tape.token, tape.seq = 4, 0
    tape.status("connected")
    also(one, tape)
    assert section(one, "kraken").reason == "another bridge took over"
    tape.snapshot([(6_000_020, 1)], [(6_000_110, 1)])
    also(one, tape)
    assert section(one, "kraken").state == "ok"
    tape.token, tape.seq = late
    tape.delta([(6_000_030, 1)])
    assert also(one, tape)["stale_feed"] == 1
    assert section(one, "kraken").best_bid.price == 60_000.2  # type: ignore[union-attr]


def test_a_gap_holds_its_book_marked_and_out_of_the_consolidation() -> None:
    one, tape = two()
    tape.status("gap", "checksum")
    tape.delta([(6_000_020, 1)])
    also(one, tape)
    kraken = section(one, "kraken")
    assert (kraken.state, kraken.reason, kraken.consolidated) == ("gap", "checksum", False)
    assert kraken.best_bid.price == 60_000.1  # type: ignore[union-attr]


def test_a_venue_that_is_silent_is_stale_by_its_own_age() -> None:
    """The primary's records keep nobody else fresh."""
    one, _ = two()
    tape = tape_of(VENUE, now_ms=START_MS + 3_000, seq=2)
    tape.status("alive")
    one.apply([(one.applied + 1, tape.records[0][1])])
    venues = one.fast_report(START_MS + 3_100).venues
    assert (venues.by_venue["kraken"].state, venues.by_venue["kraken"].age_ms) == ("stale", 3_100)
    assert (venues.by_venue[VENUE].state, venues.by_venue[VENUE].age_ms) == ("ok", 100)
    assert venues.best_bid is not None
    assert venues.best_bid.venue == VENUE


def test_a_bridge_whose_clock_is_ahead_has_no_negative_age() -> None:
    one, tape = two()
    tape.wait(700).status("alive")
    also(one, tape)
    assert section(one, "kraken", START_MS).age_ms == 0
    assert one.newest_ms == START_MS


def test_half_an_hour_of_silence_forgets_a_venue() -> None:
    """What comes then begins anew: no gap is counted over it, as a later engine would see none."""
    one, tape = two()
    assert section(one, "kraken", START_MS + 1_799_999).state == "stale"
    assert section(one, "kraken", START_MS + 1_800_000).state == "none"
    tape.seq += 100
    tape.wait(1_800_000).delta([(6_000_020, 1)])
    assert "gap.feed_seq" not in also(one, tape)
    assert section(one, "kraken").gaps == 0
    assert section(one, "kraken").best_bid is None


def test_currencies_that_its_instruments_name_are_not_compared() -> None:
    other = book_of(Tape(venue="kraken", quote_currency="USDT"))
    one = engine(interleaved(1, book_of(tape_of(VENUE)), other))
    venues = one.fast_report(0).venues
    assert (venues.quote_mixed, venues.best_bid, venues.best_ask) == (True, None, None)
    assert venues.by_venue["kraken"].best_bid is not None


# --- bad records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1])
def test_a_bad_record_fails_alone_and_leaves_a_hole_in_its_own_feed(step: int) -> None:
    ours, theirs = book_of(tape_of(VENUE)), book_of(tape_of("kraken"))
    theirs.records[-1] = (1, theirs.snapshot([(12, 1)], [(11, 1)]))
    theirs.delta([(11, 1)])
    ours.delta([(5_999_990, 4)])
    one = engine()
    counts = apply(one, interleaved(1, ours, theirs), step)
    assert sum(n for what, n in counts.items() if what.startswith("MalformedRecord")) == 1
    assert counts["gap.feed_seq"] == 1
    assert (one.book.state, one.fast_report(0).gaps.count) == ("ok", 0)
    assert section(one, "kraken").gaps == 1


def test_what_is_refused_of_the_primary_is_refused_of_every_venue() -> None:
    one, tape = two()
    empty = tape.day(6_000_000).split(b',"day"')[0] + b"}"
    fine = tape.trade(6_000_000, 1).replace(b'"px_e":-2', b'"px_e":-13')
    for raw in (empty, fine):
        outcome = one.apply([(one.applied + 1, raw)])
        assert [type(error) for _, error in outcome.failures] == [MalformedRecord]


def test_parts_of_two_venues_do_not_cross() -> None:
    """Each snapshot is checked against its own venue's parts."""
    ours, theirs = tape_of(VENUE), tape_of("kraken")
    ours.snapshot([(100, 1)], [], part=1, parts=2)
    theirs.snapshot([(90, 1)], [], part=1, parts=2)
    theirs.snapshot([], [(95, 1)], part=2, parts=2)
    ours.snapshot([], [(110, 1)], part=2, parts=2)
    records = [(n, tape.records[at][1]) for n, (tape, at) in enumerate(
        [(ours, 0), (theirs, 0), (theirs, 1), (ours, 1)]
    )]  # fmt: skip
    one = engine()
    assert one.apply(records).failures == []
    assert section(one, VENUE).best_ask.price == 1.1  # type: ignore[union-attr]
    assert section(one, "kraken").best_ask.price == 0.95  # type: ignore[union-attr]


def test_an_unforeseen_error_costs_that_venue_its_credit_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, tape = two()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr(OtherVenue, "_trim", broken)
    tape.snapshot([(6_000_020, 1)], [(6_000_110, 1)])
    assert also(one, tape)["gap.error"] == 1
    kraken = section(one, "kraken")
    assert (kraken.state, kraken.reason, kraken.gaps) == ("muted", "error: ZeroDivisionError", 1)
    assert (one.book.state, one.fast_report(0).gaps.count) == ("ok", 0)


def test_a_kind_it_does_not_know_is_no_gap_there() -> None:
    one, tape = two()
    tape.records.append((0, tape.delta([(1, 1)]).replace(b"book_delta", b"auction")))
    del tape.records[-2]
    tape.delta([(6_000_020, 1)])
    assert also(one, tape)["unknown_kind"] == 1
    assert section(one, "kraken").state == "ok"
    assert section(one, "kraken").best_bid.price == 60_000.2  # type: ignore[union-attr]


def test_so_many_venues_and_no_more_until_one_is_silent() -> None:
    """Memory is finite, whatever stands in the topic."""
    one = engine()
    names = [f"v{n}" for n in range(VENUES_MAX + 1)]
    for at, name in enumerate(names):
        tape = book_of(tape_of(name))
        one.apply([(2 * at + n, raw) for n, (_, raw) in enumerate(tape.records)])
    assert [one.others.get(name, START_MS) is not None for name in names] == (
        [True] * VENUES_MAX + [False]
    )
    tape = book_of(tape_of(names[-1], now_ms=START_MS + 1_800_000))
    one.apply([(99 + n, raw) for n, (_, raw) in enumerate(tape.records)])
    assert one.others.get(names[-1], tape.now_ms) is not None
