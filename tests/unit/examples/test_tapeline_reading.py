"""A report in a client's hands: its age goes up, its place never down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.reader import STALE_MS
from tests.support import example_readers  # noqa: F401 (the path to what is imported next)
from tests.support.reports import BARE, stored

import tapeline_reading as reading_of  # isort: skip
from tapeline_reading import Newest, Reading  # isort: skip

REPORT = json.loads(stored())
REPORT["source"]["slow"]["now_ms"] = REPORT["source"]["fast"]["now_ms"] - 1500


def reading(**changes: Any) -> Reading:
    values: dict[str, Any] = {
        "symbol": "BTCUSDT", "token": 7, "seq": 1, "data_age_ms": 40, "at_s": 100.0, "report": REPORT,
    }  # fmt: skip
    return Reading(**{**values, **changes})


def test_stale_is_what_the_readers_call_stale() -> None:
    assert reading_of.STALE_MS == STALE_MS


@pytest.mark.parametrize(
    ("now_s", "stale"), [(100.0, False), (101.96, False), (101.961, True), (500.0, True)]
)
def test_a_report_turns_stale_in_the_client_s_hands(now_s: float, stale: bool) -> None:
    """40 ms old when read: 1,960 ms later it is 2,000 ms old, and not yet stale."""
    assert reading().stale(now_s) is stale


def test_a_clock_that_is_asked_too_early_makes_nothing_younger() -> None:
    assert reading().age_ms(99.0) == 40


def test_data_of_unknown_age_is_stale() -> None:
    """As before any data has come."""
    bare = reading(data_age_ms=None, report=json.loads(BARE))
    assert bare.age_ms(100.0) is None
    assert bare.slow_age_ms(100.0) is None
    assert bare.stale(100.0)


def test_the_slow_part_s_age_is_its_own() -> None:
    """Older by what lies between the two moments."""
    assert reading().slow_age_ms(100.1) == 40 + 100 + 1500


@given(orders=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_what_is_held_never_steps_back(orders: list[tuple[int, int]]) -> None:
    """Whatever comes in, in whatever order; what is refused is counted."""
    newest, highest = Newest(), (-1, -1)
    for token, seq in orders:
        taken = newest.take(reading(token=token, seq=seq))
        assert taken is ((token, seq) >= highest)
        highest = max(highest, (token, seq))
        held = newest.get("BTCUSDT")
        assert held is not None
        assert held.order == highest
    assert newest.refused <= len(orders)


def test_the_same_report_read_again_is_as_old_as_it_is_now() -> None:
    """A 304 says its new age; the one from before would be too low, or too high."""
    newest = Newest()
    newest.take(reading())
    newest.take(reading(data_age_ms=900, at_s=100.5))
    held = newest.get("BTCUSDT")
    assert held is not None
    assert held.age_ms(100.5) == 900


def test_nothing_stored_takes_nothing_away() -> None:
    """A store that lost its reports leaves the last one to grow stale."""
    newest = Newest()
    newest.take(reading())
    assert not newest.take(None)
    assert newest.fresh("BTCUSDT", 100.0) is not None
    assert newest.fresh("BTCUSDT", 103.0) is None
    assert newest.fresh("ETHUSDT", 100.0) is None


def test_names_of_headers_may_be_in_any_case() -> None:
    answer = {"X-Report-ORDER": "9.12", "x-data-age-ms": "33"}
    found = reading_of.of_answer("BTCUSDT", answer, REPORT, 5.0)
    assert (found.order, found.data_age_ms, found.at_s) == ((9, 12), 33, 5.0)
    without = reading_of.of_answer("BTCUSDT", {"x-report-order": "9.12"}, REPORT, 5.0)
    assert without.stale(5.0)


def test_a_frame_without_data_is_no_reading() -> None:
    read = {"now_ms": 1, "age_ms": None, "data_age_ms": None, "stale": True}
    frame = {"symbol": "BTCUSDT", "token": 0, "seq": 0, "read": read, "data": None}
    assert reading_of.of_frame(frame, 1.0) is None


@pytest.mark.parametrize(
    ("held", "now_s", "line"),
    [
        (None, 100.0, "BTCUSDT  stale  no report  [why]"),
        (
            reading(),
            103.0,
            "BTCUSDT  stale  mid 60000.05 (3.0 s old)  spread 0.017 bps (3.0 s old)  "
            "POC 60000.325 (4.5 s old)  book: gap  [why]",
        ),
        (
            reading(data_age_ms=None, report=json.loads(BARE)),
            100.0,
            "BTCUSDT  stale  mid - (age unknown)  spread - bps (age unknown)  "
            "POC - (age unknown)  book: none  [why]",
        ),
    ],
)
def test_a_line_has_an_age_beside_each_number(
    held: Reading | None, now_s: float, line: str
) -> None:
    assert reading_of.shown("BTCUSDT", held, now_s, "why") == line


def test_programs_get_the_same_as_one_object() -> None:
    said = json.loads(reading_of.shown("BTCUSDT", reading(), 100.0, as_json=True))
    assert (said["stale"], said["data_age_ms"], said["mid_price"]) == (False, 40, 60000.05)
    nothing = json.loads(reading_of.shown("BTCUSDT", None, 100.0, "why", as_json=True))
    assert nothing == {"symbol": "BTCUSDT", "stale": True, "note": "why"}
