"""Times as the venue prints them, and odd ones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.venues.coinbase.times import millis

BEGIN, END = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1971, 2100))


@given(
    st.datetimes(BEGIN, END),
    st.integers(0, 9),
    st.booleans(),
)
def test_any_number_of_digits_is_read(moment: datetime, digits: int, zulu: bool) -> None:
    nanos = f"{moment.microsecond * 1000:09d}"[:digits]
    text = f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{nanos}" if nanos else "")
    whole_s = int(moment.replace(microsecond=0, tzinfo=UTC).timestamp())
    assert millis(text + ("Z" if zulu else "+00:00")) == whole_s * 1_000 + int(f"{nanos:0<3.3}")


@pytest.mark.parametrize(
    "text",
    ["", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z", "yesterday",
     "2026-08-09T21:05:48", "2026-08-09T21:05:48.1234567890Z", "2026-08-09T21:05:48+02:00",
     "２026-08-09T21:05:48Z"],
)  # fmt: skip
def test_what_is_no_time_is_zero(text: str) -> None:
    assert millis(text) == 0
