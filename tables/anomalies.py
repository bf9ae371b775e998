"""Spoofing, iceberg orders and flash-crash risk, from a book by price level.

A venue's public book names no orders, so each of the three infers from what a price level
does. The trackers below are fed as records are applied and hold a bounded memory; asking them
changes nothing. Their thresholds are in `Parameters`; what those leave open is said in each
docstring.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from statistics import median
from typing import Final, Literal, NamedTuple

from tables.book import Side
from tables.liquidity import Severity, graded
from tables.parameters import BASELINE_SEC, Parameters
from tables.scale import rescale

SPOOF_WINDOW_MS: Final = 60_000
SPOOF_WATCHED_MAX: Final = 256
ICEBERG_QUIET_MS: Final = 30_000
ICEBERG_WATCHED_MAX: Final = 128
BASELINE_SAMPLES_MIN: Final = 30

SPREAD_WIDENING: Final = 3.0
DEPTH_THINNING: Final = 0.4
FLOW_ACCELERATION: Final = 3.0

AnomalyType = Literal["spoofing", "iceberg", "flash_crash_risk"]


class Finding(NamedTuple):
    """One anomaly, with a note that a person can read."""

    type: AnomalyType
    severity: Severity
    note: str


class Prices(NamedTuple):
    """How to print integer prices and sizes for people."""

    px_e: int
    sz_e: int

    def price(self, px: int) -> str:
        return _decimal(px, self.px_e)

    def size(self, sz: int) -> str:
        return _decimal(sz, self.sz_e)


def _decimal(value: int, exponent: int) -> str:
    """Exact decimal text without trailing zeros."""
    if exponent >= 0:
        return str(value * 10**exponent)
    whole, rest = divmod(value, 10**-exponent)
    return f"{whole}.{rest:0{-exponent}d}".rstrip("0").rstrip(".")


_SIDES: Final[tuple[Side, ...]] = ("bid", "ask")


class _Placed(NamedTuple):
    """One large order: when it came, what it added, what stood at its level then."""

    side: Side
    placed_ms: int
    added: int
    standing: int


class SpoofTracker:
    """Large orders far from mid, and how many of them were taken back without trading.

    A placement is a level that grows by at least the wall threshold of the moment, at least
    ``spoof_far_bps`` from mid. It is cancelled when, within ``spoof_lifetime_ms``, the level
    loses at least half of what was added while no trade printed at that price. Both are
    counted over 60 s by side. Real books cancel a lot, so the share says little on few orders,
    or on old ones: ``spoof_min_orders`` must have been placed, and of a calm Bitcoin book's
    large far orders 70 % are gone after 10 s, hardly any after 3.

    Attributes:
        watched: By price, those neither old nor gone. A change of a level that is not here,
            and does not grow by the threshold, need not be told. A price has one side at a time:
            for an ask to stand where a bid stood, the bid has to go first.
    """

    __slots__ = ("_counts", "_log", "watched")

    def __init__(self) -> None:
        self.watched: dict[int, _Placed] = {}
        self._log: deque[tuple[int, Side, bool]] = deque()  # (ms, side, cancelled), by ms
        self._counts: Counter[tuple[Side, bool]] = Counter()  # of all that the log holds

    def level_changed(
        self,
        now_ms: int,
        side: Side,
        px: int,
        before: int,
        after: int,
        *,
        large: float,
        far: bool,
        lifetime_ms: int,
    ) -> None:
        """One level went from ``before`` to ``after``; ``far``: at least spoof_far_bps off mid."""
        watched = self.watched
        order = watched.get(px)
        if order is not None and order.side == side and after < before:
            if now_ms - order.placed_ms > lifetime_ms:
                del watched[px]
            elif order.standing - after >= order.added / 2:
                del watched[px]
                self._note(now_ms, side, cancelled=True)
        elif far and after - before >= large:
            watched.pop(px, None)
            if len(watched) >= SPOOF_WATCHED_MAX:
                del watched[next(iter(watched))]
            watched[px] = _Placed(side, now_ms, after - before, after)
            self._note(now_ms, side, cancelled=False)

    def _note(self, now_ms: int, side: Side, *, cancelled: bool) -> None:
        self._log.append((now_ms, side, cancelled))
        self._counts[side, cancelled] += 1

    def traded(self, side: Side, px: int) -> None:
        """A trade printed at a level: whatever was placed there was meant."""
        order = self.watched.get(px)
        if order is not None and order.side == side:
            del self.watched[px]

    def expire(self, now_ms: int, lifetime_ms: int) -> None:
        """Forget what is out of reach."""
        while self._log and self._log[0][0] <= now_ms - SPOOF_WINDOW_MS:
            _, side, cancelled = self._log.popleft()
            self._counts[side, cancelled] -= 1
        watched = self.watched
        while watched and watched[at := next(iter(watched))].placed_ms < now_ms - lifetime_ms:
            del watched[at]

    def findings(self, now_ms: int, limits: Parameters) -> list[Finding]:
        """At most one a side; medium from 85 % cancelled, high from 95 %."""
        counts = self._counts.copy()
        for ms, side, cancelled in self._log:
            if ms > now_ms - SPOOF_WINDOW_MS:
                break
            counts[side, cancelled] -= 1
        found = []
        for side in _SIDES:
            placed, cancels = counts[side, False], counts[side, True]
            if placed < limits.spoof_min_orders:
                continue
            pct = min(100.0, 100 * cancels / placed)
            if pct >= limits.spoof_cancel_pct:
                found.append(
                    Finding(
                        "spoofing",
                        graded(pct, 85, 95),
                        f"{cancels} of {placed} large {side} orders at least "
                        f"{limits.spoof_far_bps:g} bps from mid were cancelled untraded within "
                        f"{limits.spoof_lifetime_ms / 1000:g} s, in the last {SPOOF_WINDOW_MS // 1000} s",
                    )
                )
        return found

    def clear(self) -> None:
        """The book was replaced: levels can't be compared across it."""
        self.watched.clear()

    def refine(self, px_e: int, finer_px_e: int, sz_e: int, finer_sz_e: int) -> None:
        """Express prices and sizes in finer units."""
        self.watched = {
            rescale(px, px_e, finer_px_e): order._replace(
                added=rescale(order.added, sz_e, finer_sz_e),
                standing=rescale(order.standing, sz_e, finer_sz_e),
            )
            for px, order in self.watched.items()
        }

    def snapshot(self) -> tuple[object, ...]:
        """Plain values; `restore` takes them back."""
        return [(px, *order) for px, order in self.watched.items()], list(self._log)

    def restore(self, values: Sequence[object]) -> None:
        """Become the tracker that `snapshot` was taken of."""
        watched, log = values
        self.watched = {row[0]: _Placed(*row[1:]) for row in watched}  # type: ignore[attr-defined]
        self._log = deque(tuple(row) for row in log)  # type: ignore[attr-defined]
        self._counts = Counter((side, cancelled) for _, side, cancelled in self._log)


