"""One symbol's book at Kraken: the checksum is the judge, and what it can't see is said."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import BookDelta, BookSnapshot, FeedStatus, Instrument
from streams.venues.kraken.book import OVERLAP_MS
from streams.venues.kraken.checked import CheckedBook, checksum_of, digits_of
from tapeline.errors import FrameError
from tests.support.kraken import (
    ASKS,
    BIDS,
    HEARTBEAT,
    NOW_MS,
    Session,
    Venue,
    ack,
    book,
    checksum,
    instrument,
    levels_of,
    pair,
    plain,
    printed,
    snapshot,
    stamp,
)

CALM = (("99.7", "1.00000000"),)


def synced(venue: Venue | None = None, **options: object) -> tuple[Session, Venue]:
    venue = venue or Venue()
    session = Session(**options)
    session.sync(ack(depth=venue.depth), venue.snapshot())
    return session, venue


def state(session: Session) -> BookSnapshot | None:
    return session.assembler.snapshot("BTCUSD", session.now_ms, "test")


def same(session: Session, venue: Venue) -> bool:
    """Both the assembler's book and a reader's are the venue's."""
    kept = session.assembler._feeds["BTCUSD"].book.book
    assert kept is not None
    assert session.reader.book is not None
    want = plain(venue.sides())
    return levels_of(kept) == want == levels_of(session.reader.book)


def test_a_level_adds_its_digits_without_point_and_leading_zeros() -> None:
    """The venue's own examples: its guide to the checksum."""
    assert digits_of("45285.2", "0.00100000") == "452852100000"
    assert digits_of("0.05005", "0.00000500") == "5005500"
    assert checksum_of(["11"], ["22", "33"]) == crc32(b"112233")


def test_a_snapshot_makes_the_book_and_a_change_its_delta() -> None:
    session, venue = synced()
    assert session.assembler.counts.checksums_ok == 1
    (delta,) = session.receive(venue.change([("100.0", "0.70000000")], [("100.1", "0.00000000")]))
    assert isinstance(delta, BookDelta)
    assert (delta.px_e, delta.sz_e) == (-1, -8)
    assert (delta.bids, delta.asks) == ([(1000, 70_000_000)], [(1001, 0)])
    assert delta.ts_event_ms == NOW_MS + 1
    assert same(session, venue)
    assert session.assembler.counts.checksums_ok == 2


def test_zeros_at_the_end_count() -> None:
    """The same numbers printed without them have another checksum."""
    short = {price: size.rstrip("0") for price, size in BIDS.items()}
    session = Session()
    session.sync(book("snapshot", BIDS.items(), ASKS.items(), checksum(short, ASKS), 0))
    assert state(session) is None
    assert session.assembler.counts.checksums_failed == 1


def test_numbers_without_a_point_keep_their_digits() -> None:
    session, venue = synced(Venue({"100": "5", "90": "10"}, {"101": "7"}))
    session.receive(venue.change([("90", "20"), ("80", "3")]))
    assert session.reader.book is not None
    assert levels_of(session.reader.book, 0, 0) == ({100: 5, 90: 20, 80: 3}, {101: 7})


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(1, 60),
            st.sampled_from(["0.00000000", "0.00000010", "1.50000000", "250.00000001"]),
        ),
        max_size=40,
    ),
    st.sampled_from([10, 25]),
)
def test_the_book_is_the_venues_after_every_message(
    changes: list[tuple[bool, int, str]], depth: int
) -> None:
    """Levels beyond the depth fall out of it; a reader, who does not cut, is told so."""
    session, venue = synced(Venue(depth=depth), depth=depth)
    for bid, distance, size in changes:
        level = (f"{100.05 + (-distance if bid else distance) * 0.1 + 1e-9:.1f}", size)
        session.receive(venue.change([level] if bid else [], [] if bid else [level]))
        assert same(session, venue)
    assert session.assembler.counts.checksums_failed == 0


def test_a_level_cut_in_the_message_that_brought_it_is_told_once() -> None:
    deep = {f"{90 + n}.0": "1.00000000" for n in range(10)}
    session, venue = synced(Venue(deep, {"100.1": "1.00000000"}))
    (delta,) = session.receive(venue.change([("80.0", "1.00000000"), ("95.5", "2.00000000")]))
    assert delta.bids == [(800, 0), (955, 200_000_000), (900, 0)]
    assert same(session, venue)


def test_a_price_twice_in_one_message_counts_as_it_stands_last() -> None:
    session, venue = synced()
    twice = [("99.7", "0.00000000"), ("99.7", "1.00000000"), ("99.7", "3.00000000")]
    (delta,) = session.receive(venue.change(twice))
    assert delta.bids == [(997, 300_000_000)]
    assert same(session, venue)


