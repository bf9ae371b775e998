"""The book's sync: at any order of arrival, over any loss, the book is the venue's or is muted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import BookDelta, BookSnapshot, FeedStatus, Instrument
from streams.venues.binance import depth as depth_module
from streams.venues.binance.depth import RESTART_MS
from streams.venues.binance.schema import DepthSnapshot
from tapeline.errors import FrameError
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
    quote,
    snapshot_body,
    text,
)


@given(
    changes=CHANGES,
    cuts=CUTS,
    first=st.integers(1, 10),
    at=st.integers(0, 40),
    info_after=st.integers(0, 20),
    snapshot_after=st.integers(0, 20),
)
def test_the_book_is_right_whenever_the_snapshot_comes_and_however_old_it_is(
    changes: list[Any], cuts: set[int], first: int, at: int, info_after: int, snapshot_after: int
) -> None:
    """After each record, a reader's book is the venue's at that id. `Reader` asserts it."""
    venue = Venue(changes)
    session = Session(venue=venue)
    session.connect()
    for step, wire in enumerate(venue.diffs(cuts, min(first, venue.newest))):
        if step == info_after:
            session.answer("instrument", info_body())
        if step == snapshot_after:
            session.answer("snapshot", venue.snapshot(min(at, venue.newest)))
        session.now_ms += 100
        session.receive(wire)
    finish(session, venue)
    assert session.assembler.counts.crossed == 0
    assert session.assembler.counts.errors == 0


@given(changes=CHANGES, cuts=CUTS, data=st.data())
def test_a_gap_at_any_place_is_told_once_and_heals(
    changes: list[Any], cuts: set[int], data: st.DataObject
) -> None:
    venue = Venue(changes)
    session = Session(venue=venue)
    session.connect()
    session.answer("instrument", info_body())
    session.answer("snapshot", venue.snapshot(0))
    frames = venue.diffs(cuts | {1, 2, 3})
    lost = data.draw(st.integers(0, len(frames) - 2))
    for place, wire in enumerate(frames):
        if place != lost:
            session.receive(wire)
    session.wait()
    assert session.assembler.counts.gaps == 1
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "refresh") is None
    assert session.reader.book is None
    finish(session, venue)
    assert session.reader.kinds.count("book_snapshot") == 2


@given(
    changes=CHANGES,
    left=CUTS,
    right=CUTS,
    order=st.lists(st.booleans(), max_size=40),
    snapshot_after=st.integers(0, 20),
)
def test_two_sockets_that_cut_the_same_updates_differently_make_one_book(
    changes: list[Any], left: set[int], right: set[int], order: list[bool], snapshot_after: int
) -> None:
    """In any interleaving, before and after the snapshot, and with no gap."""
    venue = Venue(changes)
    session = Session(venue=venue)
    session.connect()
    session.answer("instrument", info_body())
    queues = venue.diffs(left), venue.diffs(right)
    for step, side in enumerate([*order, *[True] * 41, *[False] * 41]):
        if step == snapshot_after:
            session.answer("snapshot", venue.snapshot(0))
        if queues[side]:
            session.receive(queues[side].pop(0))
    assert session.assembler.counts.gaps == 0
    finish(session, venue)


def test_the_instrument_comes_first_then_the_snapshot_then_what_was_held() -> None:
    session = Session()
    session.connect()
    session.receive(depth(8, 9))
    session.now_ms += 100
    session.receive(depth(10, 12, [level(99, 1)]))
    assert session.answer("snapshot", snapshot_body(9, [level(98, 1)], [level(101, 1)])) == []
    session.now_ms += 100
    events = session.answer("instrument", info_body())
    assert [type(event) for event in events] == [Instrument, BookSnapshot, BookDelta]
    assert [event.ts_recv_ms - NOW_MS for event in events] == [200, 200, 100]
    assert events[1].reason == "initial"
    assert events[1].seq == 9
    assert session.assembler.counts.stale == 1


def test_the_first_diff_may_begin_right_after_the_snapshot() -> None:
    """The venue's wording, "lastUpdateId within [U;u]", is too strict."""
    session = Session()
    session.sync(at=9)
    assert deltas(session.receive(depth(10, 11))) == [11]


