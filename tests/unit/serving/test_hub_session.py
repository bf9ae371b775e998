"""One client: nothing newer is lost, nothing older comes, everyone has a turn, nothing grows."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.hub.protocol import Events, Snapshot, Stale, Subscribe, Update
from serving.hub.session import ROUND_BYTES, Bucket, Rules, Session
from serving.hub.streams import BACKLOG_MAX, FRAME_EVENTS_MAX, EventStream, StateStream, Stream
from serving.hub.wire import Batch, State, control
from tests.support.hub_frames import decoded, entries, numbers, seqs, state

SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")


def opened(session: Session, channel: str = "reports.fast", symbol: str = "AUSDT") -> Stream:
    """A stream that has begun, with nothing stored so far."""
    stream = session.open((channel, symbol))
    if isinstance(stream, StateStream):
        stream.waiting = False
    else:
        stream.attach()
    return stream


def take(session: Session, mono_ms: float = 0.0) -> list[Any]:
    return decoded(session.take(mono_ms, 0).frames)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 2)),
        st.tuples(st.just("event"), st.integers(1, 5)),
        st.tuples(st.just("take"), st.integers(0, 200)),
    ),
    max_size=80,
)


@given(steps, st.integers(1, 20), st.integers(1, 10), st.sampled_from([1, 50]))
def test_a_history(steps: list[tuple[str, int]], rate: int, burst: int, flush_ms: int) -> None:
    """What holds of every client, however it reads and whatever is written.

    The newest state arrives; places rise and each frame names the one before it; each state is
    sent or counted as dropped; the rate and the flush hold; execution reports come all, in order.
    """
    session = Session("x", Rules(rate_per_s=rate * 10, burst=burst, flush_ms=flush_ms), 0)
    streams = [opened(session, symbol=symbol) for symbol in SYMBOLS]
    executions = opened(session, "executions")
    written: Counter[str] = Counter()
    events = 0
    seen: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    got: list[int] = []
    mono_ms = 0.0

    def look() -> int:
        found = take(session, mono_ms)
        for frame in found:
            if not isinstance(frame, Events):
                seen[frame.symbol].append((mono_ms, frame))
        got.extend(numbers(found))
        return sum(not isinstance(frame, Events) for frame in found)

    sent = 0
    for step, number in steps:
        if step == "offer":
            symbol = SYMBOLS[number]
            written[symbol] += 1
            session.offer(streams[number], state(symbol, written[symbol]))
        elif step == "event":
            rows = entries(*range(events + 1, events + number + 1))
            events += number
            session.offer(executions, Batch("executions", "AUSDT", rows))
        else:
            mono_ms += number
            sent += look()
            assert sent <= burst + rate * 10 * mono_ms / 1000 + 1e-6
    for _ in range(400):
        mono_ms += 100
        look()
    assert got == list(range(1, events + 1))
    assert session.waits == 0
    frames = 0
    for symbol, number in written.items():
        history = seen[symbol]
        frames += len(history)
        assert history[-1][1].seq == number
        assert isinstance(history[0][1], Snapshot)
        for (before_ms, before), (after_ms, after) in pairwise(history):
            assert isinstance(after, Update)
            assert after.seq > before.seq
            assert (after.prev_token, after.prev_seq) == (before.token, before.seq)
            assert after_ms - before_ms >= flush_ms
    assert frames + session.dropped == sum(written.values())


def test_streams_take_turns_where_the_rate_is_short() -> None:
    """Ten a second for three streams that always have something: none gets two more than another."""
    session = Session("x", Rules(rate_per_s=10, burst=1, flush_ms=1), 0)
    streams = [opened(session, symbol=symbol) for symbol in SYMBOLS]
    sent: Counter[str] = Counter()
    for turn in range(1, 400):
        for stream in streams:
            session.offer(stream, state(stream.symbol, turn))
        sent.update(frame.symbol for frame in take(session, turn * 10.0))
    assert sum(sent.values()) == pytest.approx(40, abs=2)
    assert max(sent.values()) - min(sent.values()) <= 1
    assert session.throttled_ms > 3000


def test_a_busy_stream_leaves_a_quiet_one_its_turn() -> None:
    session = Session("x", Rules(rate_per_s=100, burst=1, flush_ms=1), 0)
    busy, quiet = opened(session), opened(session, symbol="BUSDT")
    session.offer(busy, state("AUSDT", 1))
    take(session)
    session.offer(busy, state("AUSDT", 2))
    session.offer(quiet, state("BUSDT", 1))
    session.offer(busy, state("AUSDT", 3))
    assert [frame.symbol for frame in take(session, 10) + take(session, 20)] == ["AUSDT", "BUSDT"]


def test_a_backlog_leaves_another_stream_its_turn() -> None:
    session = Session("x", Rules(coalesced=frozenset()), 0)
    long, short = opened(session), opened(session, symbol="BUSDT")
    for seq in (1, 2, 3):
        session.offer(long, state("AUSDT", seq))
    session.offer(short, state("BUSDT", 1))
    assert [frame.symbol for frame in take(session)] == ["AUSDT", "BUSDT", "AUSDT", "AUSDT"]


def test_a_client_that_is_behind_holds_one_state_of_a_stream() -> None:
    session = Session("x", Rules(), 0)
    stream = opened(session)
    for seq in range(1, 10_001):
        session.offer(stream, state(seq=seq))
    assert stream.depth_of_buffer == 1
    assert session.dropped == 9_999
    assert seqs(take(session)) == [10_000]


def test_states_of_a_channel_that_is_not_coalesced_come_one_by_one_up_to_a_bound() -> None:
    session = Session("x", Rules(coalesced=frozenset(), rate_per_s=10**6, burst=10**4), 0)
    stream = opened(session)
    for seq in range(1, BACKLOG_MAX + 11):
        session.offer(stream, state(seq=seq))
    assert session.dropped == 10
    found = [seq for turn in range(5) for seq in seqs(take(session, turn))]
    assert found == list(range(11, BACKLOG_MAX + 11))


def test_an_older_state_is_not_sent_even_after_a_newer_one_has_gone() -> None:
    session = Session("x", Rules(), 0)
    stream = opened(session)
    session.offer(stream, state(token=8, seq=1))
    take(session)
    for older in (state(token=7, seq=99), state(token=8, seq=1)):
        session.offer(stream, older)
    assert take(session, 1000) == []
    session.offer(stream, state(token=8, seq=2))
    assert seqs(take(session, 1000)) == [2]


def test_at_most_as_often_as_was_asked_for() -> None:
    session = Session("x", Rules(), 0)
    subscription, _ = session.wish(
        Subscribe(channels=["reports.fast"], symbols=["AUSDT"], max_hz=2)
    )
    session.subscriptions[subscription.id] = subscription
    stream = opened(session)
    at: list[float] = []
    for turn in range(200):
        session.offer(stream, state("AUSDT", turn + 1))
        if take(session, turn * 10.0):
            at.append(turn * 10.0)
    assert at == [0.0, 500.0, 1000.0, 1500.0]


def test_it_says_when_there_will_be_more() -> None:
    """After the flush, or when the bucket has filled."""
    session = Session("x", Rules(rate_per_s=100, burst=1, flush_ms=50), 0)
    stream, other = opened(session), opened(session, symbol="BUSDT")
    assert session.take(0, 0).next_ms is None
    session.offer(stream, state("AUSDT", 1))
    session.offer(other, state("BUSDT", 1))
    assert session.take(0, 0).next_ms == pytest.approx(10)
    assert session.take(10, 0).next_ms is None
    session.offer(stream, state("AUSDT", 2))
    assert session.take(20, 0).next_ms == 50
    assert len(session.take(50, 0).frames) == 1


def test_the_oldest_arrival_of_what_is_sent_is_told() -> None:
    session = Session("x", Rules(), 0)
    for arrived_ms, symbol in ((30.0, "AUSDT"), (20.0, "BUSDT")):
        made = state(symbol)
        made.arrived_ms = arrived_ms
        session.offer(opened(session, symbol=symbol), made)
    assert session.take(40, 0).arrived_ms == 20.0
    assert session.take(40, 0).arrived_ms is None


# --- snapshots, resuming, staleness --------------------------------------------------------------


def test_a_snapshot_asked_for_again_is_the_newest_and_never_older_than_the_last() -> None:
    session = Session("x", Rules(), 0)
    stream = opened(session)
    assert isinstance(stream, StateStream)
    newest = state(seq=5)
    session.offer(stream, newest)
    take(session)
    for known in (newest, state(seq=4)):
        stream.repeat(known)
        session.queue(stream)
    (again,) = take(session, 100)
    assert isinstance(again, Snapshot)
    assert again.seq == 5
    session.offer(stream, state(seq=6))
    stream.repeat(newest)
    (again,) = take(session, 200)
    assert isinstance(again, Snapshot)
    assert again.seq == 6


def test_where_nothing_is_stored_a_snapshot_of_null_comes_first_and_again() -> None:
    session = Session("x", Rules(), 0)
    stream = session.open(("ticks", "AUSDT"))
    assert isinstance(stream, StateStream)
    stream.begin(None)
    session.queue(stream)
    (empty,) = take(session)
    assert empty.data is None
    stream.repeat(None)
    session.queue(stream)
    assert take(session, 100)[0].data is None
    session.offer(stream, state("AUSDT", channel="ticks"))
    (update,) = take(session, 200)
    assert (update.prev_token, update.prev_seq) == (0, 0)


def test_a_client_that_comes_back_gets_an_update_on_what_it_has_or_nothing() -> None:
    session = Session("x", Rules(), 0)
    for symbol, seq in (("AUSDT", 4), ("BUSDT", 5), ("CUSDT", 6)):
        stream = session.open(("reports.fast", symbol))
        assert isinstance(stream, StateStream)
        stream.resume((7, 5))
        stream.begin(state(symbol, seq))
        session.queue(stream)
    (only,) = take(session)
    assert isinstance(only, Update)
    assert (only.symbol, only.seq, only.prev_seq) == ("CUSDT", 6, 5)


def test_a_stale_report_is_told_once_and_a_new_write_comes_instead() -> None:
    session = Session("x", Rules(), 0)
    stream = opened(session)
    assert isinstance(stream, StateStream)
    made = state()
    stream.turned_stale(made)
    assert not stream.ready, "what was never sent can't turn stale"
    session.offer(stream, made)
    take(session)
    stream.turned_stale(made)
    session.queue(stream)
    assert [type(frame) for frame in take(session, 100)] == [Stale]
    stream.turned_stale(made)
    session.offer(stream, state(seq=2))
    assert [type(frame) for frame in take(session, 200)] == [Update]


# --- events --------------------------------------------------------------------------------------


def test_events_of_a_client_that_is_behind_go_oldest_first_and_it_is_told() -> None:
    session = Session("x", Rules(rate_per_s=10**6), 0)
    stream = opened(session, "trades")
    for start in range(0, BACKLOG_MAX + 50, 30):
        rows = entries(*range(start + 1, start + 31))
        session.offer(stream, Batch("trades", "AUSDT", rows))
    frames: list[Any] = []
    for turn in range(100):
        frames += take(session, turn * 50.0)
    assert frames[0].lost
    assert not any(frame.lost for frame in frames[1:])
    assert len(numbers(frames)) == BACKLOG_MAX
    assert numbers(frames)[-1] == 1050
    assert session.dropped == 50
    assert stream.depth_of_buffer == 0
    assert all(len(frame.data) <= FRAME_EVENTS_MAX for frame in frames)


def test_events_of_a_coalesced_channel_are_the_newest_one() -> None:
    session = Session("x", Rules(coalesced=frozenset({"klines"})), 0)
    stream = opened(session, "klines")
    session.offer(stream, Batch("klines", "AUSDT", entries(1, 2)))
    session.offer(stream, Batch("klines", "AUSDT", entries(3)))
    assert numbers(take(session)) == [3]


def test_events_are_taken_once_and_only_of_the_venues_that_were_asked_for() -> None:
    session = Session("x", Rules(), 0)
    for n, venues in enumerate((["kraken"], ["binance"])):
        subscription, _ = session.wish(
            Subscribe(channels=["trades"], symbols=["AUSDT"], venues=venues)
        )
        session.subscriptions[subscription.id] = subscription
        if n == 0:
            stream = opened(session, "trades")
    assert isinstance(stream, EventStream)
    batch = Batch("trades", "AUSDT", [*entries(1), *entries(2, venue="kraken")])
    session.offer(stream, batch)
    assert numbers(take(session)) == [2]
    session.adapt(stream)
    session.offer(stream, batch)
    session.offer(stream, Batch("trades", "AUSDT", entries(3)))
    session.offer(stream, Batch("trades", "AUSDT", entries(4, venue="coinbase")))
    assert numbers(take(session, 100)) == [3]


def test_execution_reports_go_first_and_are_not_held_up_by_the_rate() -> None:
    session = Session("x", Rules(rate_per_s=1, burst=1), 0)
    for symbol in SYMBOLS:
        session.offer(opened(session, symbol=symbol), state(symbol))
    stream = opened(session, "executions")
    for n in range(1, 6):
        session.offer(stream, Batch("executions", "AUSDT", entries(n)))
    frames = take(session)
    assert isinstance(frames[0], Events)
    assert numbers(frames) == [1, 2, 3, 4, 5]


def test_more_execution_reports_than_may_wait_end_the_client_with_where_to_go_on() -> None:
    session = Session("x", Rules(executions_queue=10), 0)
    stream = opened(session, "executions")
    assert isinstance(stream, EventStream)
    stream.resume((1, 0))
    session.offer(stream, Batch("executions", "AUSDT", entries(1, 2)))
    take(session)
    session.offer(stream, Batch("executions", "AUSDT", entries(*range(3, 13))))
    assert session.full is None
    session.offer(stream, Batch("executions", "AUSDT", entries(13)))
    assert session.full is stream
    assert session.dropped == 0
    assert session.resume() == {"executions|AUSDT": "1-2"}


# --- answers, counts, bounds ---------------------------------------------------------------------


def test_answers_come_first_and_do_not_wait_for_the_rate() -> None:
    session = Session("x", Rules(rate_per_s=1, burst=1), 0)
    session.offer(opened(session), state())
    take(session)
    for n in range(5):
        session.answer(control(_pong(n)))
    assert len(take(session)) == 5


def _pong(n: int) -> Any:
    from serving.hub.protocol import Pong

    return Pong(id=None, now_ms=n)


def test_a_client_that_leaves_its_answers_lying_is_crowded() -> None:
    session = Session("x", Rules(), 0)
    while not session.crowded:
        session.answer(b"")
    session.take(0, 0)
    assert not session.crowded


def test_of_heartbeats_counts_and_words_on_the_store_only_the_newest_waits() -> None:
    session = Session("x", Rules(), 0)
    opened(session)
    for n in range(100):
        session.heartbeat(control(_pong(n)))
        session.source(control(_pong(1000 + n)))
        session.counted(("reports.fast", "AUSDT"), n)
    first, second, third = take(session)
    assert (first.now_ms, second.now_ms, third.count) == (1099, 99, 99)


def test_a_few_counts_come_through_although_market_data_takes_the_whole_rate() -> None:
    session = Session("x", Rules(rate_per_s=100, burst=1, flush_ms=1), 0)
    stream = opened(session)
    session.counted(("reports.fast", "AUSDT"), 5)
    for seq in range(1, 20):
        session.offer(stream, state("AUSDT", seq))
        found = [f for f in take(session, seq * 10.0) if hasattr(f, "count")]
        if found:
            break
    assert seq <= 2


def test_one_round_is_bounded() -> None:
    session = Session("x", Rules(rate_per_s=10**6, burst=10**5), 0)
    for n in range(100):
        symbol = f"S{n}"
        big = State(
            "reports.fast",
            symbol,
            (1, 1),
            b'"' + b"x" * 10_000 + b'"',
            written_ms=0,
            data_age_ms=0,
            at_ms=0,
        )
        session.offer(opened(session, symbol=symbol), big)
    taken = session.take(0, 0)
    assert sum(map(len, taken.frames)) < ROUND_BYTES + 11_000
    assert taken.next_ms == 0


def test_what_is_no_longer_followed_is_not_sent() -> None:
    session = Session("x", Rules(), 0)
    stream = opened(session)
    session.offer(stream, state("AUSDT", 1))
    take(session)
    session.offer(stream, state("AUSDT", 2))
    session.take(1, 0)  # now it stands among those that come later
    session.close(("reports.fast", "AUSDT"))
    assert take(session, 1000) == []
    other = opened(session)
    session.offer(other, state("AUSDT", 3))
    session.close(("reports.fast", "AUSDT"))
    assert take(session, 2000) == []
    assert session.waits == 0


def test_the_deepest_stream_is_named() -> None:
    session = Session("x", Rules(), 0)
    assert session.deepest() == ("", 0)
    session.offer(opened(session), state())
    session.offer(opened(session, "trades", "BUSDT"), Batch("trades", "BUSDT", entries(1, 2)))
    assert session.deepest() == ("trades|BUSDT", 2)


def test_a_bucket_fills_at_its_rate_up_to_its_burst() -> None:
    bucket = Bucket(1000, 3, 0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_ms() == pytest.approx(1)
    assert bucket.take(1)
    assert not bucket.take(0.5), "a clock that steps back gives nothing"
    assert [bucket.take(1000) for _ in range(4)] == [True, True, True, False]
