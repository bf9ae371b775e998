"""One stream in the order of its venue's sequence: what came ahead of its turn waits a moment. Pure.

A message in sequence passes at once and is none of this module's business. One that begins beyond
the next id is held: another socket may bring what is missing. After `LATE_MS` the hole is given up,
and what turns up of it later is late.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import Final, Generic, TypeVar

FLUSH_MS: Final = 50
"""How often a driver looks for holes that are to be given up."""

LATE_MS: Final = 150
"""How long a hole may be filled."""

ROOM: Final = 1_000
"""Messages held; more than a second of a busy stream's."""

HOLES: Final = 32
"""Holes remembered to tell a late message from a repeated one. The oldest are forgotten first."""

MessageT = TypeVar("MessageT")


class Ahead(Generic[MessageT]):
    """Messages of one stream that begin behind a hole.

    True while there is one.
    """

    __slots__ = ("_late_ms", "_messages")

    def __init__(self, late_ms: int = LATE_MS) -> None:
        self._late_ms = late_ms
        # (first id, time, order of arrival, message): the third keeps messages from being compared
        self._messages: list[tuple[int, int, int, MessageT]] = []

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, first: int, message: MessageT, now_ms: int) -> None:
        """Hold one that begins at ``first``."""
        insort(self._messages, (first, now_ms, len(self._messages), message))

    def take(self, last: int) -> MessageT | None:
        """The next one that continues what ends at ``last``, or lies before its end."""
        if self._messages and self._messages[0][0] <= last + 1:
            return self._messages.pop(0)[3]
        return None

    def first(self) -> int:
        """Where the first one begins. Only while there is one."""
        return self._messages[0][0]

    def overdue(self, now_ms: int) -> bool:
        """Whether the hole before the first is to be given up: it is old, or there is no room.

        A clock that was set back makes it old, too.
        """
        if not self._messages:
            return False
        oldest_ms = min(ms for _, ms, _, _ in self._messages)
        return not 0 <= now_ms - oldest_ms < self._late_ms or len(self._messages) >= ROOM

    def clear(self) -> list[MessageT]:
        """All of them, in order; none are held any more."""
        messages = [message for _, _, _, message in self._messages]
        self._messages.clear()
        return messages


class Holes:
    """Ids that were given up, and when; for a while."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: deque[tuple[int, int, int]] = deque(maxlen=HOLES)

    def add(self, first: int, last: int, now_ms: int) -> None:
        """``first`` to ``last`` did not come in time."""
        self._spans.append((first, last, now_ms))

    def given_up_ms(self, number: int) -> int | None:
        """When this id was given up; None if it was not."""
        return next((ms for first, last, ms in self._spans if first <= number <= last), None)