def test_a_snapshot_older_than_the_first_diff_is_asked_for_again() -> None:
    session = Session()
    session.connect()
    session.answer("instrument", info_body())
    session.receive(depth(12, 13))
    assert session.answer("snapshot", snapshot_body(10, [], [])) == []
    assert session.purposes() == ["snapshot"]
    events = session.answer("snapshot", snapshot_body(11, [level(98, 1)], []))
    assert [type(event) for event in events] == [BookSnapshot, BookDelta]
    assert session.assembler.counts.gaps == 0


def test_a_gap_names_the_ids_and_keeps_the_old_book() -> None:
    session = Session()
    session.sync(at=9)
    assert session.receive(depth(12, 14, [level(99, 7)])) == []
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "refresh") is not None
    (gap,) = gaps(session.wait())
    assert (gap.reason, gap.detail) == ("sequence", "expected id 10, got 12 to 14")
    assert session.purposes() == ["snapshot"]
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "refresh") is None
    old = session.assembler.snapshot("BTCUSDT", NOW_MS, "refresh", stale_ok=True)
    assert old is not None
    assert old.seq == 9
    assert old.bids == [(100, 5)]
    events = session.answer("snapshot", snapshot_body(13, [level(98, 1)], [level(101, 1)]))
    assert isinstance(events[0], BookSnapshot)
    assert events[0].reason == "resync"
    assert deltas(events) == [14]
    assert session.assembler.counts.gaps == 1


def test_a_snapshot_that_lags_behind_the_distrusted_book_is_not_taken() -> None:
    """The diffs between the two are gone, so the next one would be a gap again."""
    session = Session()
    session.sync(at=9)
    session._took(session.assembler.resync("BTCUSDT", NOW_MS, "operator"))
    assert session.answer("snapshot", snapshot_body(8, [level(98, 1)], [])) == []
    assert session.answer("snapshot", snapshot_body(9, [level(98, 1)], [])) != []


def test_resync_tells_a_gap_with_its_reason_and_asks_again() -> None:
    session = Session()
    session.sync(at=9)
    events = session._took(session.assembler.resync("BTCUSDT", NOW_MS, "broker_outage"))
    assert [gap.reason for gap in gaps(events)] == ["broker_outage"]
    assert session.purposes() == ["snapshot"]
    assert session.assembler.counts.gaps == 0  # the venue's sequence was fine
    again = session._took(session.assembler.resync("BTCUSDT", NOW_MS, "operator"))
    assert len(gaps(again)) == 1
    assert session.purposes() == ["snapshot"]


def test_a_snapshot_nobody_needs_any_more_is_ignored() -> None:
    session = Session()
    session.sync(at=9)
    session.assembler.resync("BTCUSDT", NOW_MS, "operator")
    session._took([])
    session.answer("snapshot", snapshot_body(9, [level(98, 1)], []))
    feed = session.assembler._feeds["BTCUSDT"].depth
    assert feed.snapshot(DepthSnapshot(9, [], []), NOW_MS)[1] == []


@pytest.mark.parametrize("ask", [100, 99])
def test_a_crossed_book_is_counted_muted_and_resynced(ask: int) -> None:
    """Locked counts too: one venue's own book can't be. It is shown to nobody."""
    session = Session()
    session.sync(at=9)
    events = session.receive(depth(10, 10, [], [level(ask, 1)]))
    assert [gap.reason for gap in gaps(events)] == ["crossed"]
    assert deltas(events) == []
    assert f"best bid 100e-2 is not below best ask {ask}e-2" in gaps(events)[0].detail
    assert session.assembler.snapshot("BTCUSDT", NOW_MS, "x", stale_ok=True) is None
    assert session.assembler.counts.crossed == 1
    events = session.answer("snapshot", snapshot_body(10, [level(98, 1)], [level(99, 1)]))
    assert [type(event) for event in events] == [BookSnapshot]


def test_a_crossed_snapshot_is_counted_and_asked_for_again() -> None:
    session = Session()
    session.connect()
    session.answer("instrument", info_body())
    assert session.answer("snapshot", snapshot_body(5, [level(101, 1)], [level(100, 1)])) == []
    assert session.assembler.counts.crossed == 1
    assert session.purposes() == ["snapshot"]


