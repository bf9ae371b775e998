"""Diffs ahead of their turn wait for it, and a book in sync is held against a snapshot."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.events import BookDelta, BookSnapshot
from streams.venues.ordering import LATE_MS
from tests.support.binance import (
    CHANGES,
    CUTS,
    NOW_MS,
    Session,
    Venue,
    deltas,
    depth,
    finish,
    gaps,
    info_body,
    level,
    snapshot_body,
)

# --- ahead of its turn -----------------------------------------------------------------------------


def test_diffs_that_change_places_are_applied_in_order() -> None:
    session = Session()
    session.sync(at=9)
    assert session.receive(depth(12, 12, [level(99, 2)])) == []
    assert session.receive(depth(11, 11, [level(99, 1)])) == []
    assert session.wait(LATE_MS - 1) == []
    assert deltas(session.receive(depth(10, 10))) == [10, 11, 12]
    book = session.assembler.snapshot("BTCUSDT", NOW_MS, "x")
    assert book is not None
    assert book.bids == [(100, 5), (99, 2)]
    assert session.assembler.counts.gaps == 0


def test_diffs_held_for_a_hole_are_held_for_the_snapshot_then() -> None:
    session = Session()
    session.sync(at=9)
    session.receive(depth(13, 13, [level(98, 4)]))
    session.receive(depth(12, 12, [level(99, 2)]))
    assert len(gaps(session.wait())) == 1
    events = session.answer("snapshot", snapshot_body(11, [level(100, 5)], [level(101, 5)]))
    assert deltas(events) == [12, 13]


def test_what_is_ahead_of_a_crossed_book_is_not_lost() -> None:
    session = Session()
    session.sync(at=9)
    session.receive(depth(11, 11, [level(98, 4)]))
    session.receive(depth(10, 10, [level(101, 5)]))
    assert session.assembler.counts.crossed == 1
    events = session.answer("snapshot", snapshot_body(10, [level(100, 5)], [level(102, 5)]))
    assert deltas(events) == [11]


# --- a check of a book in sync ---------------------------------------------------------------------


def checked() -> Session:
    session = Session()
    session.sync(at=9, bids=[level(100, 5), level(90, 1)], asks=[level(101, 5), level(110, 1)])
    session._took(session.assembler.resync("BTCUSDT", NOW_MS, "refresh"))
    assert session.purposes() == ["snapshot"]
    return session


def test_a_check_says_nothing_but_the_book_where_both_are_the_same() -> None:
    session = checked()
    assert deltas(session.receive(depth(10, 11, [level(99, 7)]))) == [11]
    # It does not reach as far as the book: what lies beyond stays.
    body = snapshot_body(10, [level(100, 5), level(99, 7)], [level(101, 5)])
    (snapshot,) = session.answer("snapshot", body)
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.reason, snapshot.seq) == ("refresh", 11)
    assert snapshot.bids == [(100, 5), (99, 7), (90, 1)]
    assert snapshot.asks == [(101, 5), (110, 1)]
    counts = session.assembler.counts
    assert (counts.checks, counts.checks_differed, counts.gaps) == (1, 0, 0)
    assert deltas(session.receive(depth(12, 12))) == [12]


def test_a_check_that_differs_is_told_and_mends_the_book() -> None:
    session = checked()
    body = snapshot_body(9, [level(100, 6), level(95, 1)], [level(101, 5)])
    session.receive(depth(10, 10, [level(95, 2)]))
    gap, snapshot = session.answer("snapshot", body)
    assert (gap.status, gap.reason) == ("gap", "refresh")
    assert gap.detail == "1 levels differed from a snapshot at id 9"
    assert snapshot.reason == "resync"
    assert snapshot.bids == [(100, 6), (95, 2), (90, 1)]
    assert session.assembler.counts.checks_differed == 1
    assert deltas(session.receive(depth(11, 11))) == [11]


def test_a_snapshot_ahead_of_the_book_waits_for_it() -> None:
    session = checked()
    body = snapshot_body(11, [level(100, 5), level(97, 3), level(90, 1)], [level(101, 5)])
    assert session.answer("snapshot", body) == []
    assert deltas(session.receive(depth(10, 10))) == [10]
    events = session.receive(depth(11, 11, [level(97, 3)]))
    assert [type(event) for event in events] == [BookDelta, BookSnapshot]
    assert session.assembler.counts.checks_differed == 0


def test_a_snapshot_older_than_the_check_is_asked_for_again() -> None:
    session = checked()
    session.receive(depth(10, 10))
    assert session.answer("snapshot", snapshot_body(8, [level(100, 5)], [level(101, 5)])) == []
    assert session.purposes() == ["snapshot"]
    assert session.assembler.counts.checks == 0


def test_a_book_that_is_not_in_sync_is_not_checked() -> None:
    session = Session()
    session.connect()
    session.answer("instrument", info_body())
    session.pop("snapshot")
    assert session.assembler.resync("BTCUSDT", NOW_MS, "refresh") == []
    assert session.assembler.requests_to_send() == []


@given(changes=CHANGES, cuts=CUTS, begin=st.integers(0, 20), wait=st.integers(0, 20), at=st.data())
def test_a_check_never_harms_a_true_book(
    changes: list[Any], cuts: set[int], begin: int, wait: int, at: st.DataObject
) -> None:
    """Whenever it is asked for and answered: after each record the reader's book is the venue's."""
    venue = Venue(changes)
    session = Session(venue=venue)
    session.connect()
    session.answer("instrument", info_body())
    session.answer("snapshot", venue.snapshot(0))
    for step, wire in enumerate(venue.diffs(cuts | {1, 2, 3})):
        if step == begin:
            session._took(session.assembler.resync("BTCUSDT", session.now_ms, "refresh"))
        if step >= begin + wait and "snapshot" in session.purposes():
            session.answer("snapshot", venue.snapshot(at.draw(st.integers(0, venue.newest))))
        session.receive(wire)
    finish(session, venue)
    counts = session.assembler.counts
    assert (counts.checks_differed, counts.gaps, counts.errors) == (0, 0, 0)
