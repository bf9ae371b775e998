"""REST requests owed to the venue: each once at a time, later after a refusal. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from streams.venues.base import HttpRequest

BACKOFF_MS: Final = 1_000
BACKOFF_MAX_MS: Final = 60_000
"""After the first failure in a row, and at most; a ban's own Retry-After may be longer."""

FREE_REPEATS: Final = 3
REPEAT_WINDOW_MS: Final = 60_000
REPEAT_MS: Final = 500
"""The same request may be owed three times within a minute at once; each further one waits
twice as long as the one before. That is what stops a book that can't be synced from eating the
request budget of all others."""

Key = tuple[str, str]


class Repeats:
    """How long the same question has to wait, by how often it was asked of late."""

    def __init__(self) -> None:
        self._asked_ms: dict[Key, deque[int]] = {}

    def wait_ms(self, key: Key, now_ms: int) -> int:
        """Note that it is asked; 0 if that may be at once."""
        asked = self._asked_ms.setdefault(key, deque())
        while asked and not 0 <= now_ms - asked[0] <= REPEAT_WINDOW_MS:
            asked.popleft()
        repeats = len(asked) - FREE_REPEATS
        asked.append(now_ms)
        return min(REPEAT_MS << min(repeats, 16), BACKOFF_MAX_MS) if repeats >= 0 else 0

    def forget(self, key: Key) -> None:
        """It was never asked."""
        self._asked_ms.pop(key, None)


class RequestQueue:
    """What to ask the venue, and when. A driver takes requests and settles or fails them."""

    def __init__(self) -> None:
        self._owed: list[HttpRequest] = []
        self._pending: set[Key] = set()  # owed, or taken and not answered yet
        self._failures: dict[Key, int] = {}
        self._repeats = Repeats()
        self._barred_until_ms = 0

    def owe(self, request: HttpRequest, now_ms: int) -> None:
        """Ask, unless the same question is open already."""
        key = _key(request)
        if key in self._pending:
            return
        wait_ms = self._repeats.wait_ms(key, now_ms)
        self._add(request, now_ms + wait_ms if wait_ms else request.not_before_ms)

    def settle(self, request: HttpRequest) -> bool:
        """The request was answered; False if nobody was waiting for it any more."""
        key = _key(request)
        if key not in self._pending:
            return False
        self._pending.remove(key)
        return True

    def succeed(self, request: HttpRequest) -> None:
        """The answer could be used: the next failure is a first one again."""
        self._failures.pop(_key(request), None)

    def fail(
        self, request: HttpRequest, now_ms: int, retry_after_s: float = 0, *, barred: bool = False
    ) -> None:
        """Owe it again, later.

        Args:
            request: As taken.
            now_ms: Time of the failure.
            retry_after_s: What the venue asked for, 0 if it did not.
            barred: The venue refuses this address, so all requests wait.
        """
        key = _key(request)
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff_ms = min(BACKOFF_MS << min(failures, 16), BACKOFF_MAX_MS)
        again_ms = now_ms + max(backoff_ms, int(retry_after_s * 1_000))
        if barred:
            self._barred_until_ms = max(self._barred_until_ms, again_ms)
        self._add(request, again_ms)

    def take(self) -> list[HttpRequest]:
        """All requests owed, each returned once."""
        if not self._owed:
            return []
        owed, self._owed = self._owed, []
        barred = self._barred_until_ms
        return [r if r.not_before_ms >= barred else replace(r, not_before_ms=barred) for r in owed]

    def drop(self, venue_symbol: str) -> None:
        """Nothing about one symbol matters any more; an answer on its way is not waited for."""
        self._owed = [request for request in self._owed if request.venue_symbol != venue_symbol]
        for purpose in ("instrument", "snapshot"):
            key = purpose, venue_symbol
            self._pending.discard(key)
            self._failures.pop(key, None)
            self._repeats.forget(key)

    def forget(self) -> None:
        """Nothing asked so far matters any more; a ban still does."""
        self._owed.clear()
        self._pending.clear()

    def _add(self, request: HttpRequest, not_before_ms: int) -> None:
        self._pending.add(_key(request))
        self._owed.append(replace(request, not_before_ms=not_before_ms))


def _key(request: HttpRequest) -> Key:
    return request.purpose, request.venue_symbol
