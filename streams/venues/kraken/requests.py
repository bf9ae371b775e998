"""Subscriptions owed to the venue anew: when, and whether they were answered. Pure.

A book that is distrusted is unsubscribed and subscribed again, as nothing else brings a snapshot.
A book that can't be kept in sync must not do that without pause, and an answer that never comes
must not be waited for for ever.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FREE_REPEATS: Final = 3
REPEAT_WINDOW_MS: Final = 60_000
REPEAT_MS: Final = 500
BACKOFF_MAX_MS: Final = 60_000
"""The same may be asked three times within a minute at once; each further time waits twice as
long as the one before, up to a minute."""

ANSWER_WITHIN_MS: Final = 10_000
"""After this long without an answer it is asked again."""

NEVER_MS: Final = 2**62

Key = tuple[str, str]
"""(channel, venue symbol)."""


class Resubscriptions:
    """What to ask again.

    Attributes:
        next_ms: Nothing is due before.
    """

    __slots__ = ("_asked_ms", "_deadline_ms", "_due_ms", "next_ms")

    def __init__(self) -> None:
        self.next_ms = NEVER_MS
        self._due_ms: dict[Key, int] = {}
        self._deadline_ms: dict[Key, int] = {}
        self._asked_ms: dict[Key, deque[int]] = {}

    def owe(self, key: Key, now_ms: int, wait_ms: int = 0) -> None:
        """Ask, unless that is owed already or its answer is on its way."""
        if key in self._due_ms or key in self._deadline_ms:
            return
        asked = self._asked_ms.setdefault(key, deque())
        while asked and not 0 <= now_ms - asked[0] <= REPEAT_WINDOW_MS:
            asked.popleft()
        repeats = len(asked) - FREE_REPEATS
        if repeats >= 0:
            wait_ms = max(wait_ms, min(REPEAT_MS << min(repeats, 16), BACKOFF_MAX_MS))
        # Kept by the time it is sent at: a wait must not take an asking out of the window.
        asked.append(now_ms + wait_ms)
        self._due_ms[key] = now_ms + wait_ms
        self._tell()

    def expect(self, key: Key, now_ms: int) -> None:
        """An answer is on its way to something asked for elsewhere."""
        self._deadline_ms[key] = now_ms + ANSWER_WITHIN_MS
        self._tell()

    def settle(self, key: Key) -> None:
        """It was answered, or is not wanted any more."""
        self._due_ms.pop(key, None)
        self._deadline_ms.pop(key, None)
        self._tell()

    def take(self, now_ms: int) -> tuple[list[Key], list[Key]]:
        """(what to send now, whose answer is overdue), each once."""
        overdue = [key for key, at_ms in self._deadline_ms.items() if at_ms <= now_ms]
        for key in overdue:
            del self._deadline_ms[key]
        due = [key for key, at_ms in self._due_ms.items() if at_ms <= now_ms]
        for key in due:
            del self._due_ms[key]
            self._deadline_ms[key] = now_ms + ANSWER_WITHIN_MS
        self._tell()
        return due, overdue

    def forget(self) -> None:
        """No socket is left to ask on. How often was asked is still known."""
        self._due_ms.clear()
        self._deadline_ms.clear()
        self._tell()

    def _tell(self) -> None:
        times = (*self._due_ms.values(), *self._deadline_ms.values())
        self.next_ms = min(times, default=NEVER_MS)
