"""What became of the records that an engine was given."""

from __future__ import annotations

from collections import defaultdict
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
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    kinds: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[int, Exception]] = field(default_factory=list)
