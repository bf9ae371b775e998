"""An engine's state as bytes, and back.

A format byte, the engine's version in two bytes, then zlib over msgpack. Whatever is not exactly
that is refused: a state that was guessed at would make wrong numbers for half an hour.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streams import events
from tapeline.errors import RecordError, SnapshotError

if TYPE_CHECKING:
    from tables.engine import Engine

FORMAT: Final = 1
_HEAD_BYTES: Final = 3

_SCALARS: Final = (
    "applied",
    "newest_ms",
    "newest_sec",
    "last_change_ms",
    "px_e",
    "sz_e",
    "feed_token",
    "feed_seq",
    "feed_state",
    "last_trade_id",
    "large_sz",
)
_EVENTS: Final = ("instrument", "day", "quote", "last_trade")
_COMPONENTS: Final = (
    "book",
    "flow",
    "profile",
    "sizes",
    "quality",
    "spoof",
    "iceberg",
    "crash",
    "custom",
)


def write(engine: Engine, version: int) -> bytes:
    """All of an engine's state. The thresholds are not part of it."""
    kept = [getattr(engine, name) for name in _EVENTS]
    state = (
        engine.symbol,
        engine.venue,
        [getattr(engine, name) for name in _SCALARS],
        [None if event is None else events.encode(event) for event in kept],
        [events.encode(part) for part in engine.parts],
        [getattr(engine, name).snapshot() for name in _COMPONENTS],
        engine.others.snapshot(engine.newest_ms),
    )
    packed = zlib.compress(msgspec.msgpack.encode(state), level=1)
    return bytes([FORMAT]) + version.to_bytes(2, "big") + packed


def read(snapshot: bytes, version: int, make: Callable[[str, str], Engine]) -> Engine:
    """The engine that `write` was given.

    Args:
        snapshot: What `write` returned.
        version: The only engine version accepted.
        make: An empty engine of (symbol, venue).

    Raises:
        SnapshotError: Another format or version, or damaged.
    """
    if len(snapshot) < _HEAD_BYTES or snapshot[0] != FORMAT:
        raise SnapshotError(f"snapshot format {snapshot[:1].hex() or 'missing'}, not {FORMAT}")
    found = int.from_bytes(snapshot[1:_HEAD_BYTES], "big")
    if found != version:
        raise SnapshotError(f"snapshot of engine version {found}, not {version}")
    try:
        return _filled(msgspec.msgpack.decode(zlib.decompress(snapshot[_HEAD_BYTES:])), make)
    except (
        zlib.error, msgspec.DecodeError, RecordError, ValueError, TypeError, IndexError, KeyError
    ) as error:  # fmt: skip
        raise SnapshotError(f"damaged snapshot: {error}") from error


def _filled(state: Any, make: Callable[[str, str], Engine]) -> Engine:
    symbol, venue, scalars, kept, parts, components, others = state
    engine = make(symbol, venue)
    for name, value in zip(_SCALARS, scalars, strict=True):
        setattr(engine, name, value)
    for name, raw in zip(_EVENTS, kept, strict=True):
        setattr(engine, name, None if raw is None else events.decode(raw))
    engine.parts = [events.decode(raw) for raw in parts]  # type: ignore[misc]
    for name, values in zip(_COMPONENTS, components, strict=True):
        getattr(engine, name).restore(values)
    engine.others.restore(others)
    engine.derive()
    return engine
