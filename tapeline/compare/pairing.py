"""Which report of one system belongs to which of the other. Pure.

Two writers come round at different moments. What they write is a function of the records up to an
offset, and of the moment: so two reports belong together that are of the same offset, and of moments
as close as can be had.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

APART_MAX_MS: Final = 1000
"""Reports of one offset further apart are no pair: a period, at most."""

HOLD_MS: Final = 5000
"""How long a report waits for its other, by the newest one's time."""

Side = Literal[0, 1]

Where = tuple[str, int, int]
"""Topic, partition, offset."""


class Part(NamedTuple):
    """A report, or the slow part of one.

    Attributes:
        where: The last record it was computed from.
        body: Its fields.
    """

    now_ms: int
    where: Where
    body: dict[str, Any]


class Pair(NamedTuple):
    """Two that belong together; ``near`` if of different records."""

    a: Part
    b: Part
    near: bool = False

    @property
    def skew_ms(self) -> int:
        """How far apart their moments are."""
        return abs(self.a.now_ms - self.b.now_ms)


class Pairing:
    """Pairs the reports of one symbol.

    Args:
        near_ms: What has no other of its offset is paired with the next one that is no further
            away than this; 0 for never.

    Attributes:
        taken: Parts by side.
        alone: Those of them that stayed without another.
    """

    def __init__(self, near_ms: int = 0) -> None:
        self.taken, self.alone = [0, 0], [0, 0]
        self._near_ms = near_ms
        self._waiting: tuple[list[Part], list[Part]] = ([], [])
        self._last: list[tuple[int, Where] | None] = [None, None]
        self._newest_ms = 0

    def add(self, side: Side, part: Part) -> None:
        """Take one; the same once more, as each report brings the slow part along, is passed."""
        which = part.now_ms, part.where
        if which == self._last[side]:
            return
        self._last[side] = which
        self.taken[side] += 1
        self._waiting[side].append(part)
        self._newest_ms = max(self._newest_ms, part.now_ms)

    def settle(self, *, everything: bool = False) -> list[Pair]:
        """Pairs of what has waited long enough; of all there is at the end."""
        until_ms = self._newest_ms - (0 if everything else HOLD_MS)
        ours, theirs = self._waiting
        if not any(part.now_ms <= until_ms for part in (*ours, *theirs)):
            return []
        pairs = self._match(until_ms, APART_MAX_MS, near=False)
        if self._near_ms:
            pairs += self._match(until_ms, self._near_ms, near=True)
        for side, waiting in enumerate(self._waiting):
            kept = [part for part in waiting if part.now_ms > until_ms]
            self.alone[side] += len(waiting) - len(kept)
            waiting[:] = kept
        return pairs

    def _match(self, until_ms: int, apart_ms: int, *, near: bool) -> list[Pair]:
        """Takes out pairs, the closest first, of which one at least may wait no longer."""
        ours, theirs = self._waiting
        others: dict[Where | None, list[int]] = {}
        for j, b in enumerate(theirs):
            others.setdefault(None if near else b.where, []).append(j)
        candidates = sorted(
            (apart, i, j)
            for i, a in enumerate(ours)
            for j in others.get(None if near else a.where, ())
            if (apart := abs(a.now_ms - theirs[j].now_ms)) <= apart_ms
        )
        free: tuple[set[int], set[int]] = (set(range(len(ours))), set(range(len(theirs))))
        kept: tuple[set[int], set[int]] = (set(free[0]), set(free[1]))
        pairs = []
        for _, i, j in candidates:
            if i not in free[0] or j not in free[1]:
                continue
            free[0].discard(i)
            free[1].discard(j)
            # Those that may wait longer are meant for each other, and may find a closer one.
            if min(ours[i].now_ms, theirs[j].now_ms) <= until_ms:
                kept[0].discard(i)
                kept[1].discard(j)
                pairs.append(Pair(ours[i], theirs[j], near))
        ours[:] = [part for i, part in enumerate(ours) if i in kept[0]]
        theirs[:] = [part for j, part in enumerate(theirs) if j in kept[1]]
        return pairs


FAST: Final = "fast"
SLOW: Final = "slow"
_SLOW_FIELDS: Final = ("liquidity", "anomalies")


def parts_of(report: dict[str, Any]) -> dict[str, Part]:
    """Both parts of a report: each is of records and a moment of its own.

    Raises:
        KeyError, TypeError: It is none.
    """
    source = report["source"]
    found = {FAST: _part(source["fast"], report, without=_SLOW_FIELDS)}
    if source["slow"] is not None:
        found[SLOW] = _part(source["slow"], {name: report[name] for name in _SLOW_FIELDS})
    return found


def _part(at: dict[str, Any], body: dict[str, Any], without: tuple[str, ...] = ()) -> Part:
    where = at["topic"], at["partition"], at["offset"]
    kept = {name: value for name, value in body.items() if name not in without}
    return Part(at["now_ms"], where, kept)
