"""Frames as bytes: right, and made once."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from serving.hub.protocol import Snapshot, Stale, Update
from serving.hub.wire import (
    Batch,
    State,
    empty_snapshot,
    events_frame,
    framed,
    payload_of,
    stale_frame,
)
from serving.reader import aged
from tests.support.hub_frames import decoded, entries, state
from tests.support.reports import stored


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_frame_is_one_that_websockets_reads(size: int) -> None:
    payload = b"x" * size
    frame = framed(payload)
    reader = StreamReader()
    reader.feed_data(frame)
    reader.feed_eof()
    parsing = Frame.parse(reader.read_exact, mask=False, max_size=None)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    read = done.value.value
    assert (read.opcode, read.fin, bytes(read.data)) == (Opcode.TEXT, True, payload)
    assert payload_of(frame) == payload


def report(now_ms: int, data_age_ms: int | None = 40) -> State:
    payload = stored(seq=3, now_ms=now_ms, data_age_ms=data_age_ms)
    return State(
        "reports.fast",
        "BTCUSDT",
        (7, 3),
        payload,
        written_ms=now_ms,
        data_age_ms=data_age_ms,
        at_ms=now_ms,
    )


@pytest.mark.parametrize("data_age_ms", [None, 0, 40, 2000])
@pytest.mark.parametrize("later_ms", [-5, 0, 1960, 1961, 5000])
def test_ages_are_those_that_other_readers_tell(data_age_ms: int | None, later_ms: int) -> None:
    made = report(1_800_000_000_000, data_age_ms)
    now_ms = 1_800_000_000_000 + later_ms
    expected = aged(made.data, now_ms)
    (frame,) = decoded([made.frame(None, now_ms)])
    assert frame.read.age_ms == expected.age_ms
    assert frame.read.data_age_ms == expected.data_age_ms
    assert frame.read.stale is expected.stale is made.stale(now_ms)


def test_the_stored_object_is_in_the_frame_as_it_stands() -> None:
    made = report(1_800_000_000_000)
    for frame in (made.frame(None, 0), made.frame((7, 2), 0)):
        assert payload_of(frame).endswith(b'"data":' + made.data + b"}")


def test_a_snapshot_begins_and_an_update_names_what_went_before() -> None:
    made = report(1_800_000_000_000)
    first, second = decoded([made.frame(None, 0), made.frame((6, 9), 0)])
    assert isinstance(first, Snapshot)
    assert isinstance(second, Update)
    assert (second.token, second.seq, second.prev_token, second.prev_seq) == (7, 3, 6, 9)


def test_clients_that_keep_up_share_one_frame_for_as_long_as_its_age_is_right() -> None:
    made = report(1_800_000_000_000)
    now_ms = 1_800_000_000_100
    first = made.frame((7, 2), now_ms)
    assert made.frame((7, 2), now_ms + 20) is first
    assert made.frame((7, 1), now_ms) != first
    assert made.frame((7, 2), now_ms + 21) != first


def test_frames_of_clients_that_are_behind_do_not_pile_up() -> None:
    made = report(1_800_000_000_000)
    for seq in range(1000):
        made.frame((7, seq), 1_800_000_000_000)
    assert len(made._made_of) < 20


def test_nothing_stored_is_a_snapshot_of_null() -> None:
    (frame,) = decoded([empty_snapshot("ticks", "BTCUSDT", 5)])
    assert (frame.token, frame.seq, frame.data, frame.read.stale) == (0, 0, None, True)


def test_a_stale_frame_says_how_old_it_is() -> None:
    (frame,) = decoded([stale_frame(report(1_800_000_000_000), 1_800_000_003_000)])
    assert isinstance(frame, Stale)
    assert (frame.read.data_age_ms, frame.read.stale) == (3040, True)


def test_a_state_without_levels_is_its_own_variant() -> None:
    made = state()
    assert made.variant(5) is made


def test_events_are_in_one_frame_made_once() -> None:
    batch = Batch("trades", "BTCUSDT", entries(1, 2, 3))
    assert batch.frame() is batch.frame()
    frame = json.loads(payload_of(batch.frame()))
    assert frame == {
        "type": "events",
        "channel": "trades",
        "symbol": "BTCUSDT",
        "cursor": "1-3",
        "data": [{"n": 1}, {"n": 2}, {"n": 3}],
    }
    assert json.loads(payload_of(events_frame("t", "S", entries(1), lost=True)))["lost"] is True


def test_of_events_those_beyond_a_place_are_taken() -> None:
    batch = Batch("trades", "BTCUSDT", entries(1, 2, 3))
    assert batch.after((1, 0)) is batch
    rest = batch.after((1, 2))
    assert rest is not None
    assert [entry.order for entry in rest.entries] == [(1, 3)]
    assert batch.after((1, 3)) is None


def test_of_events_those_of_some_venues_are_taken_once_for_all_who_ask() -> None:
    rows = [*entries(1), *entries(2, venue="kraken")]
    batch = Batch("trades", "BTCUSDT", rows)
    kraken = batch.of_venues(frozenset({"kraken"}))
    assert kraken is not None
    assert kraken.first == (1, 2)
    assert batch.of_venues(frozenset({"kraken"})) is kraken
    assert batch.of_venues(frozenset({"coinbase"})) is None
    assert batch.of_venues(None) is batch
