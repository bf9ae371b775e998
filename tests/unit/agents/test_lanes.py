"""What is written next of one symbol."""

from __future__ import annotations

import pytest

from agents.coordination.lanes import BACKOFF_MS, GIVEN_UP_MS, ReportLane, TickLane
from agents.coordination.lease_state import Lease
from lua import PublishCode, ReportWrite
from tests.support.coordination import encoder, tick_encoder

WALL_MS = 1_700_000_000_000


def lease(token: int = 7, last_seq: int = 0, last_updated_at: int = 0) -> Lease:
    return Lease("X", f"a|1|{token}", token, 99_999, last_seq, last_updated_at)


def take(lane: ReportLane, under: Lease | None = None, now_ms: int = 0) -> ReportWrite:
    write = lane.take(under or lease(), now_ms, WALL_MS)
    assert isinstance(write, ReportWrite)
    return write


def test_only_the_newest_draft_is_written() -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("old"))
    lane.put(2, encoder("new"))
    write = take(lane)
    assert b'"new"' in write.payload
    assert write.watermark == 2
    lane.answered(write, PublishCode.OK, 0)
    assert not lane.pending
    assert lane.take(lease(), 0, WALL_MS) is None


def test_order_goes_on_from_the_writer_before() -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("w"))
    write = take(lane, lease(last_seq=41, last_updated_at=WALL_MS + 500))
    assert (write.seq, write.updated_at) == (42, WALL_MS + 501)
    lane.answered(write, PublishCode.OK, 0)
    lane.put(2, encoder("w"))
    write = lane.take(lease(last_seq=41), 0, WALL_MS + 900)  # the lease knows of no later one
    assert isinstance(write, ReportWrite)
    assert (write.seq, write.updated_at) == (43, WALL_MS + 900)


def test_a_retry_is_the_same_write_whatever_came_meanwhile() -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("first"))
    first = take(lane)
    lane.put(2, encoder("second"))
    assert not lane.failed(first, now_ms=0)
    assert lane.take(lease(), BACKOFF_MS - 1, WALL_MS) is None
    assert take(lane, now_ms=BACKOFF_MS) is first
    lane.answered(first, PublishCode.DUPLICATE, BACKOFF_MS)
    second = take(lane, now_ms=BACKOFF_MS)
    assert b'"second"' in second.payload
    assert second.seq == first.seq + 1


def test_after_three_tries_the_newest_takes_its_place_under_a_seq_of_its_own() -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("first"))
    write = take(lane)
    assert not lane.failed(write, 0)
    assert lane.due_ms == BACKOFF_MS
    assert not lane.failed(write, BACKOFF_MS)
    assert lane.due_ms == 3 * BACKOFF_MS
    lane.put(2, encoder("newest"))
    assert lane.failed(write, 3 * BACKOFF_MS)
    assert lane.due_ms == 3 * BACKOFF_MS + GIVEN_UP_MS
    again = take(lane, now_ms=lane.due_ms)
    assert b'"newest"' in again.payload
    assert again.seq > write.seq


def test_what_was_given_up_is_written_if_nothing_newer_came() -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("only"))
    write = take(lane)
    for _ in range(3):
        lane.failed(write, 0)
    again = take(lane, now_ms=GIVEN_UP_MS)
    assert b'"only"' in again.payload
    assert again.seq == write.seq + 1


def test_under_another_lease_a_write_is_encoded_anew() -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("w"))
    old = take(lane, lease(7))
    lane.failed(old, 0)
    new = take(lane, lease(9, last_seq=20), now_ms=BACKOFF_MS)
    assert (new.token, new.seq, new.lease_value) == (9, 21, "a|1|9")
    lane.answered(old, PublishCode.OK, 0)  # a late reply concerns nobody
    assert lane.pending
    assert not lane.failed(old, 0)


@pytest.mark.parametrize("code", [PublishCode.FENCED, PublishCode.NOT_OWNER])
def test_a_refused_write_waits_for_the_next_lease(code: PublishCode) -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("w"))
    lane.answered(take(lane), code, 0)
    assert lane.pending
    assert b'"w"' in take(lane, lease(9)).payload


def test_a_stale_write_is_not_repeated() -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("w"))
    lane.answered(take(lane), PublishCode.STALE_DATA, 0)
    assert not lane.pending


def test_a_draft_behind_what_was_accepted_is_not_taken() -> None:
    """Redis may have lost its watermark; the process has not."""
    lane = ReportLane("X")
    lane.put(5, encoder("w"))
    lane.answered(take(lane), PublishCode.OK, 0)
    assert not lane.put(4, encoder("behind"))
    assert lane.put(5, encoder("same"))


def test_an_encoder_that_fails_takes_only_its_own_draft_along() -> None:
    def broken(token: int, seq: int, updated_at: int) -> tuple[bytes, bytes]:
        raise ValueError(seq)

    lane = ReportLane("X")
    lane.put(1, broken)
    with pytest.raises(ValueError, match="1"):
        lane.take(lease(), 0, WALL_MS)
    assert not lane.pending
    lane.put(2, encoder("w"))
    assert take(lane).seq == 2


def test_what_is_cleared_is_not_written_but_its_order_stays() -> None:
    lane = ReportLane("X")
    lane.put(1, encoder("w"))
    write = take(lane)
    lane.put(2, encoder("w"))
    lane.clear()
    assert not lane.pending
    lane.answered(write, PublishCode.OK, 0)
    lane.put(3, encoder("w"))
    assert take(lane).seq == write.seq + 1


def test_ticks_keep_their_period() -> None:
    lane = TickLane("X", period_ms=50)
    lane.put(1, tick_encoder("w"))
    write = lane.take(lease(last_seq=41), 1000, WALL_MS)
    assert write is not None
    assert (write.seq, lane.kind) == (1, "tick")
    lane.answered(write, PublishCode.OK, 1010)
    lane.put(2, tick_encoder("w"))
    assert lane.take(lease(last_seq=41), 1059, WALL_MS) is None
    write = lane.take(lease(last_seq=41), 1060, WALL_MS)
    assert write is not None
    assert write.seq == 2
