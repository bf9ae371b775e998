"""Decisions that must be atomic in Redis: one script a file, and typed calls of them.

Leases with fencing tokens (``acquire``, ``renew``, ``release``, ``look``), reports and ticks accepted only
from their token's holder (``publish``, ``publish_tick``), heartbeats (``beat``). Safety is the
token, compared in the step that writes; the lease only says whose turn it is.
"""

from __future__ import annotations

from lua.keys import Keys, LeaseKeys
from lua.replies import (
    TOKEN_LIMIT,
    AcquireCode,
    Acquired,
    BeatCode,
    Beaten,
    PublishCode,
    ReleaseCode,
    RenewCode,
    ReportWrite,
    Sight,
    TickWrite,
    TokenLimit,
)
from lua.scripts import Scripts

__all__ = [
    "TOKEN_LIMIT",
    "AcquireCode",
    "Acquired",
    "BeatCode",
    "Beaten",
    "Keys",
    "LeaseKeys",
    "PublishCode",
    "ReleaseCode",
    "RenewCode",
    "ReportWrite",
    "Scripts",
    "Sight",
    "TickWrite",
    "TokenLimit",
]
