"""Who follows what, and how many."""

from __future__ import annotations

from typing import Any

import pytest

from serving.hub.hub import COUNT_MS, Board
from serving.hub.protocol import STREAMS_MAX, Refused, Snapshot, Subscribe, SubscriberCountChanged
from serving.hub.session import Rules, Session
from serving.hub.streams import EventStream, StateStream
from serving.hub.wire import Batch, State
from tests.support.hub_frames import decoded, entries, numbers, seqs, state


class Crowd:
    """A board with clients whose frames are looked at."""

    def __init__(self) -> None:
        self.board = Board()
        self.mono_ms = 0.0
        self.told: list[tuple[float, Session, SubscriberCountChanged]] = []

    def client(self) -> Session:
        session = Session("x", Rules(), self.mono_ms)
        self.board.add(session)
        return session

    def subscribe(
        self,
        session: Session,
        channels: str = "reports.fast",
        symbols: str = "AUSDT",
        **more: Any,
    ) -> str:
        """All that is new begins with nothing stored."""
        request = Subscribe(channels=channels.split(), symbols=symbols.split(), **more)
        subscription, _, opened = self.board.subscribe(session, request, self.mono_ms)
        for stream in opened:
            stream.waiting = False
        return subscription.id

    def frames(self, session: Session) -> list[Any]:
        found = decoded(session.take(self.mono_ms, 0).frames)
        self.told += [
            (self.mono_ms, session, f) for f in found if isinstance(f, SubscriberCountChanged)
        ]
        return [f for f in found if not isinstance(f, SubscriberCountChanged)]

    def counts(self, session: Session) -> list[int]:
        """Numbers told by now."""
        self.board.tell_counts(self.mono_ms, 1000)
        before = len(self.told)
        self.frames(session)
        return [f.count for _, _, f in self.told[before:]]


def test_a_state_goes_to_all_who_follow_it_and_to_nobody_else() -> None:
    crowd = Crowd()
    one, two, other = crowd.client(), crowd.client(), crowd.client()
    for session, symbol in ((one, "AUSDT"), (two, "AUSDT BUSDT"), (other, "BUSDT")):
        crowd.subscribe(session, symbols=symbol)
    crowd.board.offer(state("AUSDT"))
    assert set(crowd.board.dirty) == {one, two}
    assert [seqs(crowd.frames(s)) for s in (one, two, other)] == [[1], [1], []]


def test_the_same_wish_is_the_same_subscription_and_another_is_another() -> None:
    crowd = Crowd()
    session = crowd.client()
    first = crowd.subscribe(session, "ticks book", "AUSDT BUSDT")
    assert crowd.subscribe(session, "book ticks", "BUSDT AUSDT AUSDT") == first
    assert crowd.subscribe(session, "book ticks", "BUSDT AUSDT", max_hz=1) != first
    assert crowd.subscribe(session, "book ticks", "BUSDT AUSDT", depth=5) != first
    assert len(session.streams) == 4
    assert crowd.board.subscribers == 4


def test_of_two_subscriptions_the_one_that_asks_for_more_holds_until_it_ends() -> None:
    crowd = Crowd()
    session = crowd.client()
    crowd.subscribe(session, "book", max_hz=1, depth=5)
    stream = session.streams["book", "AUSDT"]
    assert isinstance(stream, StateStream)
    assert (stream.interval_ms, stream.depth) == (1000, 5)
    more = crowd.subscribe(session, "book", depth=10)
    assert (stream.interval_ms, stream.depth) == (50, 10)
    assert crowd.board.unsubscribe(session, more, 0)
    assert (stream.interval_ms, stream.depth) == (1000, 5)
    assert not crowd.board.unsubscribe(session, more, 0)


def test_all_symbols_are_those_that_appear_later_too_until_it_is_ended() -> None:
    crowd = Crowd()
    session = crowd.client()
    crowd.board.appeared("AUSDT", 0)
    all_of_them = crowd.subscribe(session, symbols="*")
    assert crowd.board.of_all
    assert set(session.streams) == {("reports.fast", "AUSDT")}
    assert [s.symbol for _, s in crowd.board.appeared("BUSDT", 0)] == ["BUSDT"]
    assert crowd.board.appeared("BUSDT", 0) == []
    crowd.subscribe(session, symbols="BUSDT")
    crowd.board.unsubscribe(session, all_of_them, 0)
    assert set(session.streams) == {("reports.fast", "BUSDT")}
    assert crowd.board.appeared("CUSDT", 0) == []
    assert not crowd.board.of_all


def test_who_has_gone_is_followed_by_nothing() -> None:
    crowd = Crowd()
    session = crowd.client()
    crowd.subscribe(session, "reports.fast trades", "*")
    crowd.subscribe(session, "reports.fast trades", "AUSDT")
    crowd.board.offer(state("AUSDT"))
    crowd.board.drop(session, 0)
    board = crowd.board
    assert not board.sessions
    assert not board.audience
    assert not board.dirty
    assert not board.followed("report")
    assert not board.followed("events")
    assert not board.of_all
    assert board.subscribers == 0


