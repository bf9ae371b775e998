"""What the scripts answer. The numbers stand in the scripts' headers; a test compares them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from tapeline.errors import CoordinationError

TOKEN_LIMIT: Final = 2**53 - 1000
"""Highest token granted: above 2^53 Lua's numbers skip integers."""


class TokenLimit(CoordinationError):
    """A grant was refused: the next token would pass `TOKEN_LIMIT`.

    Tokens start at Redis' clock in ms and rise by one a grant, so this says that a token was
    set by hand, or that a clock is far off. Delete the lease's counter and meta to start over.
    """


class AcquireCode(IntEnum):
    """What became of a wish for a lease."""

    HELD = 0
    GRANTED = 1
    HELD_BY_ME = 2
    STOLEN = 3


class RenewCode(IntEnum):
    """What became of a lease that was to be extended."""

    LOST = 0
    RENEWED = 1


class ReleaseCode(IntEnum):
    """What became of a lease that was to be given back."""

    NOT_HELD = 0
    RELEASED = 1


class PublishCode(IntEnum):
    """What became of a report or a tick."""

    OK = 1
    DUPLICATE = 0
    FENCED = -1
    NOT_OWNER = -2
    STALE_DATA = -3

    @property
    def stored(self) -> bool:
        """Whether the write, this one or the one it repeats, is in Redis."""
        return self >= 0


class BeatCode(IntEnum):
    """What became of a heartbeat."""

    DUPLICATE_ID = 0
    ACCEPTED = 1


@dataclass(frozen=True, slots=True)
class Acquired:
    """Answer to a wish for a lease.

    Attributes:
        code: What became of it.
        token: The fencing token granted; with ``HELD`` the newest that Redis knows of.
        lease_value: What the lease holds now, mine or another's: ``node|incarnation|token``.
        pttl_ms: Life left of it; -1 if it never expires.
        last_seq: Of the last accepted report, 0 for none: the writer goes on from it.
        last_updated_at: Of the last accepted report, ms since the epoch, 0 for none: the
            writer starts above it.
    """

    code: AcquireCode
    token: int
    lease_value: str
    pttl_ms: int
    last_seq: int
    last_updated_at: int

    @property
    def mine(self) -> bool:
        """Whether the lease is the caller's now."""
        return self.code is not AcquireCode.HELD

    @property
    def holder(self) -> tuple[str, str]:
        """Node and incarnation inside the lease value; the value and '' if it has another form."""
        parts = self.lease_value.split("|")
        return (parts[0], parts[1]) if len(parts) == 3 else (self.lease_value, "")


@dataclass(frozen=True, slots=True)
class Beaten:
    """Answer to a heartbeat.

    Attributes:
        code: What became of it.
        holder: The heartbeat that holds the name now, JSON; empty after leaving.
        alive: Ids of all nodes alive.
    """

    code: BeatCode
    holder: bytes
    alive: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """Who writes a symbol, and how far they have got.

    Attributes:
        lease_value: ``node|incarnation|token``; '' if nobody has it.
        pttl_ms: What is left of it; 0 if nobody has it.
        token: Of the last accepted report.
        watermark: Of the last accepted report.
    """

    lease_value: str
    pttl_ms: int
    token: int
    watermark: int

    @property
    def holder(self) -> str:
        """The node in the lease, '' without one."""
        return self.lease_value.partition("|")[0]

    @property
    def writer(self) -> str:
        """Which start of the node that is, ``node|incarnation``; '' without one."""
        return self.lease_value.rpartition("|")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportWrite:
    """A report to be stored, see ``publish.lua``.

    Attributes:
        symbol: Whose.
        lease_value: The writer's lease.
        token: The fencing token inside it.
        seq: Rises with each report of the symbol.
        watermark: Never falls; below 2^53.
        updated_at: As inside the payload, ms since the epoch.
        payload: The report.
        heavy: The long lists of a report that was split, else empty.
    """

    symbol: str
    lease_value: str
    token: int
    seq: int
    watermark: int
    updated_at: int
    payload: bytes
    heavy: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickWrite:
    """A tick to be stored, see ``publish_tick.lua``; attributes as of `ReportWrite`."""

    symbol: str
    lease_value: str
    token: int
    seq: int
    watermark: int
    payload: bytes


def text(value: Any) -> str:
    """A reply's string, whether or not the client decodes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def raw(value: Any) -> bytes:
    """A reply's bytes, whether or not the client decodes."""
    return value if isinstance(value, bytes) else str(value).encode()
