"""Which offsets may be committed: those that acknowledged checkpoints cover. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from agents.pace import Pace

COMMIT_PERIOD_MS: Final = 1000
"""Between two commits of what may be."""


@dataclass(slots=True)
class _Symbol:
    unsaved_from: int | None = None
    """First offset that no acknowledged checkpoint covers; None: all are covered."""
    pending_from: int | None = None
    """First offset after the checkpoint that is on its way."""
    saving: bool = False


@dataclass(slots=True)
class _Partition:
    position: int | None = None
    symbols: dict[str, _Symbol] = field(default_factory=dict)


class CommitLedger:
    """Positions of the assigned partitions, and what of them is safe in the changelog.

    The offset to commit is the lowest that some symbol still has only in memory; without such
    a symbol it is the position itself. So a worker that dies resumes early enough for every
    symbol, and each symbol skips what its own checkpoint already holds.

    Attributes:
        pace: How many records make one batch: what applies them and what makes them both know it.
        generation: Rises with each assignment: a batch of an earlier one is read again, and
            says nothing of positions any more.
    """

    def __init__(self) -> None:
        self.pace = Pace()
        self.generation = 0
        self._partitions: dict[int, _Partition] = {}

    def assign(self, partitions: set[int]) -> None:
        """Keep books for these partitions only, all starting afresh."""
        self.generation += 1
        self._partitions = {partition: _Partition() for partition in partitions}

    def advance(self, partition: int, position: int) -> None:
        """All records below ``position`` have been looked at."""
        if (books := self._partitions.get(partition)) is not None:
            books.position = position

    def position(self, partition: int) -> int | None:
        """Where the next record is expected; None before the first of this assignment."""
        books = self._partitions.get(partition)
        return None if books is None else books.position

    def positions(self) -> dict[int, int | None]:
        """`position` of each assigned partition."""
        return {partition: books.position for partition, books in self._partitions.items()}

    def dirty(self, partition: int, symbol: str, first_offset: int) -> None:
        """A record at ``first_offset``, or from there on, changed the symbol's state."""
        if (books := self._partitions.get(partition)) is None:
            return
        entry = books.symbols.setdefault(symbol, _Symbol())
        if entry.unsaved_from is None:
            entry.unsaved_from = first_offset
        if entry.saving and entry.pending_from is None:
            entry.pending_from = first_offset

    def is_dirty(self, partition: int, symbol: str) -> bool:
        """Whether the symbol has something that no acknowledged checkpoint covers."""
        entry = self._entry(partition, symbol)
        return entry is not None and entry.unsaved_from is not None

    def saving(self, partition: int, symbol: str) -> None:
        """A checkpoint of the symbol as it is now has been sent."""
        if (entry := self._entry(partition, symbol)) is not None:
            entry.saving, entry.pending_from = True, None

    def saved(self, partition: int, symbol: str, *, acknowledged: bool) -> None:
        """The broker has the checkpoint, or it was lost and must be sent again."""
        entry = self._entry(partition, symbol)
        if entry is None or not entry.saving:
            return
        if acknowledged:
            entry.unsaved_from = entry.pending_from
        entry.saving, entry.pending_from = False, None

    def committable(self, partition: int) -> int | None:
        """Offset to commit for the partition; None if nothing has been read of it yet."""
        books = self._partitions.get(partition)
        if books is None or books.position is None:
            return None
        unsaved = (s.unsaved_from for s in books.symbols.values() if s.unsaved_from is not None)
        return min(books.position, min(unsaved, default=books.position))

    def partitions(self) -> set[int]:
        """Those being kept."""
        return set(self._partitions)

    def _entry(self, partition: int, symbol: str) -> _Symbol | None:
        books = self._partitions.get(partition)
        return books.symbols.get(symbol) if books else None
