"""Frames that can't be read: which books they may have been about. Pure.

The venue numbers no messages, so one that can't be read is a loss that nothing else would tell of.
"""

from __future__ import annotations

import re
from typing import Final

from streams.venues.kraken import urls

_CHANNEL: Final = re.compile(r'"channel"\s*:\s*"(\w*)')
_SYMBOL: Final = re.compile(r'"symbol"\s*:\s*"([^"]*)"')
_LOOKED_AT: Final = 400
"""Characters that are searched; what a frame is about stands at its begin."""


def books_concerned(frame: str | bytes) -> list[str] | None:
    """Venue symbols, maybe damaged ones, that a broken frame names; None if it may be any book.

    Empty if it is of another channel for sure.
    """
    text = _text(frame, _LOOKED_AT)
    channel = _CHANNEL.search(text)
    # A name that was cut off may have been the book's.
    if channel is not None and not urls.BOOK.startswith(channel[1]):
        return []
    return _SYMBOL.findall(text) or None


def _text(frame: str | bytes, length: int) -> str:
    head = frame[:length]
    return head if isinstance(head, str) else head.decode("utf-8", "replace")
