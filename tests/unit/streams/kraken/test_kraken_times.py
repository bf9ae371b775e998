"""Kraken's times to microseconds, and anything else to nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.venues.kraken import times
from streams.venues.kraken.times import micros

DAY_US = 86_400_000_000


@given(st.integers(0, 60_000 * DAY_US))
def test_a_printed_time_is_read_back(us: int) -> None:
    seconds, rest = divmod(us, 1_000_000)
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"
    assert micros(text) == micros(text) == us


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01T00:00:01.123456789Z", 1_123_456),
        ("1970-01-01T00:00:01.000000000Z", 1_000_000),
    ],
)
def test_any_number_of_digits_will_do(text: str, us: int) -> None:
    assert micros(text) == us


@pytest.mark.parametrize(
    "text",
    ["", "Z", "now", "2026-07-19", "2026-07-19T17:54:39.753424", "2026-13-19T17:54:39.753424Z",
     "2026-07-19T17:54:3x.753424Z", "2026-07-19T17:54:39.75_424Z", "0001-01-01T00:00:00.000000Z",
     "2026-07-19T17:54:39.753424+00:00", "x" * 27,
     "2026-07-19T17:54:39.", "2026-07-19T17:54:-9.753424Z"],
)  # fmt: skip
def test_what_is_no_time_is_none(text: str) -> None:
    micros("2026-07-19T17:54:39.753424Z")  # its minute is known from now on
    assert micros(text) == 0


def test_what_is_remembered_is_bounded() -> None:
    for minute in range(300):
        micros(f"2026-07-19T{minute // 60:02d}:{minute % 60:02d}:00.000000Z")
    assert len(times._minutes) <= 64
