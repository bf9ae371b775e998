"""A calculator that takes its time while a file is there: what a bad one of an operator's own does.

``ALERTS_SLOW_FILE`` names the file, which holds how many seconds it takes, and how many it leaves
the worker alone after that.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, ClassVar

from streams.events import Event
from tables.calculator import Market

_FILE = Path(os.environ.get("ALERTS_SLOW_FILE", "/nonexistent"))


class Slow:
    """Figures nothing."""

    name: ClassVar[str] = "slow"
    version: ClassVar[int] = 1

    # Of all symbols together: one after the other they would hold the loop for too long.
    next_s: ClassVar[float] = 0.0

    def apply(self, event: Event, market: Market) -> None: ...

    def read(self, now_ms: int) -> dict[str, Any]:
        if time.monotonic() >= Slow.next_s and _FILE.exists():
            takes_s, pause_s = map(float, (_FILE.read_text() or "0 1").split())
            time.sleep(takes_s)
            Slow.next_s = time.monotonic() + pause_s
        return {}

    def snapshot(self) -> Any:
        return []

    def restore(self, state: Any) -> None: ...
