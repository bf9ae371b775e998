"""The fast lane of `Engine.apply`, where a C compiler has built it.

``take(engine, records, at)`` applies a list's records from ``at`` on, for as long as they are plain
book deltas and quotes of a book that is right, and says in ``engine.lane_taken`` how many it took.
Every other record, and all of them where there is no lane, goes through the engine's own methods;
state and reports are the same either way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Values = list[tuple[int, bytes | None]]
"""(offset, value) pairs, offsets rising."""

Take = Callable[[Any, Values, int], None]

take: Take | None
try:
    from tables._lane import take
except ImportError:
    take = None
