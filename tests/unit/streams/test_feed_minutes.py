"""A feed's minutes: what was counted in each, by whom."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.feed_minutes import MINUTE_MS, Minutes

FEED = ("binance", "BTCUSDT")
T0 = 1_800_000_000_000


def look(minutes: Minutes, now_ms: int, records: int, token: int = 1, **changed: Any) -> None:
    given = {"gaps": 0, "resyncs": 0, "reconnects": 0, "in_sync": True, "age_ms": 10}
    minutes.add(FEED, token, now_ms, records=records, **{**given, **changed})


def test_a_minute_has_what_came_in_it() -> None:
    minutes = Minutes()
    look(minutes, T0 + 1_000, 100)
    look(minutes, T0 + 2_000, 130, gaps=1, in_sync=False, age_ms=None)
    look(minutes, T0 + 3_000, 160, gaps=1, resyncs=1, reconnects=2, age_ms=900)
    assert minutes.ended(T0 + 59_000) == []
    look(minutes, T0 + MINUTE_MS + 500, 200, gaps=1, resyncs=1, reconnects=2)
    [point] = minutes.ended(T0 + MINUTE_MS + 500)
    assert (point.feed, point.token, point.ts_ms) == (FEED, 1, T0)
    assert point.figures() == {
        "records": 60,
        "gaps": 1,
        "resyncs": 1,
        "reconnects": 2,
        "looks": 3,
        "in_sync": 2,
        "age_ms_max": 900,
        "span_ms": 2_000,
    }
    assert minutes.ended(T0 + MINUTE_MS + 900) == []


def test_what_came_before_the_first_look_is_not_counted() -> None:
    minutes = Minutes()
    look(minutes, T0, 5_000, gaps=7)
    [point] = minutes.end()
    assert (point.records, point.gaps) == (0, 0)


def test_a_new_token_begins_a_point_of_its_own() -> None:
    """Another bridge had the feed meanwhile: what it counted is not ours."""
    minutes = Minutes()
    look(minutes, T0, 100, token=3)
    look(minutes, T0 + 1_000, 110, token=3)
    look(minutes, T0 + 9_000, 115, token=7)
    first, second = minutes.end()
    assert [(p.ts_ms, p.token, p.records) for p in (first, second)] == [(T0, 3, 10), (T0, 7, 0)]


def test_a_feed_that_is_looked_at_no_more_ends_with_its_minute() -> None:
    minutes = Minutes()
    look(minutes, T0, 1)
    assert minutes.ended(T0 + MINUTE_MS) == []
    assert len(minutes.ended(T0 + 2 * MINUTE_MS)) == 1
    assert minutes.end() == []


@given(st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 50)), min_size=1, max_size=60))
def test_no_record_is_counted_twice_nor_left_out(steps: list[tuple[int, int]]) -> None:
    minutes = Minutes()
    now_ms, records = T0, 1_000
    points = []
    look(minutes, now_ms, records)
    for pause_ms, more in steps:
        now_ms += pause_ms
        records += more
        look(minutes, now_ms, records)
        points += minutes.ended(now_ms)
    points += minutes.end()
    assert sum(point.records for point in points) == records - 1_000
    assert len({point.ts_ms for point in points}) == len(points)