def test_one_client_may_not_have_everything() -> None:
    crowd = Crowd()
    session = crowd.client()
    for n in range(100):
        crowd.subscribe(session, symbols=f"S{n}")
    with pytest.raises(Refused, match="100 subscriptions") as caught:
        crowd.subscribe(session, symbols="S100")
    assert caught.value.code == "too_many_subscriptions"
    assert crowd.subscribe(session, symbols="S5") == "s6", "one that it has already is no more"
    greedy = crowd.client()
    channels = "reports.fast reports.slow ticks book status trades klines merged anomalies"
    crowd.subscribe(greedy, channels, " ".join(f"S{n}" for n in range(1000)))
    others = " ".join(f"T{n}" for n in range(STREAMS_MAX - len(greedy.streams) + 1))
    with pytest.raises(Refused, match="pairs"):
        crowd.subscribe(greedy, "executions", others)
    assert len(greedy.streams) == 9000


def test_where_to_go_on_is_given_to_the_stream_that_it_is_of() -> None:
    crowd = Crowd()
    session = crowd.client()
    resume = {"reports.fast|AUSDT": "7.5", "trades|AUSDT": "1-9", "trades|BUSDT": "nonsense"}
    crowd.subscribe(session, "reports.fast trades", "AUSDT BUSDT", resume=resume)
    report, trades, others = (
        session.streams[pair]
        for pair in (("reports.fast", "AUSDT"), ("trades", "AUSDT"), ("trades", "BUSDT"))
    )
    assert isinstance(report, StateStream)
    assert isinstance(trades, EventStream)
    assert isinstance(others, EventStream)
    assert (report.sent, trades.asked, others.asked) == ((7, 5), (1, 9), None)


def test_who_waits_for_the_store_gets_what_it_has_and_nothing_before() -> None:
    crowd = Crowd()
    session = crowd.client()
    request = Subscribe(channels=["reports.fast", "ticks"], symbols=["AUSDT"])
    crowd.board.subscribe(session, request, 0)
    crowd.board.offer(state("AUSDT"))
    assert crowd.frames(session) == []

    def known(channel: str) -> State | None:
        return state("AUSDT", 2) if channel == "reports.fast" else None

    crowd.board.begin("report", "AUSDT", known)
    (snapshot,) = crowd.frames(session)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.seq == 2
    crowd.board.begin("tick", "AUSDT", known)
    (empty,) = crowd.frames(session)
    assert empty.data is None


def test_what_a_client_that_is_behind_loses_is_counted_by_pair() -> None:
    crowd = Crowd()
    session = crowd.client()
    crowd.subscribe(session)
    for seq in range(1, 6):
        crowd.board.offer(state("AUSDT", seq))
    assert crowd.board.dropped == {("reports.fast", "AUSDT"): 4}


def test_what_one_client_has_missed_goes_to_it_alone() -> None:
    crowd = Crowd()
    one, other = crowd.client(), crowd.client()
    for session in (one, other):
        crowd.subscribe(session, "trades")
    batch = Batch("trades", "AUSDT", entries(*range(1, 1003)))
    crowd.board.offer_one(one, one.streams["trades", "AUSDT"], batch)
    assert len(numbers(crowd.frames(one))) == 200
    assert crowd.frames(other) == []
    assert crowd.board.dropped["trades", "AUSDT"] == 2


def test_a_report_that_turns_stale_is_told_to_those_who_have_it() -> None:
    crowd = Crowd()
    session = crowd.client()
    crowd.subscribe(session)
    made = state("AUSDT")
    crowd.board.offer(made)
    crowd.frames(session)
    crowd.board.turned_stale(made)
    crowd.mono_ms = 100
    assert [type(f).__name__ for f in crowd.frames(session)] == ["Stale"]


# --- numbers of subscribers ----------------------------------------------------------------------


def test_the_number_of_subscribers_is_told_at_once_and_then_at_most_every_two_seconds() -> None:
    crowd = Crowd()
    first = crowd.client()
    crowd.subscribe(first)
    assert crowd.counts(first) == [1]
    for n in range(1, 5):
        crowd.mono_ms = 100.0 * n
        crowd.subscribe(crowd.client())
        assert crowd.counts(first) == []
    assert crowd.board.next_count_ms() == COUNT_MS
    crowd.mono_ms = COUNT_MS - 1
    assert crowd.counts(first) == []
    crowd.mono_ms = COUNT_MS
    assert crowd.counts(first) == [5]
    assert crowd.board.next_count_ms() is None


def test_a_number_that_is_again_what_it_was_is_not_told() -> None:
    crowd = Crowd()
    first = crowd.client()
    crowd.subscribe(first)
    crowd.counts(first)
    guest = crowd.client()
    crowd.subscribe(guest)
    crowd.board.drop(guest, 10)
    crowd.mono_ms = 5000
    assert crowd.counts(first) == []
    crowd.subscribe(crowd.client())
    assert crowd.counts(first) == [2]


def test_with_many_changes_at_once_some_wait_for_the_next_time() -> None:
    crowd = Crowd()
    session = crowd.client()
    crowd.subscribe(session, symbols=" ".join(f"S{n}" for n in range(50)))
    crowd.board.tell_counts(0, 20)
    crowd.frames(session)
    assert len(crowd.told) == 20
    crowd.board.tell_counts(0, 100)
    crowd.frames(session)
    assert len(crowd.told) == 50


def test_of_a_pair_that_nobody_follows_any_more_nothing_is_kept() -> None:
    crowd = Crowd()
    session = crowd.client()
    crowd.subscribe(session)
    crowd.counts(session)
    crowd.board.drop(session, 0)
    crowd.board.tell_counts(COUNT_MS, 10)
    assert not crowd.board._told
