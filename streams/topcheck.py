"""The rebuilt book's best levels against the venue's own quote, at equal update ids.

A venue that numbers both its book messages and its quotes says, twice, what the best bid and
ask were after one and the same change. Where the two differ, the rebuilt book is wrong although
its sequence had no hole. Either may arrive first, so each is kept until the other has come or
can't come any more. Pure: a venue's assembler uses it, and so can any reader of the topic.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from streams.book import Top

PENDING_QUOTES: Final = 2_048
"""Quotes kept ahead of the book; more than a second of a busy venue's. The oldest go first."""

RECENT_TOPS: Final = 64
"""Tops of the book kept for quotes that come late."""


class TopCheck:
    """Compares one symbol's book with its quotes. All tops in one pair of exponents."""

    __slots__ = ("_pending", "_recent")

    def __init__(self) -> None:
        self._pending: deque[tuple[int, Top]] = deque(maxlen=PENDING_QUOTES)
        self._recent: dict[int, Top] = {}

    def quote(self, seq: int, top: Top) -> bool | None:
        """The venue's quote at update id ``seq``; ids rise from call to call.

        Returns:
            Whether it equals the book's top at that id; None if that can't be said, or not yet.
        """
        known = self._recent.get(seq)
        if known is not None:
            return known == top
        self._pending.append((seq, top))
        return None

    def book(self, seq: int, top: Top | None) -> bool | None:
        """The book's top after the message that ends at ``seq``; None if a side is empty.

        Returns:
            Whether it equals the quote at that id; None if there was none, or none yet.
        """
        pending = self._pending
        while pending and pending[0][0] < seq:
            pending.popleft()
        if top is None:
            return None
        if pending and pending[0][0] == seq:
            return pending.popleft()[1] == top
        recent = self._recent
        recent[seq] = top
        if len(recent) > RECENT_TOPS:
            del recent[next(iter(recent))]
        return None

    def forget_book(self) -> None:
        """The book is not to be trusted any more; the quotes are."""
        self._recent.clear()

    def reset(self) -> None:
        """Forget everything: the exponents change, or the venue's ids begin anew."""
        self._pending.clear()
        self._recent.clear()
