"""One number for how far a report can be leaned on, with its parts beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from tables.liquidity import Severity

DATA_AGE_OK_MS: Final = 1000
DATA_AGE_DEGRADED_MS: Final = 2000

SPREAD_TIGHT_BPS: Final = 2.0
SPREAD_WIDE_BPS: Final = 50.0

WEIGHTS: Final = {"freshness": 0.4, "spread": 0.2, "depth": 0.2, "anomalies": 0.2}
PENALTY: Final[dict[Severity, float]] = {"low": 0.2, "medium": 0.5, "high": 1.0}

IngestionStatus = Literal["ok", "degraded", "down"]


class HealthParts(NamedTuple):
    """Each from 0 (useless) to 1 (sound); ``score`` is their weighted sum, 0 to 100."""

    score: float
    freshness: float
    spread: float
    depth: float
    anomalies: float


def ingestion_status(data_age_ms: int | None) -> IngestionStatus:
    """``ok`` below 1000 ms, ``degraded`` up to 2000 ms, else ``down``; None is ``down``."""
    if data_age_ms is None or data_age_ms > DATA_AGE_DEGRADED_MS:
        return "down"
    return "ok" if data_age_ms < DATA_AGE_OK_MS else "degraded"


def health(
    data_age_ms: int | None,
    spread_bps: float | None,
    imbalance: float | None,
    severities: Iterable[Severity],
) -> HealthParts:
    """The composite score; its weights and corners are this project's choice.

    Args:
        data_age_ms: Freshness is 1 below 1000 ms and falls in a line to 0 at 2000 ms.
        spread_bps: 1 up to 2 bps, in a line to 0 at 50 bps; 0 without a book.
        imbalance: 1 - |imbalance|; 0 without a book.
        severities: Of the present anomalies: 0.2, 0.5, 1 taken off 1, not below 0.
    """
    freshness = 0.0 if data_age_ms is None else _fall(data_age_ms, 1000, 2000)
    spread = 0.0 if spread_bps is None else _fall(spread_bps, SPREAD_TIGHT_BPS, SPREAD_WIDE_BPS)
    depth = 0.0 if imbalance is None else 1.0 - abs(imbalance)
    # Without data nothing can be found, which is no reason to credit a clean record.
    found = 1.0 if data_age_ms is None else sum(PENALTY[severity] for severity in severities)
    anomalies = max(0.0, 1.0 - found)
    score = 100 * (
        WEIGHTS["freshness"] * freshness
        + WEIGHTS["spread"] * spread
        + WEIGHTS["depth"] * depth
        + WEIGHTS["anomalies"] * anomalies
    )
    return HealthParts(
        round(score, 1), round(freshness, 4), round(spread, 4), round(depth, 4), round(anomalies, 4)
    )


def _fall(value: float, full: float, zero: float) -> float:
    """1 up to ``full``, 0 from ``zero`` on, a line between."""
    return min(1.0, max(0.0, (zero - value) / (zero - full)))
