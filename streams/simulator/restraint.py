"""What keeps an undisturbed market quiet: restrained takers, and makers that fill a thin book.

A random market has accidents: now and then a seed would sell heavily into a book that happens
to be thin, which is what a flash-crash detector looks for. Accidents are what episodes are
for, so the flow measures what is usual for itself and stays within reach of it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

NET_MS: Final = 10_000
NET_MAX: Final = 1.9
"""Most that takers buy or sell, net, in 10 s, relative to the usual amount."""

ORDER_MAX: Final = 0.4
"""Most that one taker order takes of that."""

DEPTH_LEVELS: Final = 20
DEPTH_MIN: Final = 0.55
"""Least size on the best 20 levels of a side, relative to what is usual."""

SAMPLE_MS: Final = 1_000
MEMORY: Final = 1 / 60
"""Weight of a new sample in what is usual: about a minute is remembered."""


class Restraint:
    """Usual flow and depth of one market, in lots.

    Attributes:
        usual_net: Mean size of the net flow over 10 s.
        usual_depth: Mean size on the best 20 levels of (bids, asks).
    """

    __slots__ = ("_net", "_recent", "_sample_ms", "usual_depth", "usual_net")

    def __init__(self, usual_net: float, usual_depth: tuple[float, float], now_ms: int) -> None:
        self.usual_net = usual_net
        self.usual_depth = list(usual_depth)
        self._recent: deque[tuple[int, int]] = deque()
        self._net = 0
        self._sample_ms = now_ms

    def _forget(self, now_ms: int) -> None:
        recent = self._recent
        while recent and recent[0][0] <= now_ms - NET_MS:
            self._net -= recent.popleft()[1]

    def allowed(self, now_ms: int, lots: int, *, buys: bool) -> int:
        """How much of a taker order goes through; 0 if it had better wait."""
        self._forget(now_ms)
        towards = self._net if buys else -self._net
        most = NET_MAX * self.usual_net
        return max(0, min(lots, round(most * ORDER_MAX) + 1, round(most) - towards))

    def traded(self, now_ms: int, lots: int, *, buys: bool) -> None:
        """A taker order went through."""
        signed = lots if buys else -lots
        self._recent.append((now_ms, signed))
        self._net += signed

    def lacking(self, side: int, depth: int) -> int:
        """Lots that a side needs to be no longer thin; 0 if it is not."""
        least = DEPTH_MIN * self.usual_depth[side]
        return 0 if depth >= least else round(least * 1.1 - depth) + 1

    def sample(self, now_ms: int, depths: tuple[int, int]) -> None:
        """Learn what is usual; call it often, it takes what it needs."""
        if now_ms < self._sample_ms + SAMPLE_MS:
            return
        self._sample_ms = now_ms
        self._forget(now_ms)
        self.usual_net += (abs(self._net) - self.usual_net) * MEMORY
        for side, depth in enumerate(depths):
            self.usual_depth[side] += (depth - self.usual_depth[side]) * MEMORY
