"""How the fields of two reports may differ. Pure.

A field's path is dotted, with ``*`` for the place in a list: ``depth.bids.*.1``. A pattern means a
field and all below it; ``*`` in it stands for anything.

Two reports of the same records at the same moment must be equal. Of the same records, some
milliseconds apart, they may differ in two ways: ages differ by just those milliseconds, and what a
window holds may have lost what its far end has passed. The first is taken off exactly. Of the second
this much can be said: what makes up more than a share r of a window of W ms happens at most 1/r
times in W, so its leaving is seen by at most d/(rW) of all pairs that are d ms apart. With the
figures below, 5 % and 50 ms in 10 s, that is one pair in ten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from tapeline.errors import ConfigError

MISSING: Final = "(missing)"

SKEW_MAX_MS: Final = 50
"""Windows of reports further apart are not compared."""

WINDOW_SHARE: Final = 0.05
"""By so much of itself a window may differ in any pair."""

PAIRS_SHARE: Final = 0.1
"""In so many of the pairs it may differ by more."""

PAIRS_LEAST: Final = 2
"""Or in so many, where there are few."""

WRITERS: Final = ("writer", "seq", "updatedAt", "heavy")
"""What is of the writer, and not of the records."""

MOMENTS: Final = ("generated_at", "source")
"""What says of which records and moment a report is: by which live ones are paired."""

AGES: Final = ("data_age_ms", "last_change_age_ms", "venues.by_venue.*.age_ms")
WINDOWS: Final = (
    "flow",
    "coverage",
    "gaps",
    "health",
    "ingestion.status",
    "venues",
    "liquidity",
    "anomalies",
    "custom",
)
"""What the moment has a part in beside the records."""

SCALES: Final = {"flow.net_flow": ("flow.buy_volume", "flow.sell_volume")}
"""A difference of two sums may be near zero: what it is measured by."""

PRICES: Final = re.compile(r"(?:liquidity|venues)\.(?:.*\.)?(?:POC|VAH|VAL|price|from|to|bid|ask)")
"""Levels, which what leaves a window moves by a bin or not at all: a share of a price is too much."""

PER_MS: Final = {"health.freshness": 0.001, "health.score": 0.04}
"""By so much a field may fall in each millisecond."""


class Kind(Enum):
    """What becomes of a field when the moment is another."""

    FIXED = "fixed"
    AGE = "age"
    WINDOW = "window"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two numbers may lie apart.

    Attributes:
        by: The distance, or the share of the larger one.
        relative: Which of the two.
    """

    pattern: str
    by: float
    relative: bool

    def holds(self, a: float, b: float) -> bool:
        """Whether they may."""
        return abs(a - b) <= (self.by * max(abs(a), abs(b)) if self.relative else self.by)

    def __str__(self) -> str:
        return f"{self.by * 100:g}%" if self.relative else f"{self.by:g}"


def parse_tolerance(text: str) -> Tolerance:
    """``FIELD=ABS`` or ``FIELD=REL%``.

    Raises:
        ConfigError: Neither.
    """
    pattern, equals, amount = text.partition("=")
    relative = amount.endswith("%")
    try:
        by = float(amount.removesuffix("%")) / (100 if relative else 1)
    except ValueError:
        by = -1.0
    if not (pattern and equals and 0 <= by < float("inf")):
        wanted = "FIELD=ABS or FIELD=REL%, such as mid_price=0.01 or flow=2%"
        raise ConfigError("--tolerance", text, wanted)
    return Tolerance(pattern, by, relative)


def matcher(patterns: Iterable[str]) -> re.Pattern[str]:
    """Matches the whole path of what any of these patterns means."""
    each = (re.escape(pattern).replace(r"\*", ".*") for pattern in patterns)
    return re.compile("|".join(rf"(?:{pattern})(?:\..*)?" for pattern in each) or r"(?!)")


class Rules:
    """Which fields are compared, and how strictly.

    Args:
        tolerances: Given by the user; a later one wins.
        ignored: Patterns of fields that are not compared.
        same_moment: Reports are of one moment each, as of replays: all that says so is compared,
            too.
    """

    def __init__(
        self,
        tolerances: Sequence[Tolerance] = (),
        ignored: Sequence[str] = (),
        *,
        same_moment: bool = False,
    ) -> None:
        left_out = (*WRITERS, *ignored) if same_moment else (*WRITERS, *MOMENTS, *ignored)
        self._left_out, self._ages, self._windows = map(matcher, (left_out, AGES, WINDOWS))
        self._tolerances = [(matcher((each.pattern,)), each) for each in reversed(tolerances)]
        self._kinds: dict[str, tuple[Kind, Tolerance | None]] = {}

    def of(self, path: str) -> tuple[Kind, Tolerance | None]:
        """Of a field."""
        found = self._kinds.get(path)
        if found is None:
            found = self._kinds[path] = self._kind(path), self._tolerance(path)
        return found

    def _kind(self, path: str) -> Kind:
        if self._left_out.fullmatch(path):
            return Kind.LEFT_OUT
        if self._ages.fullmatch(path):
            return Kind.AGE
        return Kind.WINDOW if self._windows.fullmatch(path) else Kind.FIXED

    def _tolerance(self, path: str) -> Tolerance | None:
        return next((each for pattern, each in self._tolerances if pattern.fullmatch(path)), None)


class Leaf(NamedTuple):
    """A field that is not equal in both.

    Attributes:
        path: With ``*`` for places in lists.
        exactly: With the places themselves.
    """

    path: str
    exactly: str
    a: Any
    b: Any


def unequal(path: str, a: Any, b: Any, exactly: str = "") -> Iterator[Leaf]:
    """The fields at and below ``path`` that are not equal."""
    exactly = exactly or path
    if isinstance(a, dict) and isinstance(b, dict):
        for name in {**a, **b}:
            one, other = a.get(name, MISSING), b.get(name, MISSING)
            if one != other:
                yield from unequal(f"{path}.{name}", one, other, f"{exactly}.{name}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for at, (one, other) in enumerate(zip(a, b, strict=True)):
            if one != other:
                yield from unequal(f"{path}.*", one, other, f"{exactly}.{at}")
    else:
        yield Leaf(path, exactly, a, b)


def number(value: Any) -> bool:
    """Whether it is one: true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def window_holds(leaf: Leaf, a: Any, b: Any, skew_ms: int) -> bool:
    """Whether a window's figure may differ so in any pair of reports ``skew_ms`` apart.

    Args:
        leaf: The figure.
        a: The report it is of.
        b: The other one.
        skew_ms: At most `SKEW_MAX_MS`.
    """
    if not (number(leaf.a) and number(leaf.b)) or PRICES.fullmatch(leaf.path):
        return False
    parts = SCALES.get(leaf.path)
    if parts is None:
        scale = max(abs(leaf.a), abs(leaf.b))
    else:
        scale = max(sum(abs(_at(body, part)) for part in parts) for body in (a, b))
    allowed: float = max(WINDOW_SHARE * scale, PER_MS.get(leaf.path, 0) * skew_ms)
    return bool(abs(leaf.a - leaf.b) <= allowed)


def _at(body: Any, path: str) -> float:
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body if number(body) else 0