@dataclass(slots=True)
class _Resting:
    """One watched price: what was visible at the first fill, and what traded since.

    Attributes:
        visible: Size shown at the first fill.
        shown_fills, shown_filled: Those of the fills after which the book has still shown the
            level: only they say that it was refilled.
    """

    side: Side
    visible: int
    fills: int
    filled: int
    last_ms: int
    shown_fills: int = 0
    shown_filled: int = 0


class IcebergTracker:
    """Prices where fills do not use up what is visible.

    Watching starts with a fill at a visible level. Every later change of the level must leave
    it within ``iceberg_depth_tolerance_pct`` of what was visible then; otherwise watching
    starts anew. It is a finding from ``iceberg_min_fills`` fills that together took at least
    what was ever visible: five crumbs off a large level are no iceberg. Only fills that a
    later book message has left standing count: a sweep that eats the level looks the same
    until that message comes.

    Attributes:
        watched: By price, oldest fill first. A change of a level that is not here need not be
            told. A price has one side at a time.
        fresh: Prices with fills that no book message has followed yet.
    """

    __slots__ = ("fresh", "watched")

    def __init__(self) -> None:
        self.watched: dict[int, _Resting] = {}
        self.fresh: set[int] = set()

    def traded(self, now_ms: int, side: Side, px: int, sz: int, visible: int) -> None:
        """A trade took ``sz`` from the level (side, px), which shows ``visible`` by the book."""
        watched = self.watched
        resting = watched.get(px)
        if resting is None or resting.side != side:
            if not visible:
                return
            resting = _Resting(side, visible, 0, 0, now_ms)
            watched.pop(px, None)
            if len(watched) >= ICEBERG_WATCHED_MAX:
                del watched[next(iter(watched))]
        else:
            del watched[px]  # and in again at the end, as the newest
        resting.fills += 1
        resting.filled += sz
        resting.last_ms = now_ms
        watched[px] = resting
        self.fresh.add(px)

    def book_changed(self) -> None:
        """A book message has been applied: levels it left alone still stand."""
        for px in self.fresh:
            resting = self.watched.get(px)
            if resting is not None:
                resting.shown_fills, resting.shown_filled = resting.fills, resting.filled
        self.fresh.clear()

    def level_changed(self, side: Side, px: int, after: int, tolerance_pct: float) -> None:
        """One level now shows ``after``."""
        resting = self.watched.get(px)
        if (
            resting is not None
            and resting.side == side
            and abs(after - resting.visible) * 100 > tolerance_pct * resting.visible
        ):
            del self.watched[px]

    def expire(self, now_ms: int) -> None:
        """Forget prices without a fill in 30 s."""
        resting = self.watched
        while resting and resting[at := next(iter(resting))].last_ms <= now_ms - ICEBERG_QUIET_MS:
            del resting[at]

    def findings(self, now_ms: int, limits: Parameters, prices: Prices) -> list[Finding]:
        """By price; medium when 3x of what was visible has traded, high from 6x."""
        return [
            Finding(
                "iceberg",
                graded(resting.shown_filled / resting.visible, 3, 6),
                f"{resting.shown_fills} fills took {prices.size(resting.shown_filled)} at "
                f"{resting.side} {prices.price(px)} while it kept showing about {prices.size(resting.visible)}",
            )
            for px, resting in sorted(
                self.watched.items(), key=lambda level: (level[1].side, level[0])
            )
            if resting.shown_fills >= limits.iceberg_min_fills
            and resting.shown_filled >= resting.visible
            and resting.last_ms > now_ms - ICEBERG_QUIET_MS
        ]

    def clear(self) -> None:
        """The book was replaced: levels can't be compared across it."""
        self.watched.clear()
        self.fresh.clear()

    def refine(self, px_e: int, finer_px_e: int, sz_e: int, finer_sz_e: int) -> None:
        """Express prices and sizes in finer units."""
        self.watched = {
            rescale(px, px_e, finer_px_e): replace(
                resting,
                visible=rescale(resting.visible, sz_e, finer_sz_e),
                filled=rescale(resting.filled, sz_e, finer_sz_e),
                shown_filled=rescale(resting.shown_filled, sz_e, finer_sz_e),
            )
            for px, resting in self.watched.items()
        }
        self.fresh = {rescale(px, px_e, finer_px_e) for px in self.fresh}

    def snapshot(self) -> list[tuple[object, ...]]:
        """Plain values; `restore` takes them back."""
        return [(px, *astuple(resting), px in self.fresh) for px, resting in self.watched.items()]

    def restore(self, values: Iterable[Sequence[object]]) -> None:
        """Become the tracker that `snapshot` was taken of."""
        rows = [tuple(row) for row in values]
        self.watched = {row[0]: _Resting(*row[1:-1]) for row in rows}  # type: ignore[arg-type, misc]
        self.fresh = {row[0] for row in rows if row[-1]}  # type: ignore[misc]


