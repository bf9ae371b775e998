"""How much of something may pass. Pure."""

from __future__ import annotations


class Allowance:
    """So many at once and so many a second. Pure: times come with each call."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second, self._burst, self._left = per_second, burst, burst
        self._asked_ms = 0

    def spend(self, now_ms: int) -> bool:
        """Whether one more may pass now; ``now_ms`` on a clock that never steps back."""
        earned = (now_ms - self._asked_ms) / 1_000 * self._per_second
        self._asked_ms = now_ms
        self._left = min(self._burst, self._left + earned)
        if self._left < 1:
            return False
        self._left -= 1
        return True
