"""The changelog's records: one engine's state, and who kept it.

The key is symbol and token, so that under compaction a paused writer's late checkpoint can't
replace a newer writer's. Restoring takes the highest (token, applied offset) of a symbol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from tapeline.errors import SnapshotError

CHANGELOG_FORMAT: Final = 1


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """One engine's state at one offset.

    Attributes:
        token: Fencing token under which it was written; 0 without leases.
        epoch: How often the topic had been recreated.
        applied: Offset of the newest record in the state.
        snapshot: `Engine.snapshot`.
    """

    symbol: str
    token: int
    epoch: int
    applied: int
    snapshot: bytes

    @property
    def key(self) -> bytes:
        """Key of its changelog record."""
        return checkpoint_key(self.symbol, self.token)


def checkpoint_key(symbol: str, token: int) -> bytes:
    """Key of a changelog record."""
    return f"{symbol}@{token}".encode()


def symbol_and_token(key: bytes) -> tuple[str, int]:
    """What a changelog record's key is made of; an empty symbol if it is none."""
    symbol, _, token = key.decode("ascii", "replace").rpartition("@")
    return (symbol, int(token)) if token.isdecimal() else ("", 0)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Value of a changelog record: a format byte, then msgpack."""
    return bytes([CHANGELOG_FORMAT]) + msgspec.msgpack.encode(checkpoint)


def decode_checkpoint(value: bytes) -> Checkpoint:
    """Read a changelog record's value.

    Raises:
        SnapshotError: Another format, or damaged.
    """
    if value[:1] != bytes([CHANGELOG_FORMAT]):
        raise SnapshotError(f"changelog format {value[:1].hex() or 'missing'}")
    try:
        return msgspec.msgpack.decode(memoryview(value)[1:], type=Checkpoint)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"damaged checkpoint: {error}") from None


def newest(checkpoints: Iterable[Checkpoint]) -> dict[str, Checkpoint]:
    """The one to restore for each symbol: highest (token, epoch, applied)."""
    best: dict[str, Checkpoint] = {}
    for one in checkpoints:
        held = best.get(one.symbol)
        rank = (one.token, one.epoch, one.applied)
        if held is None or rank > (held.token, held.epoch, held.applied):
            best[one.symbol] = one
    return best
