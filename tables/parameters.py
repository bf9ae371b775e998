"""The thresholds of the analytics. One object, given to an engine when it is made.

Two engines with equal parameters and equal records give equal reports; a snapshot does not
carry them, so changing one takes effect at once and needs no rebuild.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tables.calculator import Calculator

WINDOW_MS: Final = 1_800_000
"""Finite memory: nothing older than 30 minutes has any effect on a report."""

WINDOW_SEC: Final = WINDOW_MS // 1000
SIZE_SAMPLES_MAX: Final = 10_000
BASELINE_SEC: Final = 300
"""Seconds of per-second samples behind the flash-crash baselines."""

REFRESH_SEC: Final = 10
"""Record-time grid on which an engine refreshes its percentile and its baselines."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds; the names are those of the settings, where the ranges stand.

    Attributes:
        report_levels: Levels a side in ``depth``.
        tick_levels: Levels a side in ``tick:SYMBOL``.
        calculators: Plugged-in figures.
    """

    report_levels: int = 20
    tick_levels: int = 50
    profile_bin_ticks: int = 5
    profile_value_area_pct: float = 70.0
    profile_min_trades: int = 10
    liquidity_levels: int = 50
    liquidity_min_samples: int = 100
    wall_percentile: float = 95.0
    wall_multiplier: float = 1.5
    vacuum_percentile: float = 10.0
    vacuum_min_levels: int = 3
    spoof_cancel_pct: float = 70.0
    spoof_min_orders: int = 5
    spoof_far_bps: float = 5.0
    spoof_lifetime_ms: int = 3000
    iceberg_min_fills: int = 5
    iceberg_depth_tolerance_pct: float = 10.0
    crash_min_signals: int = 2
    calculators: tuple[type[Calculator], ...] = ()