class CrashSample(NamedTuple):
    """One second of record time; net is bought minus sold in that second."""

    sec: int
    spread: int
    bid_depth: int
    net: int


class CrashBaseline(NamedTuple):
    """What is usual: medians over the last five minutes, refreshed each 10 s."""

    spread: float
    bid_depth: float
    net_10s: float


class CrashTracker:
    """How the spread, the bid side and the net flow compare with the last five minutes.

    Three signals: the spread is at least 3x its median; the reported bid depth is at most
    0.4x its median; the last 10 s sold, net, at least 3x the median size of a 10 s net flow,
    and faster than in the 20 s before. A finding from ``crash_min_signals`` of them: medium,
    high when all three are there. Nothing is said before 30 samples.
    """

    __slots__ = ("_samples", "baseline")

    def __init__(self) -> None:
        self._samples: deque[CrashSample] = deque()
        self.baseline: CrashBaseline | None = None

    def sample(self, sample: CrashSample) -> None:
        """Add the second that has just ended."""
        samples = self._samples
        samples.append(sample)
        while samples[0].sec <= sample.sec - BASELINE_SEC:
            samples.popleft()

    def refresh(self) -> None:
        """Take the medians anew."""
        samples = self._samples
        if len(samples) < BASELINE_SAMPLES_MIN:
            self.baseline = None
            return
        nets = deque[CrashSample]()
        sums: list[int] = []
        total = 0
        for sample in samples:
            nets.append(sample)
            total += sample.net
            while nets[0].sec <= sample.sec - 10:
                total -= nets.popleft().net
            sums.append(abs(total))
        self.baseline = CrashBaseline(
            median(s.spread for s in samples), median(s.bid_depth for s in samples), median(sums)
        )

    def findings(
        self,
        spread: int,
        bid_depth: int,
        net_10s: int,
        net_20s_before: int,
        limits: Parameters,
    ) -> list[Finding]:
        """At most one, from the present figures, in the engine's integer units."""
        usual = self.baseline
        if usual is None:
            return []
        signals = []
        if usual.spread > 0 and spread >= SPREAD_WIDENING * usual.spread:
            signals.append(f"spread {spread / usual.spread:.1f}x its 5-minute median")
        if bid_depth <= DEPTH_THINNING * usual.bid_depth:
            signals.append(f"bid depth {bid_depth / usual.bid_depth:.2f}x its 5-minute median")
        accelerating = net_10s < 0 and 2 * net_10s < net_20s_before  # by rate: 10 s against 20 s
        if accelerating and 0 < FLOW_ACCELERATION * usual.net_10s <= -net_10s:
            times = -net_10s / usual.net_10s
            signals.append(f"net selling {times:.1f}x a usual 10 s and accelerating")
        if len(signals) < limits.crash_min_signals:
            return []
        severity: Severity = "high" if len(signals) == 3 else "medium"
        return [Finding("flash_crash_risk", severity, "; ".join(signals))]

    def refine(self, px_e: int, finer_px_e: int, sz_e: int, finer_sz_e: int) -> None:
        """Express prices and sizes in finer units."""
        self._samples = deque(
            CrashSample(
                s.sec,
                rescale(s.spread, px_e, finer_px_e),
                rescale(s.bid_depth, sz_e, finer_sz_e),
                rescale(s.net, sz_e, finer_sz_e),
            )
            for s in self._samples
        )
        if self.baseline is not None:
            sz = 10 ** (sz_e - finer_sz_e)
            self.baseline = CrashBaseline(
                self.baseline.spread * 10 ** (px_e - finer_px_e),
                self.baseline.bid_depth * sz,
                self.baseline.net_10s * sz,
            )

    def snapshot(self) -> tuple[object, ...]:
        """Plain values; `restore` takes them back."""
        return list(self._samples), self.baseline

    def restore(self, values: Sequence[object]) -> None:
        """Become the tracker that `snapshot` was taken of."""
        samples, baseline = values
        self._samples = deque(CrashSample(*row) for row in samples)  # type: ignore[attr-defined]
        self.baseline = CrashBaseline(*baseline) if baseline else None  # type: ignore[misc]