@pytest.mark.parametrize("level", [("99.7125", "1.00000000"), ("997", "1.00000000"),
                                   ("99.7", "100000000"), ("99.7", "1.0000000")])  # fmt: skip
def test_a_number_of_other_decimals_than_the_books_is_refused(level: tuple[str, str]) -> None:
    """The checksum leaves out the point: it would not see that it is gone."""
    session, venue = synced()
    frame = venue.change(CALM)
    moved = frame.replace('"price":99.7,"qty":1.00000000', f'"price":{level[0]},"qty":{level[1]}')
    with pytest.raises(FrameError, match="expected 1 and 8 decimals"):
        session.receive(moved)
    assert state(session) is None


def test_when_a_pairs_decimals_change_a_snapshot_brings_the_new_ones() -> None:
    session, venue = synced()
    venue.bids = {f"{price}000": size for price, size in BIDS.items()}
    venue.asks = {f"{price}000": size for price, size in ASKS.items()}
    change = [("99.7125", "1.00000000")]
    with pytest.raises(FrameError):
        session.receive(venue.change(change))
    session.receive(venue.snapshot())
    (delta,) = session.receive(venue.change([("99.7126", "1.00000000")]))
    assert (delta.px_e, delta.bids) == (-4, [(997_126, 100_000_000)])
    record = state(session)
    assert record is not None
    assert record.bids[:2] == [(1_000_000, 50_000_000), (999_000, 100_000)]


@pytest.mark.parametrize("fault", ["lost", "digit", "checksum"])
def test_a_fault_is_found_undone_told_and_healed(fault: str) -> None:
    """One gap, one resync, the old book as it was, nothing told until the snapshot is there."""
    session, venue = synced()
    before = state(session)
    change = venue.change([("99.8", "4.00000000")])
    if fault == "lost":
        change = venue.change([("99.6", "4.00000000")])
    elif fault == "digit":
        change = change.replace("4.00000000", "5.00000000")
    else:
        change = book("update", [("99.8", "4.00000000")], (), 1, venue.us)
    (gap,) = session.receive(change)
    assert isinstance(gap, FeedStatus)
    assert (gap.status, gap.reason) == ("gap", "checksum")
    assert "of the rebuilt book" in gap.detail
    assert session.pop_sent() == [("unsubscribe", "book"), ("subscribe", "book")]
    counts = session.assembler.counts
    assert (counts.checksums_failed, counts.resyncs, counts.gaps) == (1, 1, 0)

    kept = session.assembler.snapshot("BTCUSD", NOW_MS, "test", stale_ok=True)
    assert kept == before
    assert state(session) is None
    venue.us += 10_000
    for _ in range(3):
        assert session.receive(venue.change(CALM)) == []
    assert counts.stale == 3
    (record,) = session.receive(venue.snapshot())
    assert (record.reason, counts.resyncs) == ("resync", 1)
    assert same(session, venue)
    session.receive(venue.change([("99.6", "1.00000000")]))
    assert same(session, venue)


def test_a_crossed_book_is_not_shown_even_where_its_checksum_is_right() -> None:
    session, venue = synced()
    before = state(session)
    (gap,) = session.receive(venue.change([("100.2", "1.00000000")]))
    assert (gap.status, gap.reason) == ("gap", "crossed")
    assert "best bid 1002e-1 is not below best ask 1001e-1" in gap.detail
    counts = session.assembler.counts
    assert (counts.crossed, counts.resyncs, counts.checksums_failed) == (1, 1, 0)
    assert session.assembler.snapshot("BTCUSD", NOW_MS, "test", stale_ok=True) == before
    assert session.pop_sent() == [("unsubscribe", "book"), ("subscribe", "book")]


def test_a_loss_below_the_ten_best_is_found_when_it_comes_up() -> None:
    """As far as the checksum sees, and no further: what the module's docstring admits."""
    deep = {f"{80 + n}.0": "1.00000000" for n in range(15)}
    session, venue = synced(Venue(deep, {"100.1": "1.00000000"}, depth=25), depth=25)
    venue.change([("80.0", "9.00000000")])  # lost
    session.receive(venue.change([("94.0", "2.00000000")]))
    assert not same(session, venue)  # and nobody knows
    for n in range(14, 10, -1):  # eleven are left, the wrong one is the last
        told = session.receive(venue.change([(f"{80 + n}.0", "0.00000000")]))
        assert [type(e) for e in told] == [BookDelta]
    (gap,) = session.receive(venue.change([("90.0", "0.00000000")]))
    assert gap.reason == "checksum"


