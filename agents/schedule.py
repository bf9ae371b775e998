"""When each symbol's next cycle is due: a grid, shifted by symbol so that the work is spread."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from hashlib import blake2b


def phase_ms(symbol: str, period_ms: int) -> int:
    """Where in the period a symbol's grid lies: the same on every node."""
    digest = blake2b(symbol.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % period_ms


class Grid:
    """Due times of many symbols at one period.

    A symbol is due at each ``phase + k * period``. One that could not be served in its slot is
    served late once; whole slots gone by are skipped and counted.

    Attributes:
        skipped: Slots gone by unserved.
    """

    def __init__(self, period_ms: int) -> None:
        self.period_ms = period_ms
        self.skipped = 0
        self._due: list[tuple[int, str]] = []

    def set_symbols(self, symbols: Iterable[str], now_ms: int) -> None:
        """Serve these symbols from now on; those already served keep their place."""
        wanted = set(symbols)
        kept = [entry for entry in self._due if entry[1] in wanted]
        known = {symbol for _, symbol in kept}
        kept += [(self._next(symbol, now_ms), symbol) for symbol in wanted - known]
        heapq.heapify(kept)
        self._due = kept

    def _next(self, symbol: str, after_ms: int) -> int:
        phase = phase_ms(symbol, self.period_ms)
        return after_ms - (after_ms - phase) % self.period_ms + self.period_ms

    def next_due_ms(self) -> int | None:
        """The earliest due time; None without symbols."""
        return self._due[0][0] if self._due else None

    def take_due(self, now_ms: int) -> list[str]:
        """Symbols that are due, each moved on to its next slot after ``now_ms``."""
        taken = []
        while self._due and self._due[0][0] <= now_ms:
            due_ms, symbol = self._due[0]
            self.skipped += (now_ms - due_ms) // self.period_ms
            heapq.heapreplace(self._due, (self._next(symbol, now_ms), symbol))
            taken.append(symbol)
        # A clock set back would leave every slot in the far future.
        if self._due and self._due[0][0] > now_ms + self.period_ms:
            self._due = [(self._next(symbol, now_ms), symbol) for _, symbol in self._due]
            heapq.heapify(self._due)
        return taken
