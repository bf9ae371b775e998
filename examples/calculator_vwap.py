"""A calculator of your own: the volume-weighted average price of the last five minutes.

    NT_CALCULATORS=examples.calculator_vwap:Vwap faust -A agents worker -l info

puts ``"custom": {"vwap_5m": {"price": 61702.4, "volume": 12.5, "trades": 310}}`` into every
report, from where the package is importable. ``tests/unit/examples/test_calculator_vwap.py``
shows how to test one: against a naive recomputation, and through a snapshot at every cut.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Any, ClassVar

from streams.events import Event, Trade
from tables.calculator import Market

SPAN_SEC = 300


class Vwap:
    """Sum of price times size over sum of size, in buckets of one second.

    Sums stay exact integers: each trade is brought to the finest exponents seen so far.
    """

    name: ClassVar[str] = "vwap_5m"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        self.px_e = self.sz_e = 0
        # [second, trades, sum of sizes, sum of price * size], ascending by second
        self.buckets: deque[list[int]] = deque()

    def apply(self, event: Event, market: Market) -> None:
        """Only trades count."""
        if not isinstance(event, Trade):
            return
        self._refine(min(self.px_e, event.px_e), min(self.sz_e, event.sz_e))
        px = event.px * 10 ** (event.px_e - self.px_e)
        sz = event.sz * 10 ** (event.sz_e - self.sz_e)
        sec = event.ts_recv_ms // 1000
        if not self.buckets or self.buckets[-1][0] < sec:
            self.buckets.append([sec, 0, 0, 0])
        bucket = next((b for b in reversed(self.buckets) if b[0] == sec), None)
        if bucket is not None:  # else later than the seconds around it: left out
            bucket[1] += 1
            bucket[2] += sz
            bucket[3] += px * sz
        while self.buckets[0][0] <= market.newest_ms // 1000 - SPAN_SEC:
            self.buckets.popleft()

    def read(self, now_ms: int) -> dict[str, Any]:
        """Null without a trade: no price is better than an old one."""
        horizon = now_ms // 1000 - SPAN_SEC
        fresh = [bucket for bucket in self.buckets if bucket[0] > horizon]
        volume = sum(bucket[2] for bucket in fresh)
        paid = sum(bucket[3] for bucket in fresh)
        return {
            "price": float(Fraction(paid, volume) * Fraction(10) ** self.px_e) if volume else None,
            "volume": float(volume * Fraction(10) ** self.sz_e),
            "trades": sum(bucket[1] for bucket in fresh),
        }

    def snapshot(self) -> Any:
        """Sums of price times size may leave 64 bits, so they go as text."""
        rows = [[sec, trades, str(sizes), str(paid)] for sec, trades, sizes, paid in self.buckets]
        return [self.px_e, self.sz_e, rows]

    def restore(self, state: Any) -> None:
        """Take `snapshot` back."""
        self.px_e, self.sz_e, rows = state
        self.buckets = deque([sec, n, int(sizes), int(paid)] for sec, n, sizes, paid in rows)

    def _refine(self, px_e: int, sz_e: int) -> None:
        px, sz = 10 ** (self.px_e - px_e), 10 ** (self.sz_e - sz_e)
        if px * sz != 1:
            for bucket in self.buckets:
                bucket[2] *= sz
                bucket[3] *= px * sz
        self.px_e, self.sz_e = px_e, sz_e
