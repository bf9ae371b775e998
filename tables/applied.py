"""What became of the records that an engine was given."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Applied:
    """What became of a batch of records.

    Attributes:
        applied: Records that changed the state.
        skipped: Records at or below the applied offset: redelivered.
        counts: What else happened, by name, such as ``duplicate_trades`` or ``gap.feed_seq``.
        kinds: Applied records by kind.
        failures: (offset, error) of records for the dead-letter topic.
    """

    applied: int = 0
    skipped: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, Exception]] = field(default_factory=list)
