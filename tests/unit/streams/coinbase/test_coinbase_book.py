"""Books: in step with one connection's numbers, or distrusted, and healed one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.events import BookDelta, BookSnapshot
from streams.venues.coinbase.asks import ANSWER_WITHIN_MS
from streams.venues.requests import FREE_REPEATS, REPEAT_MS
from tapeline.errors import FrameError
from tests.support.coinbase import (
    BTC,
    ETH,
    NOW,
    NOW_MS,
    Level,
    Session,
    ack,
    book,
    heartbeat,
    level2,
    product,
    products,
    ticker,
    told,
    trade,
    trades,
)
from tests.support.coinbase_faults import FAULTS, Fault, Played, Tape, run

GAPS = ["BTCUSD gap:sequence", "ETHUSD gap:sequence"]


def both() -> Session:
    session = Session(BTC, ETH)
    session.sync()
    return session


def lose(session: Session, frames: int = 1) -> None:
    session.number += frames


# --- in sync ---


def test_a_snapshot_is_a_whole_book_best_first() -> None:
    session = Session()
    event = session.sync()[-1]
    assert isinstance(event, BookSnapshot)
    assert (event.px_e, event.sz_e, event.seq, event.reason) == (-2, -5, 0, "initial")
    assert event.bids == [(10_000, 500_000), (9_950, 200_000)]
    assert event.asks == [(10_001, 100_000), (10_100, 700_000)]


def test_an_update_sets_sizes_and_zero_removes() -> None:
    session = Session()
    session.sync()
    levels: list[Level] = [("bid", "99.50", "0"), ("bid", "99.25", "1"), ("offer", "101", "2.5")]
    (event,) = session.feed(level2, levels)
    assert isinstance(event, BookDelta)
    assert (event.seq, event.ts_event_ms) == (1, NOW_MS)
    assert (event.bids, event.asks) == ([(9_950, 0), (9_925, 100_000)], [(10_100, 250_000)])
    assert session.levels() == (
        [(10_000, 500_000), (9_925, 100_000)],
        [(10_001, 100_000), (10_100, 250_000)],
    )


def test_updates_before_a_snapshot_are_dropped_and_counted() -> None:
    session = Session()
    session.connect()
    session.answer(products())
    assert session.feed(level2) == []
    assert session.assembler.counts.stale == 1
    assert session.levels() is None


def test_a_book_waits_for_its_instrument_and_is_followed_meanwhile() -> None:
    """Readers take their bins from the instrument, so it comes first."""
    session = Session()
    session.connect()
    assert session.feed(book) == []
    assert session.feed(level2) == []
    assert session.levels() is None
    events = session.answer(products())
    assert told(events) == ["BTCUSD instrument", "BTCUSD book_snapshot:initial"]
    assert events[1].bids == [(10_000, 500_000), (9_950, 300_000)]
    assert told(session.feed(level2)) == ["BTCUSD book_delta"]


def test_finer_digits_than_the_instruments_refine_the_book() -> None:
    session = Session()
    session.sync()
    (event,) = session.feed(level2, [("bid", "99.4375", "0.00000001")])
    assert (event.px_e, event.sz_e, event.bids) == (-4, -8, [(994_375, 1)])
    assert session.levels()[0][0] == (1_000_000, 500_000_000)


@pytest.mark.parametrize("odd", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "never"])
def test_an_odd_time_is_replaced_and_the_levels_count(odd: str) -> None:
    session = Session()
    session.sync()
    (event,) = session.feed(level2, time=odd)
    assert (event.ts_event_ms, event.bids) == (NOW_MS, [(9_950, 300_000)])
    assert session.assembler.counts.ts_replaced == 1


def test_a_snapshots_levels_may_be_of_any_age() -> None:
    session = Session()
    session.connect()
    session.answer(products())
    wire = book(0).replace(f'"event_time":"{NOW}"', '"event_time":"1970-01-01T00:00:00Z"')
    (event,) = session.receive(wire)
    assert (event.ts_event_ms, session.assembler.counts.ts_replaced) == (NOW_MS, 0)


# --- holes ---


@pytest.mark.parametrize("after", [level2, ticker, heartbeat])
def test_a_hole_shown_by_any_frame_is_a_gap_of_every_book(after: object) -> None:
    session = both()
    lose(session)
    assert told(session.feed(after))[:2] == GAPS
    assert (session.levels("BTCUSD"), session.levels("ETHUSD")) == (None, None)
    counts = session.assembler.counts
    assert (counts.sequence_gaps, counts.resyncs, counts.gaps) == (1, 2, 0)
    assert (counts.sequence_first, counts.sequence_last) == (0, 3)


def test_the_books_are_subscribed_anew_one_by_one() -> None:
    session = both()
    lose(session)
    session.feed(heartbeat)
    for name in ("BTC-USD", "ETH-USD"):
        assert session.sent() == [
            {"type": method, "channel": "level2", "product_ids": [name]}
            for method in ("unsubscribe", "subscribe")
        ]
    assert session.sent() == []


def test_a_book_is_mute_from_the_hole_to_its_own_snapshot() -> None:
    session = both()
    lose(session)
    session.feed(heartbeat)
    assert session.feed(level2) == session.feed(level2, product="ETH-USD") == []
    assert told(session.feed(book)) == ["BTCUSD book_snapshot:resync"]
    assert told(session.feed(level2)) == ["BTCUSD book_delta"]
    assert session.feed(level2, product="ETH-USD") == []


def test_the_old_book_stays_readable() -> None:
    session = both()
    before = session.levels()
    lose(session)
    session.feed(level2)
    old = session.assembler.snapshot("BTCUSD", NOW_MS, "refresh", stale_ok=True)
    assert old is not None
    assert (old.bids, old.asks) == before


def test_trades_and_tickers_go_on_without_the_book() -> None:
    session = both()
    lose(session)
    assert told(session.feed(ticker)) == [*GAPS, "BTCUSD ticker"]
    assert told(session.feed(trades, trade(1))) == ["BTCUSD trade"]


def test_a_snapshot_in_the_frame_that_shows_the_hole_is_not_taken() -> None:
    """Its number may be what is wrong: the frames it hides would be taken for repeats."""
    session = both()
    wrong = book(session.number + 1)
    assert told(session.receive(wrong)) == GAPS
    assert session.levels() is None
    assert session.sent()[1]["product_ids"] == ["BTC-USD"]


def test_a_repeat_is_dropped() -> None:
    session = both()
    (event,) = session.feed(level2, [("bid", "99", "1")])
    again = level2(session.number - 1, [("bid", "99", "9")])
    assert session.receive(again) == []
    assert session.receive(level2(1, [("bid", "99", "9")])) == []
    assert session.levels()[0][-1] == event.bids[0]
    assert session.assembler.counts.stale == 2


def test_a_connection_that_begins_in_the_middle_has_no_hole() -> None:
    """A recording in pieces; live, a snapshot may have been lost, so it is asked for."""
    session = Session()
    session.connect()
    session.answer(products())
    session.number = 600
    assert told(session.feed(heartbeat)) == ["BTCUSD gap:sequence"]
    counts = session.assembler.counts
    assert (counts.sequence_first, counts.sequence_gaps, counts.resyncs) == (600, 0, 0)
    assert [f["type"] for f in session.sent()][:2] == ["unsubscribe", "subscribe"]


def test_a_hole_while_a_snapshot_is_on_its_way_asks_again() -> None:
    """It may be what was lost."""
    session = Session()
    session.sync()
    for _ in range(2):
        lose(session)
        session.feed(heartbeat)
        assert len(session.sent()) == 2
    assert session.assembler.counts.resyncs == 1


# --- what can't be read ---


@pytest.mark.parametrize(
    "levels",
    [
        [("bid", "99", "1"), ("bid", "98", "?")],
        [("bid", "99", "1"), ("bid", "0", "1")],
        [("bid", "99", "1"), ("offer", "1e9", "1")],
        [("bid", "99", "1"), ("ask", "102", "1")],
        [("bid", "99", "1"), ("bid", "98", "")],
        [("bid", "99", "1"), ("bid", "98", "0.000000001")],
    ],
)
@pytest.mark.parametrize("make", [level2, book])
def test_one_level_that_cannot_be_read_resyncs_that_symbol_alone(
    make: object, levels: list[Level]
) -> None:
    session = both()
    before = session.levels()
    with pytest.raises(FrameError):
        session.feed(make, levels)
    assert told(session.feed(heartbeat)) == ["BTCUSD gap:sequence"]
    assert session.levels("ETHUSD") == before
    old = session.assembler.snapshot("BTCUSD", NOW_MS, "refresh", stale_ok=True)
    assert old is not None
    assert (old.bids, old.asks) == before, "half of it was applied"
    assert {name for f in session.sent() for name in f["product_ids"]} == {"BTC-USD"}
    assert session.sent() == []
    assert session.assembler.counts.errors == 1


def test_where_it_cannot_be_told_whose_it_is_all_are_distrusted() -> None:
    session = both()
    wire = level2(session.number).replace('"product_id":"BTC-USD"', '"product_id":7')
    session.number += 1
    with pytest.raises(FrameError):
        session.receive(wire)
    assert told(session.feed(heartbeat)) == GAPS


def test_other_channels_that_cannot_be_read_are_no_matter_of_the_book() -> None:
    session = both()
    with pytest.raises(FrameError):
        session.feed(ticker, price=7)
    assert session.feed(heartbeat) == []


# --- crossed ---


CROSSING = [("bid", "100.01", "1")]


def test_a_crossed_book_is_resynced_alone_and_shown_to_nobody() -> None:
    session = both()
    assert told(session.feed(level2, CROSSING)) == ["BTCUSD gap:crossed"]
    assert session.assembler.snapshot("BTCUSD", NOW_MS, "refresh", stale_ok=True) is None
    assert session.levels("ETHUSD") is not None
    assert session.assembler.counts.crossed == 1
    assert told(session.feed(book)) == ["BTCUSD book_snapshot:resync"]


def test_one_that_crosses_again_and_again_is_asked_for_less_and_less() -> None:
    session = Session()
    session.sync()
    for _ in range(FREE_REPEATS):
        session.feed(level2, CROSSING)
        assert len(session.sent()) == 2
        session.feed(book)
    session.feed(level2, CROSSING)
    assert session.sent() == []
    session.now_ms += REPEAT_MS
    session.feed(heartbeat)
    assert len(session.sent()) == 2


def test_a_crossed_snapshot_is_no_book() -> None:
    session = Session()
    session.connect()
    session.answer(products())
    assert told(session.feed(book, [("bid", "2", "1"), ("offer", "2", "1")])) == [
        "BTCUSD gap:crossed"
    ]
    assert session.levels() is None
    assert len(session.sent()) == 2


# --- asked for by the driver ---


def test_a_resync_mutes_and_a_refresh_does_not() -> None:
    session = both()
    assert told(session.assembler.resync("BTCUSD", NOW_MS, "stale")) == ["BTCUSD gap:stale"]
    assert session.assembler.resync("ETHUSD", NOW_MS, "refresh") == []
    assert (session.levels("BTCUSD"), session.levels("ETHUSD") is None) == (None, False)
    assert told(session.feed(level2, product="ETH-USD")) == ["ETHUSD book_delta"]
    assert [f["product_ids"] for f in session.sent() + session.sent()] == [
        ["BTC-USD"], ["BTC-USD"], ["ETH-USD"], ["ETH-USD"],
    ]  # fmt: skip
    assert told(session.feed(book)) == ["BTCUSD book_snapshot:resync"]
    assert told(session.feed(book, product="ETH-USD")) == ["ETHUSD book_snapshot:refresh"]
    assert session.assembler.counts.resyncs == 1


def test_a_refresh_that_brings_nothing_ends_in_a_resync() -> None:
    """The old subscription was ended for it, so the book has stood still."""
    session = Session()
    session.sync()
    session.assembler.resync("BTCUSD", NOW_MS, "refresh")
    session.sent()
    session.now_ms += ANSWER_WITHIN_MS
    assert told(session.feed(heartbeat)) == ["BTCUSD gap:refresh"]
    assert len(session.sent()) == 2


def test_a_subscription_that_ended_unasked_is_noticed() -> None:
    session = both()
    session.feed(ack, level2=["ETH-USD"], ticker=["BTC-USD", "ETH-USD"])
    session.now_ms += ANSWER_WITHIN_MS
    assert told(session.feed(heartbeat)) == ["BTCUSD gap:refresh"]


def test_a_first_snapshot_that_does_not_come_is_asked_for() -> None:
    session = Session()
    session.connect()
    session.answer(products())
    session.feed(ticker)
    session.now_ms += ANSWER_WITHIN_MS
    assert session.feed(heartbeat) == []
    assert [f["channel"] for f in session.sent()] == ["level2", "level2"]


# --- two sockets ---


def two() -> Session:
    """In sync by way of socket 0, and socket 1 is open."""
    session = Session()
    session.sync()
    session.connect(1)
    return session


def test_the_snapshot_of_a_newer_socket_moves_the_book_there() -> None:
    session = two()
    assembler = session.assembler
    assert (assembler.rests_on(0), assembler.rests_on(1)) == (True, False)
    assert told(session.receive(level2(1), 0)) == ["BTCUSD book_delta"]
    assert session.receive(level2(0), 1) == [], "numbers of its own, and no book yet"
    assert told(session.receive(book(1), 1)) == ["BTCUSD book_snapshot:refresh"]
    assert (assembler.rests_on(0), assembler.rests_on(1)) == (False, True)
    assert session.receive(level2(2, [("bid", "99", "9")]), 0) == []
    assert told(session.receive(level2(2), 1)) == ["BTCUSD book_delta"]
    assert session.receive(book(3), 0) == [], "the older socket's"
    assert assembler.closed(0, NOW_MS) == []


def test_a_hole_on_one_socket_is_no_matter_of_a_book_on_the_other() -> None:
    session = two()
    session.receive(heartbeat(0), 1)
    assert session.receive(heartbeat(5), 1) == []
    assert session.levels() is not None
    assert len(session.sent()) == 2, "the snapshot that was to move the book may be lost"
    assert told(session.receive(heartbeat(9), 0)) == ["BTCUSD gap:sequence"]


def test_a_book_whose_socket_goes_is_asked_for_on_the_other() -> None:
    session = two()
    assert told(session.assembler.closed(0, NOW_MS)) == ["BTCUSD gap:restart"]
    assert len(session.sent()) == 2
    assert told(session.receive(book(0), 1)) == ["BTCUSD book_snapshot:resync"]


def test_both_sockets_trades_are_passed_on_once() -> None:
    session = two()
    assert told(session.receive(trades(1, trade(1)), 0)) == ["BTCUSD trade"]
    assert told(session.receive(trades(0, trade(2), trade(1)), 1)) == ["BTCUSD trade"]
    assert session.receive(trades(2, trade(2)), 0) == []


# --- over a bad line ---

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["BTC-USD", "ETH-USD", "ticker"]),
        st.sampled_from(["bid", "offer"]),
        st.integers(0, 20),
        st.integers(0, 4),
    ),
    min_size=30,
    max_size=80,
)


def made_up(changes: list[tuple[str, str, int, int]]) -> Tape:
    """Bids below 100, offers above; two snapshots, then one change a frame."""
    frames = []
    for name in ("BTC-USD", "ETH-USD"):
        updates = [_update("bid", "99", "1"), _update("offer", "101", "1")]
        event = {"type": "snapshot", "product_id": name, "updates": updates}
        frames.append(Played(NOW_MS, "l2_data", NOW, [event]))
    for n, (name, side, away, size) in enumerate(changes, 1):
        if name == "ticker":
            frames.append(Played(NOW_MS + n * 50, "status", NOW, []))
            continue
        px = 100 - away / 4 - 0.25 if side == "bid" else 100 + away / 4
        event = {"type": "update", "product_id": name}
        updates = [_update(side, f"{px:.2f}", str(size))]
        frames.append(Played(NOW_MS + n * 50, "l2_data", NOW, [event | {"updates": updates}]))
    return Tape(frames)


def _update(side: str, px: str, sz: str) -> dict[str, str]:
    return {"side": side, "event_time": NOW, "price_level": px, "new_quantity": sz}


RULES = products(
    product("BTC-USD", base_increment="0.00000001"), product("ETH-USD", base_increment="0.00000001")
)


@settings(max_examples=60, deadline=None)
@given(
    changes=CHANGES,
    faults=st.lists(
        st.builds(Fault, st.integers(0, 80), st.sampled_from(FAULTS), st.integers(0, 400)),
        max_size=6,
    ),
    delay=st.integers(0, 12),
)
def test_whatever_the_line_does_no_book_is_silently_wrong(
    changes: list[tuple[str, str, int, int]], faults: list[Fault], delay: int
) -> None:
    """After each frame what claims to be in sync is the truth; in the end everything is."""
    assert run(made_up(changes), [BTC, ETH], RULES, faults, delay).healed