def test_diffs_held_too_long_are_dropped_with_their_ids_and_the_sync_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(depth_module, "HELD_MESSAGES_MAX", 3)
    session = Session()
    session.connect()
    session.answer("instrument", info_body())
    session.pop("snapshot")  # never answered
    events = [event for seq in range(1, 6) for event in session.receive(depth(seq, seq))]
    (status,) = events
    assert isinstance(status, FeedStatus)
    assert (status.status, status.reason) == ("resync", "held_too_long")
    assert status.detail == "dropped 3 held messages, ids 1 to 3"


def test_held_levels_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_module, "HELD_LEVELS_MAX", 3)
    session = Session()
    session.connect()
    two = [level(98, 1), level(97, 1)]
    assert session.receive(depth(1, 1, two)) == []
    assert [event.status for event in session.receive(depth(2, 2, two))] == ["resync"]
    assert session.receive(depth(3, 3, two * 2))[0].detail.endswith("ids 2 to 2")


def test_a_snapshot_that_waits_for_the_instrument_goes_with_the_diffs_it_belonged_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(depth_module, "HELD_MESSAGES_MAX", 2)
    session = Session()
    session.connect()
    session.answer("snapshot", snapshot_body(0, [level(98, 1)], []))
    for seq in range(1, 4):
        session.receive(depth(seq, seq))
    assert session.purposes() == ["instrument", "snapshot"]
    assert [type(event) for event in session.answer("instrument", info_body())] == [Instrument]


def test_a_diff_held_already_is_not_held_twice() -> None:
    session = Session()
    session.connect()
    for wire in (depth(1, 5), depth(1, 5), depth(2, 4), depth(3, 6)):
        assert session.receive(wire) == []
    assert session.assembler.counts.stale == 2
    session.answer("instrument", info_body())
    assert deltas(session.answer("snapshot", snapshot_body(0, [level(98, 1)], []))) == [5, 6]


def test_a_hole_among_held_diffs_drops_what_is_under_it() -> None:
    session = Session()
    session.connect()
    session.answer("instrument", info_body())
    session.receive(depth(1, 5))
    session.receive(depth(8, 9))
    assert session.answer("snapshot", snapshot_body(4, [level(98, 1)], [])) == []
    events = session.answer("snapshot", snapshot_body(7, [level(98, 1)], []))
    assert deltas(events) == [9]


def test_ids_that_begin_anew_are_noticed_by_the_venues_clock() -> None:
    """A book that dropped every diff as old would stand still and look alive."""
    session = Session()
    session.sync(at=1_000)
    session.receive(depth(1_001, 1_001))
    assert session.receive(depth(5, 5, E=NOW_MS + RESTART_MS)) == []
    events = session.receive(depth(6, 6, E=NOW_MS + RESTART_MS + 1))
    assert [gap.reason for gap in gaps(events)] == ["restart"]
    assert deltas(session.answer("snapshot", snapshot_body(5, [level(98, 1)], []))) == [6]


def test_ids_that_begin_anew_are_noticed_before_any_diff_has_fit() -> None:
    session = Session()
    session.sync(at=1_000)
    assert session.receive(depth(5, 5)) == []
    assert len(gaps(session.receive(depth(6, 6, E=NOW_MS + RESTART_MS + 1)))) == 1


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (["-1.00000000", "1.00000000"], "-1.00000000"),
        (["0.00000000", "1.00000000"], "0.00000000"),
        (["98.00000000", "-0.50000000"], "-0.50000000"),
        (["98.00000000", "NaN"], "NaN"),
    ],
)
def test_a_bad_level_is_named_changes_nothing_and_the_loss_is_noticed(
    bad: list[str], named: str
) -> None:
    session = Session()
    session.sync(at=9)
    with pytest.raises(FrameError, match=named):
        session.receive(depth(10, 10, [level(99, 3), bad]))
    snapshot = session.assembler.snapshot("BTCUSDT", NOW_MS, "refresh")
    assert snapshot is not None
    assert snapshot.bids == [(100, 5)]
    assert snapshot.seq == 9
    assert session.assembler.counts.errors == 1
    session.receive(depth(11, 11))
    assert len(gaps(session.wait())) == 1


def test_a_bad_level_is_refused_while_diffs_are_held_too() -> None:
    session = Session()
    session.connect()
    with pytest.raises(FrameError, match="size 'x'"):
        session.receive(depth(1, 1, [["98.00000000", "x"]]))


