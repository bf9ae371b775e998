"""What a market draws its random choices from: fitted figures in one symbol's own units."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import NamedTuple

from streams.simulator import fitted
from streams.simulator.listing import SymbolSpec


class Tables(NamedTuple):
    """Equally likely integers for each thing drawn, in ticks and lots.

    Attributes:
        dust: Sizes up to this are dust.
        large: Sizes from this on are shown by makers that do not flicker.
    """

    level: list[int]
    touch: list[int]
    taker: list[int]
    far_large: list[int]
    near_large: list[int]
    distance: list[int]
    dust: int
    large: int


def tables_for(spec: SymbolSpec) -> Tables:
    """The tables of a symbol; symbols of one grain share them."""
    return _tables(spec.lots_per_unit, spec.reach)


@lru_cache(maxsize=512)
def _tables(lots_per_unit: float, reach: float) -> Tables:
    return Tables(
        level=fitted.lookup(fitted.LEVEL_SIZE, lots_per_unit),
        touch=fitted.lookup(fitted.TOUCH_SIZE, lots_per_unit),
        taker=fitted.lookup(fitted.TAKER_SIZE, lots_per_unit),
        far_large=fitted.lookup(fitted.FAR_LARGE_SIZE, lots_per_unit),
        near_large=fitted.lookup(fitted.NEAR_LARGE_SIZE, lots_per_unit),
        distance=fitted.lookup(fitted.DISTANCE, reach),
        dust=round(fitted.DUST * lots_per_unit),
        large=round(fitted.LARGE * lots_per_unit),
    )


def pick(rng: random.Random, table: list[int]) -> int:
    """One entry."""
    return table[int(rng.random() * len(table))]


def exponential(rng: random.Random, mean: float) -> float:
    """A waiting time."""
    return -math.log(1.0 - rng.random()) * mean


def mean_life_ms(ticks: float) -> float:
    """Mean life of an order at a distance in ticks of the fitted symbol, at its pace."""
    far = ticks / fitted.LIFE_NEAR_TICKS
    if far <= 1:
        return fitted.LIFE_NEAR_MS
    return min(fitted.LIFE_MAX_MS, fitted.LIFE_NEAR_MS * math.pow(far, fitted.LIFE_EXPONENT))


class Waves:
    """Two waves, a fast and a slow one, that the rate of arrivals rides on.

    Attributes:
        activity: Rate relative to its mean, above 0.
    """

    __slots__ = ("_levels", "activity")

    def __init__(self) -> None:
        self._levels = [0.0, 0.0]
        self.activity = 1.0

    def ride(self, rng: random.Random) -> None:
        """One step of `fitted.ACTIVITY_STEP_MS`."""
        for wave, (spread, kept) in enumerate((fitted.ACTIVITY_FAST, fitted.ACTIVITY_SLOW)):
            shock = rng.gauss(0, spread * math.sqrt(1 - kept**2))
            self._levels[wave] = kept * self._levels[wave] + shock
        mean = (fitted.ACTIVITY_FAST[0] ** 2 + fitted.ACTIVITY_SLOW[0] ** 2) / 2
        self.activity = min(12.0, math.exp(sum(self._levels) - mean))
