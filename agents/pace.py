"""How many records make one event: as many as are applied in a moment, whatever they cost.

Nothing else has its turn while a batch is applied: no cycle, no heartbeat, no look at the broker.
With slow calculators plugged in, a fixed number of records would be a standstill of half a second,
and an overloaded worker would take its broker for lost.
"""

from __future__ import annotations

from typing import Final

RECORDS_MAX: Final = 1500
"""Some 8 ms where nothing but the engine's own figures are computed."""

RECORDS_MIN: Final = 50
BATCH_SECONDS: Final = 0.02
"""Longest that a batch should take."""

WEIGHTY: Final = 200
"""Records from which on a batch's cost replaces what was known: of few, most is overhead."""


class Pace:
    """Learns what a record costs.

    Attributes:
        records_max: Records in one event from now on.
    """

    __slots__ = ("_record_s", "records_max")

    def __init__(self) -> None:
        self.records_max = RECORDS_MAX
        self._record_s = 0.0

    def took(self, records: int, seconds: float) -> None:
        """So many records took so much processor time."""
        if not records:
            return
        weight = min(1.0, records / WEIGHTY)
        self._record_s += (seconds / records - self._record_s) * weight
        if self._record_s * RECORDS_MAX <= BATCH_SECONDS:
            self.records_max = RECORDS_MAX
        else:
            self.records_max = max(RECORDS_MIN, int(BATCH_SECONDS / self._record_s))
