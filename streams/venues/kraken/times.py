"""Kraken's times: ``2026-07-19T17:54:39.753424Z`` to microseconds. Pure.

They come with six digits of a second, or nine, or none, always in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_MINUTES_MAX: Final = 64
_minutes: dict[str, int] = {}
"""Microseconds at the begin of each minute seen lately: a frame's time is mostly the same one."""


def micros(text: str) -> int:
    """Microseconds since the epoch; 0 of anything that is no such time, or before 1970."""
    begin_us = _minutes.get(text[:16], -1)
    digits = text[17:19] + text[20:26]
    if begin_us >= 0 and len(text) == 27 and text[26] == "Z" and digits.isdecimal():
        return begin_us + int(digits)
    return _any_micros(text)


def _any_micros(text: str) -> int:
    minute, seconds, fraction = text[:16], text[16:19], text[20:-1]
    if not text.isascii() or text[-1:] != "Z" or seconds[:1] != ":" or not seconds[1:].isdecimal():
        return 0
    if text[19:20] != "Z" and not (text[19:20] == "." and fraction.isdecimal()):
        return 0
    begin_us = _begin_us(minute)
    if begin_us < 0:
        return 0
    return begin_us + int(seconds[1:]) * 1_000_000 + int(f"{fraction:0<6.6}")


def _begin_us(minute: str) -> int:
    try:
        begin = datetime.strptime(minute, "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    except ValueError:
        return -1
    begin_us = int(begin.timestamp()) * 1_000_000
    if len(_minutes) >= _MINUTES_MAX:
        _minutes.clear()
    _minutes[minute] = begin_us
    return begin_us
