"""Books to be subscribed anew: which, when, and whether their snapshots have come. Pure.

Nothing but a new subscription of ``level2`` brings a snapshot. A book that can't be kept in sync
must not ask for one without pause; a snapshot that never comes must not be waited for for ever.
"""

from __future__ import annotations

from typing import Final

from streams.venues.requests import Repeats

ANSWER_WITHIN_MS: Final = 15_000
"""After this long without the snapshot of any book, those still waited for are asked for again.
They are megabytes each and come one after the other, so each one that comes gives the others more
time."""

NEVER_MS: Final = 2**62


class Asks:
    """Venue symbols whose books are to be subscribed anew, or have been and are waited for.

    Attributes:
        late_ms: When those waited for are late.
    """

    def __init__(self) -> None:
        self.late_ms = NEVER_MS
        self._due_ms: dict[str, int] = {}
        self._expected: dict[str, None] = {}
        self._repeats = Repeats()

    def owe(self, venue_symbol: str, now_ms: int) -> None:
        """Ask, unless that is to be done already. An answer on its way may have been lost."""
        if venue_symbol not in self._due_ms:
            self._expected.pop(venue_symbol, None)
            wait_ms = self._repeats.wait_ms(("snapshot", venue_symbol), now_ms)
            self._due_ms[venue_symbol] = now_ms + wait_ms

    def expect(self, venue_symbol: str, now_ms: int) -> None:
        """It has been subscribed by a frame that asks for more than this."""
        self._due_ms.pop(venue_symbol, None)
        self._expected[venue_symbol] = None
        self.late_ms = now_ms + ANSWER_WITHIN_MS

    def settle(self, venue_symbol: str, now_ms: int) -> None:
        """Its snapshot has come."""
        self._due_ms.pop(venue_symbol, None)
        self._expected.pop(venue_symbol, None)
        self.late_ms = now_ms + ANSWER_WITHIN_MS if self._expected else NEVER_MS

    def drop(self, venue_symbol: str) -> None:
        """It is followed no more."""
        self._due_ms.pop(venue_symbol, None)
        self._expected.pop(venue_symbol, None)
        self._repeats.forget(("snapshot", venue_symbol))

    def take(self, now_ms: int) -> str | None:
        """One that is to be asked for now, if any. One at a time: the venue counts messages."""
        for venue_symbol, due_ms in self._due_ms.items():
            if due_ms <= now_ms:
                self.expect(venue_symbol, now_ms)
                return venue_symbol
        return None

    def overdue(self, now_ms: int) -> list[str]:
        """Those waited for in vain, each told once."""
        if now_ms < self.late_ms:
            return []
        late, self._expected = [*self._expected], {}
        self.late_ms = NEVER_MS
        return late

    def forget(self) -> None:
        """No socket is left to ask on. How often was asked is still known."""
        self._due_ms.clear()
        self._expected.clear()
        self.late_ms = NEVER_MS
