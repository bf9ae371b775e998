"""Where time comes from. Pure parts take times as arguments; shells take a clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings: one to stamp with, one to measure and to hold deadlines with."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds that never step back and that count while the machine is suspended."""
        ...


class SystemClock:
    """The machine's own clocks."""

    # CLOCK_BOOTTIME goes on through a suspend: a lease deadline held against CLOCK_MONOTONIC
    # would look alive after a laptop's night. macOS has no BOOTTIME; its MONOTONIC counts sleep.
    _clock_id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.clock_gettime_ns(self._clock_id) // 1_000_000


class ManualClock:
    """A clock that tests and replays move themselves.

    Attributes:
        time_ms: What both readings return.
    """

    def __init__(self, time_ms: int = 0) -> None:
        self.time_ms = time_ms

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return self.time_ms

    def advance(self, ms: int) -> None:
        """Move both readings on."""
        self.time_ms += ms