def test_ids_that_run_backwards_are_refused() -> None:
    session = Session()
    session.sync(at=9)
    with pytest.raises(FrameError, match="U=11, u=10"):
        session.receive(depth(11, 10))


def test_a_level_finer_than_the_rules_refines_the_book_and_its_records() -> None:
    """Real: BTCUSDT has sizes with six decimals though its lot has five. Nothing is rounded."""
    session = Session()
    session.sync(at=9)
    (delta,) = session.receive(depth(10, 10, [["0.99000000", "25.42618900"]]))
    assert isinstance(delta, BookDelta)
    assert (delta.px_e, delta.sz_e, delta.bids) == (-2, -6, [(99, 25_426_189)])
    snapshot = session.assembler.snapshot("BTCUSDT", NOW_MS, "refresh")
    assert snapshot is not None
    assert snapshot.sz_e == -6
    assert snapshot.asks == [(101, 50)]
    instrument = session.assembler.instrument("BTCUSDT", NOW_MS)
    assert instrument is not None
    assert instrument.sz_e == -5


def test_a_quote_that_differs_at_the_same_id_resyncs_the_book() -> None:
    """In both orders of arrival."""
    session = Session()
    session.sync(at=9)
    session.receive(quote(10, (100, 5), (101, 5)))
    assert deltas(session.receive(depth(10, 10))) == [10]
    events = session.receive(quote(11, (100, 6), (101, 5)))
    assert gaps(events) == []
    events = session.receive(depth(11, 11))
    assert [gap.reason for gap in gaps(events)] == ["top_mismatch"]
    session.answer("snapshot", snapshot_body(11, [level(100, 6)], [level(101, 5)]))
    session.receive(depth(12, 12))
    events = session.receive(quote(12, (99, 6), (101, 5)))
    assert [gap.reason for gap in gaps(events)] == ["top_mismatch"]
    counts = session.assembler.counts
    assert (counts.tops_compared, counts.tops_equal) == (3, 1)


def test_a_snapshot_is_held_against_the_quote_of_its_own_id() -> None:
    session = Session()
    session.connect()
    session.answer("instrument", info_body())
    session.receive(quote(9))
    session.receive(depth(9, 9))
    events = session.answer("snapshot", snapshot_body(9, [level(98, 1)], [level(101, 5)]))
    assert isinstance(events[0], BookSnapshot)
    assert [gap.reason for gap in gaps(events)] == ["top_mismatch"]
    assert session.purposes() == ["snapshot"]


def test_a_quote_finer_than_the_book_is_not_compared() -> None:
    session = Session()
    session.sync(at=9)
    session.receive(quote(9).replace(text(100, 2), "1.00100000"))
    assert session.assembler.counts.tops_compared == 0


@given(changes=CHANGES, cuts=CUTS, late=st.booleans())
def test_every_quote_of_a_true_book_is_equal(
    changes: list[Any], cuts: set[int], late: bool
) -> None:
    """All ids that end a message are compared, whether quotes come first or last."""
    venue = Venue(changes)
    session = Session(venue=venue)
    session.connect()
    session.answer("instrument", info_body())
    session.answer("snapshot", venue.snapshot(0))
    quotes = [venue.quote(at) for at in range(1, venue.newest + 1)]
    frames = venue.diffs(cuts)
    for wire in frames + quotes if late else quotes + frames:
        session.receive(wire)
    counts = session.assembler.counts
    assert counts.tops_compared == counts.tops_equal == len(frames)


def test_without_exchange_info_the_steps_are_read_off_the_digits() -> None:
    session = Session(infer_instruments=True)
    session.connect()
    assert session.purposes() == ["snapshot"]
    session.receive(depth(10, 11, [["99.97500000", "0.00000000"]]))
    body = snapshot_body(9, [["99.95000000", "0.30000000"]], [["100.00000000", "1.20000000"]])
    instrument, snapshot, delta = session.answer("snapshot", body)
    assert isinstance(instrument, Instrument)
    assert (instrument.tick_size, instrument.px_e) == (25, -3)
    assert (instrument.lot_size, instrument.sz_e) == (3, -1)
    assert instrument.origin == "inferred"
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.bids == [(99_950, 3)]
    assert isinstance(delta, BookDelta)
    assert delta.bids == [(99_975, 0)]
