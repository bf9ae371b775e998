"""When a book should be built anew although nothing says that it is wrong. Pure.

A book that has not moved for minutes on a live socket may have been left out by the venue; any book
may be wrong in a level that no check covers. So both are asked for again, each symbol at times of its
own: snapshots are large, and all at once would eat a venue's budget.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

APART_MS: Final = 1_500
"""Between two refreshes of one venue: at Binance 40 a minute are a third of the request budget. Of
hundreds of symbols each is refreshed less often, then."""

STALE: Final = "stale"
REFRESH: Final = "refresh"


@dataclass(frozen=True, slots=True)
class CareTimes:
    """How patient to be.

    Attributes:
        stale_ms: A book that has not moved for so long is asked for again.
        refresh_min_ms, refresh_max_ms: Each book is, after a time between these two.
    """

    stale_ms: int = 300_000
    refresh_min_ms: int = 120_000
    refresh_max_ms: int = 300_000


class Due(NamedTuple):
    """A book to be asked for.

    Attributes:
        symbol: Canonical.
        reason: ``stale`` or ``refresh``.
    """

    symbol: str
    reason: str


class _Book:
    __slots__ = ("moved_ms", "refresh_ms", "rounds")

    def __init__(self, now_ms: int) -> None:
        self.moved_ms = self.refresh_ms = now_ms
        self.rounds = 0


class BookCare:
    """Says which books are due."""

    def __init__(self, times: CareTimes | None = None) -> None:
        self._times = times or CareTimes()
        self._books: dict[str, _Book] = {}
        self._refreshed_ms: int | None = None

    def moved(self, symbol: str, now_ms: int) -> None:
        """A snapshot or a delta of this symbol was passed on."""
        book = self._books.get(symbol)
        if book is None:
            book = self._books[symbol] = _Book(now_ms)
            self._plan(symbol, book, now_ms)
        book.moved_ms = now_ms

    def forget(self, symbol: str) -> None:
        """The symbol is not followed any more."""
        self._books.pop(symbol, None)

    def due(self, symbols: Iterable[str], now_ms: int, *, live: bool) -> list[Due]:
        """Books to be asked for now; each is then planned anew.

        Args:
            symbols: Those followed.
            now_ms: A clock that was set back counts as a long time.
            live: The venue gives signs of life: without, silence says nothing of a book.
        """
        found: list[Due] = []
        for symbol in symbols:
            book = self._books.get(symbol)
            if book is None or not live:
                continue  # never there, or nobody to ask
            if not 0 <= now_ms - book.moved_ms < self._times.stale_ms:
                found.append(Due(symbol, STALE))
            elif not 0 < book.refresh_ms - now_ms <= self._times.refresh_max_ms and self._apart(
                now_ms
            ):
                found.append(Due(symbol, REFRESH))
                self._refreshed_ms = now_ms
            else:
                continue
            book.moved_ms = now_ms
            self._plan(symbol, book, now_ms)
        return found

    def _apart(self, now_ms: int) -> bool:
        last_ms = self._refreshed_ms
        return last_ms is None or not 0 <= now_ms - last_ms < APART_MS

    def _plan(self, symbol: str, book: _Book, now_ms: int) -> None:
        """Another time between the two limits each round, the same in each run of the process."""
        low, high = self._times.refresh_min_ms, self._times.refresh_max_ms
        book.rounds += 1
        draw = zlib.crc32(f"{symbol}:{book.rounds}".encode())
        book.refresh_ms = now_ms + low + draw % (high - low + 1)
