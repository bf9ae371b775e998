"""A batch is as many records as are applied in a moment."""

from __future__ import annotations

import pytest

from agents.pace import BATCH_SECONDS, RECORDS_MAX, RECORDS_MIN, Pace


def test_records_as_they_are_make_whole_batches() -> None:
    pace = Pace()
    pace.took(1500, 1500 * 6e-6)
    assert pace.records_max == RECORDS_MAX


@pytest.mark.parametrize(("cost_us", "records"), [(40, 500), (300, 66), (5000, RECORDS_MIN)])
def test_slow_records_make_short_batches(cost_us: float, records: int) -> None:
    pace = Pace()
    pace.took(1500, 1500 * cost_us / 1e6)
    assert pace.records_max == records
    for _ in range(20):
        pace.took(pace.records_max, pace.records_max * cost_us / 1e6)
    assert pace.records_max == pytest.approx(records, abs=1)
    assert records == RECORDS_MIN or pace.records_max * cost_us / 1e6 <= BATCH_SECONDS * 1.05


def test_when_they_are_quick_again_batches_grow_again() -> None:
    pace = Pace()
    pace.took(1500, 1500 * 300e-6)
    for _ in range(30):
        pace.took(pace.records_max, pace.records_max * 6e-6)
    assert pace.records_max == RECORDS_MAX


def test_a_few_records_say_little() -> None:
    """Of one record most is overhead."""
    pace = Pace()
    pace.took(1500, 1500 * 6e-6)
    for _ in range(5):
        pace.took(1, 100e-6)
    assert pace.records_max == RECORDS_MAX