def test_a_message_out_of_order_is_found_below_the_ten_best_too() -> None:
    """The venue's time goes back, though both checksums are right."""
    deep = {f"{80 + n}.0": "1.00000000" for n in range(15)}
    session, venue = synced(Venue(deep, {"100.1": "1.00000000"}, depth=25), depth=25)
    first, second = venue.change([("80.0", "9.00000000")]), venue.change([("80.0", "5.00000000")])
    assert len(session.receive(second)) == 1
    (gap,) = session.receive(first)
    assert (gap.status, gap.reason) == ("gap", "sequence")
    assert gap.detail == "the venue's time went back by 1000 us"
    assert session.assembler.counts.gaps == session.assembler.counts.resyncs == 1


def test_a_message_twice_is_dropped_whenever_it_comes() -> None:
    session, venue = synced()
    frames = [venue.change([("99.7", f"{n}.00000000")]) for n in range(1, 6)]
    session.receive(*frames)
    assert session.receive(frames[4], frames[1], frames[0]) == []
    assert session.assembler.counts.stale == 3
    assert same(session, venue)


def test_a_snapshot_that_comes_again_later_does_not_bring_back_the_old_book() -> None:
    session, venue = synced()
    again = venue.snapshot()
    session.receive(venue.change(CALM))
    assert session.receive(again) == []
    assert session.assembler.counts.stale == 1
    assert same(session, venue)


def test_without_times_an_unasked_snapshot_is_passed_over() -> None:
    """Nothing would tell it from a copy of an old one."""
    session = Session()
    session.sync(snapshot(us=None))
    session.receive(book("update", CALM, (), checksum(BIDS | dict(CALM), ASKS), None))
    assert session.receive(snapshot(us=None)) == []
    assert session.assembler.counts.stale == 1
    session.took(session.assembler.resync("BTCUSD", NOW_MS, "refresh"))
    (record,) = session.receive(snapshot(us=None))
    assert record.reason == "refresh"


def test_a_snapshot_older_than_what_was_dropped_is_not_taken() -> None:
    """It lacks a message that has gone by; the next one is believed whatever the times say."""
    session, venue = Session(), Venue()
    late = venue.snapshot()
    session.sync(venue.change(CALM), late)
    assert state(session) is None
    assert session.pop_sent() == [("unsubscribe", "book"), ("subscribe", "book")]
    session.receive(late)
    assert state(session) is not None
    assert session.assembler.counts.resyncs == 0  # it has never been in sync before


def test_a_wrong_time_far_ahead_does_not_stop_the_book_for_good() -> None:
    session, venue = synced()
    session.receive(venue.change(CALM).replace("2026-", "2096-"))
    (gap,) = session.receive(venue.change([("99.6", "1.00000000")]))
    assert gap.reason == "sequence"
    session.receive(venue.snapshot())
    assert same(session, venue)


@pytest.mark.parametrize("time", ["", "yesterday", "0001-01-01T00:00:00.000000Z"])
def test_a_time_that_cannot_be_costs_no_message(time: str) -> None:
    session, venue = synced()
    (delta,) = session.receive(venue.change(CALM).replace(stamp(venue.us), time))
    assert delta.ts_event_ms == NOW_MS
    assert session.assembler.counts.ts_replaced == 1
    assert same(session, venue)


@pytest.mark.parametrize(
    "level",
    [
        '{"price":-1.0,"qty":1.00000000}',
        '{"price":0.0,"qty":1.00000000}',
        '{"price":1e5,"qty":1.00000000}',
        '{"price":1.0,"qty":true}',
        '{"price":null,"qty":1.00000000}',
        '{"price":{},"qty":1.00000000}',
        '{"price":1.0}',
        '{"price":1.0,"qty":9999999999999999999999.00000000}',
        '{"price":1.0000000000001,"qty":1.00000000}',
    ],
)
def test_a_message_that_cannot_be_read_is_a_lost_one(level: str) -> None:
    """Counted, refused by value, nothing of it applied; the gap comes with the next call."""
    session, venue = synced()
    frame = venue.change(CALM)
    with pytest.raises(FrameError):
        session.receive(frame.replace(printed(CALM), f"[{level}]"))
    assert session.assembler.counts.errors == 1
    assert state(session) is None
    (gap,) = session.receive(HEARTBEAT)
    assert (gap.status, gap.reason, gap.detail) == (
        "gap",
        "sequence",
        "a message could not be read",
    )
    assert session.pop_sent() == [("unsubscribe", "book"), ("subscribe", "book")]
    session.receive(venue.snapshot())
    assert same(session, venue)


