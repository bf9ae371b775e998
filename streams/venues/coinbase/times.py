"""Coinbase's times: ``2026-08-09T21:05:48.228568804Z`` to milliseconds. Pure.

They come with up to nine digits of a second, or none, always in UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_SHAPE: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII
)
_MINUTES_MAX: Final = 64
_minutes: dict[str, int] = {}
"""Milliseconds at the begin of each minute seen lately: a frame's time is mostly in the same."""


def millis(text: str) -> int:
    """Milliseconds since the epoch; 0 of anything that is no such time, or before 1970."""
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        return 0
    minute, seconds, fraction = shape.groups("0")
    begin_ms = _minutes.get(minute, -1)
    if begin_ms < 0:
        begin_ms = _begin_ms(minute)
        if begin_ms < 0:
            return 0
    return begin_ms + int(seconds) * 1_000 + int(f"{fraction:0<3.3}")


def _begin_ms(minute: str) -> int:
    try:
        begin = datetime.strptime(minute, "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    except ValueError:
        return -1
    begin_ms = int(begin.timestamp()) * 1_000
    if len(_minutes) >= _MINUTES_MAX:
        _minutes.clear()
    _minutes[minute] = begin_ms
    return begin_ms
