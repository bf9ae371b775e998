"""What a comparison has found so far, and what it says in the end. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from tapeline.compare.fields import (
    PAIRS_LEAST,
    PAIRS_SHARE,
    SKEW_MAX_MS,
    Kind,
    Leaf,
    Rules,
    number,
    unequal,
    window_holds,
)
from tapeline.compare.pairing import FAST, SLOW, Pair

EXAMPLE_CHARS: Final = 160


class Verdict(IntEnum):
    """What a comparison found; the value is the exit status."""

    EQUAL = 0
    DIFFERENT = 1
    TOO_FEW_PAIRS = 3


@dataclass(slots=True)
class FieldStats:
    """One field in which some pair was not equal.

    Attributes:
        differing: Pairs in which it differs by more than it may in any.
        drifted: Those in which it is a window's, of reports some milliseconds apart.
        tolerated: Pairs in which it differs by no more than it may.
        max_abs, max_rel: Largest difference of two numbers, and as a share of the larger one.
        example: The first that differs by more than it may; the first at all without such.
    """

    tolerance: str = ""
    differing: int = 0
    drifted: int = 0
    tolerated: int = 0
    max_abs: float | None = None
    max_rel: float | None = None
    example: dict[str, Any] | None = None
    example_differs: bool = False


@dataclass(slots=True)
class SymbolPairs:
    """How much of a symbol was compared.

    Attributes:
        reports: Taken from each side.
        pairs: Of the same records.
        close: Those of them whose moments are close enough for windows to be compared.
        same_moment: Those of them at the same millisecond.
        slow_pairs: Of slow parts.
        near_pairs: Of other records.
        unpaired: Reports of each side without another.
    """

    reports: list[int] = field(default_factory=lambda: [0, 0])
    pairs: int = 0
    close: int = 0
    same_moment: int = 0
    slow_pairs: int = 0
    near_pairs: int = 0
    unpaired: list[int] = field(default_factory=lambda: [0, 0])


class Comparison:
    """Takes pairs, and keeps what they differ in.

    Args:
        rules: How fields may differ.
        min_pairs: Of each symbol, for a verdict.
        fail_on: So many differing fields make it `Verdict.DIFFERENT`.
        symbols: Expected, whether or not anything is heard of them.
        in_parts: Fast and slow parts are paired each by itself, so there must be some of both.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        min_pairs: int = 1,
        fail_on: int = 1,
        symbols: tuple[str, ...] = (),
        in_parts: bool = False,
    ) -> None:
        self.symbols: dict[str, SymbolPairs] = {name: SymbolPairs() for name in symbols}
        self.fields: dict[str, FieldStats] = {}
        self._rules, self._min_pairs, self._fail_on = rules, min_pairs, fail_on
        self._in_parts = in_parts
        self._compared: Counter[str] = Counter()
        self._skewed: Counter[str] = Counter()

    def symbol(self, name: str) -> SymbolPairs:
        """How much of it was compared."""
        return self.symbols.setdefault(name, SymbolPairs())

    def add(self, symbol: str, part: str, pair: Pair) -> None:
        """Compare a pair."""
        counts = self.symbol(symbol)
        if pair.near:
            counts.near_pairs += 1
        elif part == SLOW:
            counts.slow_pairs += 1
        else:
            counts.pairs += 1
            counts.close += pair.skew_ms <= SKEW_MAX_MS
            counts.same_moment += pair.skew_ms == 0
        a, b = pair.a.body, pair.b.body
        skewed = 0 < pair.skew_ms <= SKEW_MAX_MS
        for name in {**a, **b}:
            if pair.skew_ms > SKEW_MAX_MS and self._rules.of(name)[0] is Kind.WINDOW:
                continue
            self._compared[name] += 1
            self._skewed[name] += skewed
            if name in a and name in b and a[name] == b[name] and name not in _AGES:
                continue
            for leaf in unequal(name, a.get(name, "(missing)"), b.get(name, "(missing)")):
                self._take(symbol, pair, leaf)
            if name in _AGES and a.get(name) == b.get(name):
                self._take(symbol, pair, Leaf(name, name, a.get(name), b.get(name)))

    def _take(self, symbol: str, pair: Pair, leaf: Leaf) -> None:
        kind, tolerance = self._rules.of(leaf.path)
        if kind is Kind.LEFT_OUT:
            return
        if kind is Kind.AGE:
            if pair.near:
                return
            if number(leaf.a) and number(leaf.b):
                # As old as the first would be at the second's moment.
                at_zero = leaf.path not in _AGES and 0 in (leaf.a, leaf.b)
                leaf = leaf._replace(a=leaf.a + pair.b.now_ms - pair.a.now_ms)
                if leaf.a == leaf.b or (at_zero and pair.skew_ms):
                    return  # an age of another venue is never below 0, whatever its clock says
        if kind is Kind.WINDOW and pair.skew_ms > SKEW_MAX_MS:
            return
        stats = self.fields.setdefault(leaf.path, FieldStats())
        if number(leaf.a) and number(leaf.b):
            apart = abs(leaf.a - leaf.b)
            stats.max_abs = max(stats.max_abs or 0.0, apart)
            stats.max_rel = max(stats.max_rel or 0.0, apart / max(abs(leaf.a), abs(leaf.b)))
        skewed = kind is Kind.WINDOW and pair.skew_ms > 0
        if tolerance is not None:
            stats.tolerance = str(tolerance)
            held = number(leaf.a) and number(leaf.b) and tolerance.holds(leaf.a, leaf.b)
        else:
            held = skewed and window_holds(leaf, pair.a.body, pair.b.body, pair.skew_ms)
        if held:
            stats.tolerated += 1
        elif skewed:
            stats.drifted += 1
        else:
            stats.differing += 1
        if stats.example is None or (not held and not stats.example_differs):
            stats.example, stats.example_differs = _example(symbol, pair, leaf), not held

    # --- what it says ----------------------------------------------------------------------------

    def compared(self, path: str) -> int:
        """Pairs in which a field was compared."""
        return self._compared[path.partition(".")[0]]

    def differs(self, path: str) -> bool:
        """Whether a field differs by more, or in more pairs, than it may."""
        stats = self.fields[path]
        allowed = max(PAIRS_LEAST, PAIRS_SHARE * self._skewed[path.partition(".")[0]])
        return bool(stats.differing) or stats.drifted > allowed

    @property
    def different(self) -> list[str]:
        """Fields that differ."""
        return sorted(path for path in self.fields if self.differs(path))

    @property
    def wanting(self) -> list[str]:
        """Symbols of which too few pairs were found."""
        return sorted(
            name
            for name, found in self.symbols.items()
            if found.close + found.near_pairs < self._min_pairs
            or (self._in_parts and not found.slow_pairs + found.near_pairs)
        )

    @property
    def verdict(self) -> Verdict:
        """In the end."""
        if len(self.different) >= self._fail_on:
            return Verdict.DIFFERENT
        return Verdict.TOO_FEW_PAIRS if self.wanting or not self.symbols else Verdict.EQUAL

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        each = self.symbols.values()
        different = set(self.different)
        return {
            "verdict": self.verdict.name.lower(),
            "pairs": sum(one.pairs for one in each),
            "close_pairs": sum(one.close for one in each),
            "same_moment_pairs": sum(one.same_moment for one in each),
            "slow_pairs": sum(one.slow_pairs for one in each),
            "near_pairs": sum(one.near_pairs for one in each),
            "unpaired": {side: sum(one.unpaired[n] for one in each) for n, side in enumerate("ab")},
            "min_pairs": self._min_pairs,
            "too_few_pairs": self.wanting,
            "different": len(different),
            "fields": [
                self._field(path, path in different)
                for path in sorted(self.fields, key=lambda path: (path not in different, path))
            ],
            "symbols": {
                name: {
                    "reports": {"a": one.reports[0], "b": one.reports[1]},
                    "pairs": one.pairs,
                    "close_pairs": one.close,
                    "same_moment_pairs": one.same_moment,
                    "slow_pairs": one.slow_pairs,
                    "near_pairs": one.near_pairs,
                    "unpaired": {"a": one.unpaired[0], "b": one.unpaired[1]},
                }
                for name, one in sorted(self.symbols.items())
            },
        }

    def _field(self, path: str, differs: bool) -> dict[str, Any]:
        stats = self.fields[path]
        return {
            "field": path,
            "verdict": "different" if differs else "tolerated",
            "compared": self.compared(path),
            "differing": stats.differing,
            "drifted": stats.drifted,
            "tolerated": stats.tolerated,
            "tolerance": stats.tolerance or None,
            "max_abs": stats.max_abs,
            "max_rel": stats.max_rel,
            "example": stats.example,
        }


_AGES: Final = ("data_age_ms", "last_change_age_ms")
"""Equal ages at different moments are a difference."""


def _example(symbol: str, pair: Pair, leaf: Leaf) -> dict[str, Any]:
    topic, partition, offset = pair.a.where
    return {
        "symbol": symbol,
        "field": leaf.exactly,
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "offset_b": pair.b.where[2],
        "now_ms": pair.a.now_ms,
        "now_ms_b": pair.b.now_ms,
        "a": _shown(leaf.a),
        "b": _shown(leaf.b),
    }


def _shown(value: Any) -> Any:
    """A long value's beginning, as text."""
    if not isinstance(value, str | list | dict):
        return value
    said = str(value)
    return value if len(said) <= EXAMPLE_CHARS else f"{said[:EXAMPLE_CHARS]}..."


__all__ = ["FAST", "SLOW", "Comparison", "FieldStats", "SymbolPairs", "Verdict"]
