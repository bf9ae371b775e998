"""When a standby takes a symbol, and when it says to Kafka that a node is dead. Pure.

A lease may be taken on little evidence: the token makes it safe, and the standby is as far on as
its writer. Throwing a node out of the consumer group costs everybody a rebalance, so it takes
two signs that do not share a cause.

All times are monotonic ms of the observer; watermarks are the engines' (`Shards.watermark`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from lua import Sight

STALL_MS: Final = 1000
"""A writer that publishes nothing of what its standby has had for so long is stuck, whatever the
cause: stopped, cut off from Redis, cut off from Kafka, overloaded. At the usual report period; a
slower writer is given as much more as it is slower (`stall_ms`)."""

_USUAL_PERIOD_MS: Final = 250

FREE_MS: Final = 300
"""A lease that nobody has is its assigned owner's to take; after so long it is its standby's."""

AHEAD_MAX: Final = 256
"""Watermarks remembered of a symbol: the oldest counts, and Redis may be away for hours."""

EVICT_AGAIN_MS: Final = 10_000
EVICT_TURN_MS: Final = 1000

Reason = Literal["absent", "draining", "stalled", "free", "assigned"]


def stall_ms(report_period_ms: int) -> int:
    """How long a writer of that period may publish nothing new."""
    return STALL_MS + max(0, report_period_ms - _USUAL_PERIOD_MS)


@dataclass(frozen=True, slots=True)
class Taking:
    """A lease to be taken now.

    Attributes:
        symbol: Whose.
        expected: The lease as it was seen; '' if it was free.
        reason: Why.
    """

    symbol: str
    expected: str
    reason: Reason


@dataclass(slots=True)
class _Watched:
    """A symbol that is another's to write, or nobody's.

    Attributes:
        mine: Watermark of our copy; -1 while it has none.
        ahead: (when, watermark) of what our copy has had and the writer has not published.
        lease_value, since_ms: The lease seen last, and since when it has been that.
    """

    mine: int = -1
    ahead: deque[tuple[int, int]] = field(default_factory=deque)
    lease_value: str | None = None
    since_ms: int = 0


class Takeover:
    """Watches the symbols that this node could write and does not.

    Args:
        node_id: This node.
        min_hold_ms: A lease seen for less than this is not taken while its writer does its work.
        stall_ms: See `STALL_MS`.
    """

    def __init__(self, node_id: str, min_hold_ms: int, stall_ms: int = STALL_MS) -> None:
        self._node_id = node_id
        self._min_hold_ms, self._stall_ms = min_hold_ms, stall_ms
        self._watched: dict[str, _Watched] = {}
        self._evicted_ms: dict[str, int] = {}

    def watch(self, symbols: Iterable[str]) -> None:
        """Watch these from now on; what is known of others is forgotten."""
        self._watched = {s: self._watched.get(s) or _Watched() for s in symbols}

    def note(self, symbol: str, watermark: int, now_ms: int) -> None:
        """Our copy of a watched symbol is so far on."""
        watched = self._watched.get(symbol)
        if watched is not None and watermark > watched.mine:
            watched.mine = watermark
            if len(watched.ahead) == AHEAD_MAX:
                watched.ahead.pop()
            watched.ahead.append((now_ms, watermark))

    def saw(self, symbol: str, sight: Sight, now_ms: int) -> None:
        """A look was answered."""
        watched = self._watched.get(symbol)
        if watched is None:
            return
        if sight.lease_value != watched.lease_value:
            watched.lease_value, watched.since_ms = sight.lease_value, now_ms
        while watched.ahead and watched.ahead[0][1] <= sight.watermark:
            watched.ahead.popleft()

    def due(
        self,
        sights: Mapping[str, Sight],
        assigned: frozenset[str],
        suspects: frozenset[str],
        draining: frozenset[str],
        now_ms: int,
    ) -> list[Taking]:
        """What to take now.

        Args:
            sights: What the last look showed, by symbol.
            assigned: Those of the watched symbols that Kafka has assigned to us, while our seat
                in the group is certain and our engines are as far on as we can read.
            suspects: Nodes that have vanished.
            draining: Writers, ``node|incarnation``, that ask to be relieved.
            now_ms: Monotonic.
        """
        takings = []
        for symbol, watched in self._watched.items():
            sight = sights.get(symbol)
            if sight is None:
                continue
            reason = self._reason(watched, sight, symbol in assigned, suspects, draining, now_ms)
            if reason is not None:
                takings.append(Taking(symbol, sight.lease_value, reason))
        return takings

    def _reason(
        self,
        watched: _Watched,
        sight: Sight,
        assigned: bool,
        suspects: frozenset[str],
        draining: frozenset[str],
        now_ms: int,
    ) -> Reason | None:
        if watched.mine < 0 or sight.holder == self._node_id:
            return None
        since_ms = now_ms - watched.since_ms
        if not sight.lease_value:
            return "free" if assigned or since_ms >= FREE_MS else None
        if sight.holder in suspects:
            return "absent"
        # Who has the lease for a moment only gets as long as who had it before.
        if watched.ahead and min(now_ms - watched.ahead[0][0], since_ms) >= self._stall_ms:
            return "stalled"
        if watched.mine < sight.watermark:
            return None  # what we would publish is there already
        if sight.writer in draining:
            return "draining"
        return "assigned" if assigned and since_ms >= self._min_hold_ms else None

    # --- eviction ------------------------------------------------------------------------------

    def may_evict(self, node: str, suspected_ms: int, present: Iterable[str], now_ms: int) -> bool:
        """Whether it is our turn to say that a suspect is dead.

        All that are left take turns, in the order of their names, until one has done it: who is
        first needs no agreement.
        """
        last_ms = self._evicted_ms.get(node)
        if last_ms is not None and now_ms - last_ms < EVICT_AGAIN_MS:
            return False
        before_us = sum(1 for name in present if name < self._node_id)
        return now_ms - suspected_ms >= before_us * EVICT_TURN_MS

    def evicted(self, node: str, now_ms: int) -> None:
        """It has been said."""
        self._evicted_ms[node] = now_ms
