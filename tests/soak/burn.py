"""A calculator that costs time and says nothing: ``NT_CALCULATORS=tests.soak.burn:Burn``.

What one worker can take is more than this machine can produce three times of. With a record that
costs ``SOAK_BURN_US`` microseconds more, the worker is as busy as a full one, by work in the place
where analytics are done, and the rest of the house has room. An auditor sets it to 0: the figure,
null, does not depend on it.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any, ClassVar, Final

from streams.events import Event
from tables.calculator import Market

VARIABLE: Final = "SOAK_BURN_US"
SPEC: Final = "tests.soak.burn:Burn"


class Burn:
    """Keeps its engine's thread busy for as long as it was told, at each record."""

    name: ClassVar[str] = "burn"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        self._seconds = float(os.environ.get(VARIABLE, "0")) / 1e6

    def apply(self, event: Event, market: Market) -> None:
        """Take the time."""
        ends_s = perf_counter() + self._seconds
        while perf_counter() < ends_s:
            pass

    def read(self, now_ms: int) -> Any:
        """Nothing."""
        return None

    def snapshot(self) -> Any:
        """Nothing."""
        return None

    def restore(self, state: Any) -> None:
        """Nothing to become."""
