"""Walls, vacuums, top of book, health: small functions at their thresholds."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.columns import pack, unpack
from tables.health import health, ingestion_status
from tables.liquidity import VacuumRun, WallLevel, vacuums, walls
from tables.scale import rescale, to_float
from tables.touch import depth_sums, touch


def test_a_wall_starts_at_the_threshold_and_grows_severe_with_it() -> None:
    """1x low, 2x medium, 3x high."""
    levels = [(10, 149), (9, 150), (8, 299), (7, 300), (6, 449), (5, 450)]
    assert walls(levels, 150.0) == [
        WallLevel(9, 150, "low"),
        WallLevel(8, 299, "low"),
        WallLevel(7, 300, "medium"),
        WallLevel(6, 449, "medium"),
        WallLevel(5, 450, "high"),
    ]


@pytest.mark.parametrize(
    ("thin", "severity"),
    [(2, None), (3, "low"), (5, "low"), (6, "medium"), (9, "medium"), (10, "high")],
)
def test_a_vacuum_needs_three_thin_levels_in_a_row(thin: int, severity: str | None) -> None:
    """6 are medium, 10 high; a level at the threshold is not thin."""
    levels = [(100, 50), *((99 - n, 9) for n in range(thin)), (99 - thin, 10)]
    found = vacuums(levels, 10.0, 3)
    assert found == ([VacuumRun(99, 100 - thin, thin, severity)] if severity else [])  # type: ignore[arg-type]


def test_a_vacuum_may_reach_the_last_level_looked_at() -> None:
    """And two of them stay two."""
    assert vacuums([(9, 1), (8, 1), (7, 1), (6, 9), (5, 1), (4, 1), (3, 1)], 5.0, 3) == [
        VacuumRun(9, 7, 3, "low"),
        VacuumRun(5, 3, 3, "low"),
    ]


@given(
    bid=st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)),
    gap=st.integers(0, 10**6),
    ask_sz=st.integers(1, 10**9),
    px_e=st.integers(-12, 3),
)
def test_top_of_book_figures_are_the_exact_ones_rounded_once(
    bid: tuple[int, int], gap: int, ask_sz: int, px_e: int
) -> None:
    """Against rational arithmetic."""
    ask = (bid[0] + gap, ask_sz)
    unit = Fraction(10) ** px_e
    top = touch(bid, ask, px_e)
    assert top.mid_price == float(Fraction(bid[0] + ask[0], 2) * unit)
    micro = Fraction(bid[0] * ask[1] + ask[0] * bid[1], bid[1] + ask[1]) * unit
    assert top.micro_price == pytest.approx(float(micro), rel=1e-15)
    assert bid[0] * unit <= Fraction(top.micro_price) * (1 + Fraction(1, 10**15))
    assert top.spread_bps == pytest.approx(float(Fraction(20_000 * gap, bid[0] + ask[0])))


def test_a_locked_book_has_a_spread_of_zero() -> None:
    """Locked is valid, crossed is not."""
    assert touch((100, 1), (100, 3), -2).spread_bps == 0.0


def test_imbalance_is_signed_and_zero_when_empty() -> None:
    """1 all bids, -1 all asks."""
    assert depth_sums([(1, 3)], [(2, 1)]).imbalance == 0.5
    assert depth_sums([], [(2, 1)]).imbalance == -1.0
    assert depth_sums([], []).imbalance == 0.0


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (0, "ok"),
        (999, "ok"),
        (1000, "degraded"),
        (2000, "degraded"),
        (2001, "down"),
        (None, "down"),
    ],
)
def test_ingestion_status_changes_at_one_and_two_seconds(age: int | None, status: str) -> None:
    """The boundaries belong to degraded."""
    assert ingestion_status(age) == status


def test_health_is_100_when_all_is_well_and_0_when_nothing_is() -> None:
    """And each part takes its own weight."""
    assert health(0, 1.0, 0.0, []).score == 100.0
    assert health(None, None, None, ["high"]).score == 0.0
    assert health(1500, 1.0, 0.0, []).score == 80.0
    assert health(0, 26.0, 0.0, []).score == 90.0
    assert health(0, 1.0, -0.5, []).score == 90.0
    assert health(0, 1.0, 0.0, ["medium"]).score == 90.0
    assert health(0, 1.0, 0.0, ["high", "high"]).anomalies == 0.0


@given(values=st.lists(st.integers(-(2**80), 2**80)), delta=st.booleans())
def test_columns_come_back_as_they_went(values: list[int], delta: bool) -> None:
    """Sorted ones with differences, any without, beyond int64 too."""
    column = sorted(values) if delta else values
    if delta and column and column[-1] - column[0] >= 2**63:
        column = [value % 2**61 for value in column]
        column.sort()
    assert unpack(pack(column, delta=delta)) == column


def test_columns_take_the_narrowest_width() -> None:
    """A byte a value where a byte will do."""
    assert len(pack(range(100))) == 101
    assert len(pack([40_000] * 10)) == 41
    assert len(pack([2**40 + n for n in range(10)], delta=True)) == 81
    assert len(pack([10**6 + n for n in range(1, 10)], delta=True)) == 37


@given(value=st.integers(-(10**15), 10**15), exponent=st.integers(-18, 9))
def test_floats_are_correctly_rounded(value: int, exponent: int) -> None:
    """One rounding, as a decimal literal has."""
    assert to_float(value, exponent) == float(Fraction(value) * Fraction(10) ** exponent)
    assert to_float(rescale(value, exponent, -18), -18) == to_float(value, exponent)