def test_nothing_is_told_before_the_instrument_and_the_book_of_now_after_it() -> None:
    session, venue = Session(), Venue()
    session.connect()
    assert session.receive(venue.snapshot(), venue.change(CALM)) == []
    assert state(session) is None
    rules, record = session.receive(instrument())
    assert isinstance(rules, Instrument)
    assert record.reason == "initial"
    assert same(session, venue)


def test_an_instrument_finer_than_the_book_makes_the_book_finer() -> None:
    session, venue = synced()
    session.receive(instrument(pair(price_increment="=0.001"), kind="update"))
    record = state(session)
    assert record is not None
    assert (record.px_e, record.bids[0]) == (-3, (100_000, 50_000_000))
    session.receive(venue.change(CALM))
    assert same(session, venue)


def test_without_an_instrument_the_steps_are_read_off_the_first_book() -> None:
    session, venue = Session(infer_instruments=True), Venue()
    session.connect()
    rules, record = session.receive(venue.snapshot())
    assert (rules.origin, rules.tick_size, rules.px_e) == ("inferred", 1, -1)
    assert (rules.lot_size, rules.sz_e) == (1, -8)
    assert record.bids[0] == (1000, 50_000_000)


@pytest.mark.parametrize(("levels", "depth"), [(1, 10), (10, 10), (11, 25), (600, 1_000)])
def test_a_tape_that_does_not_say_its_depth_shows_it(levels: int, depth: int) -> None:
    bids = {f"{1000 + n}.0": "1.00000000" for n in range(levels)}
    session = Session(depth=None)
    session.sync(snapshot(bids, {"5000.0": "1.00000000"}))
    kept = session.assembler._feeds["BTCUSD"].book.book
    assert isinstance(kept, CheckedBook)
    assert kept.depth == depth


def test_the_depth_that_the_venue_answers_is_the_one_that_counts() -> None:
    session = Session(depth=None)
    session.connect()
    session.receive(ack(depth=25), snapshot())
    kept = session.assembler._feeds["BTCUSD"].book.book
    assert kept is not None
    assert kept.depth == 25


def test_a_snapshot_whose_checksum_is_wrong_is_not_taken() -> None:
    session = Session()
    session.sync(book("snapshot", BIDS.items(), ASKS.items(), 1, 0))
    assert state(session) is None
    counts = session.assembler.counts
    assert (counts.checksums_failed, counts.resyncs) == (1, 0)
    assert session.pop_sent() == [("unsubscribe", "book"), ("subscribe", "book")]


def test_a_refresh_leaves_the_book_readable_until_the_new_one_is_there() -> None:
    session, venue = synced()
    assert session.took(session.assembler.resync("BTCUSD", NOW_MS, "refresh")) == []
    assert session.pop_sent() == [("unsubscribe", "book"), ("subscribe", "book")]
    session.receive(venue.change(CALM))
    assert same(session, venue)
    venue.change([("99.6", "1.00000000")])  # between the two subscriptions
    (record,) = session.receive(venue.snapshot())
    assert record.reason == "refresh"
    assert same(session, venue)
    assert session.assembler.counts.resyncs == 0


def test_a_refresh_without_an_answer_ends_in_distrust() -> None:
    """The old subscription is over by then: the book only looks calm."""
    session, _ = synced()
    session.took(session.assembler.resync("BTCUSD", NOW_MS, "refresh"))
    session.now_ms += 9_000
    assert session.receive(HEARTBEAT) == []
    session.now_ms += 2_000
    (gap,) = session.receive(HEARTBEAT)
    assert (gap.status, gap.reason) == ("gap", "refresh")
    assert state(session) is None


def test_a_second_socket_takes_over_and_the_slower_one_does_no_harm() -> None:
    session, venue = synced()
    behind = [venue.change([("99.7", f"{n}.00000000")]) for n in range(1, 4)]
    session.connect()
    (record,) = session.receive(venue.snapshot())
    assert record.reason == "refresh"
    assert session.receive(*behind) == []
    assert session.assembler.counts.stale == 3
    session.receive(venue.change(CALM))
    assert same(session, venue)
    session.now_ms += OVERLAP_MS
    (gap,) = session.receive(behind[0])
    assert gap.reason == "sequence"


def test_messages_of_two_sockets_are_passed_on_once() -> None:
    session, venue = synced()
    session.connect()
    session.receive(venue.snapshot())
    frames = [venue.change([("99.7", f"{n}.00000000")]) for n in range(1, 6)]
    told = session.receive(frames[0], frames[1], frames[0], frames[2], frames[1], *frames[2:])
    assert len(told) == 5
    assert same(session, venue)
