"""Times as venues print them."""

from __future__ import annotations

import time


def rfc3339(ts_ms: int, digits: int = 6) -> str:
    """Such as ``2026-07-19T17:54:39.753000Z``: UTC with 3 or more decimals of a second."""
    seconds, ms = divmod(ts_ms, 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{ms:03d}{'0' * (digits - 3)}Z"


def rfc3339_short(ts_ms: int) -> str:
    """The same with no trailing zeros, as Go prints it: ``2026-08-09T21:05:38.5Z``."""
    seconds, ms = divmod(ts_ms, 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{ms:03d}".rstrip("0").rstrip(".") + "Z"
