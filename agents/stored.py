"""What a changelog holds of the symbols that are listed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tables.changelog import Checkpoint, decode_checkpoint, newest, symbol_and_token
from tapeline.errors import SnapshotError


@dataclass(slots=True)
class Stored:
    """Checkpoints, and what stands beside them.

    Attributes:
        checkpoints: Those that can be read, of any symbol.
        tokens: Tokens they are stored under, by symbol.
        unreadable: Listed symbols with one that can't be read.
        unlisted: Keys of symbols that are not listed.
    """

    checkpoints: list[Checkpoint] = field(default_factory=list)
    tokens: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    unreadable: dict[str, SnapshotError] = field(default_factory=dict)
    unlisted: dict[str, list[bytes]] = field(default_factory=dict)

    def newest(self) -> list[Checkpoint]:
        """The one of each symbol that counts."""
        return list(newest(self.checkpoints).values())

    def epoch(self) -> int:
        """Highest topic epoch that any of them knows of."""
        return max((one.epoch for one in self.checkpoints), default=0)


def stored_of(records: Iterable[tuple[bytes, bytes]], listed: Collection[str]) -> Stored:
    """What (key, value) records of a changelog hold, the newest under each key.

    Args:
        records: Without tombstones.
        listed: Symbols that are followed.
    """
    found = Stored()
    for key, value in records:
        try:
            checkpoint = decode_checkpoint(value)
            symbol = checkpoint.symbol
        except SnapshotError as error:
            symbol, token = symbol_and_token(key)
            if symbol in listed:
                found.unreadable[symbol] = error
                found.tokens[symbol].add(token)  # to be tombstoned under the next one
        else:
            found.checkpoints.append(checkpoint)
            found.tokens[symbol].add(checkpoint.token)
        if symbol not in listed:
            found.unlisted.setdefault(symbol, []).append(key)
    return found
