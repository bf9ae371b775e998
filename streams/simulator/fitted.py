"""What the order-flow model knows of a real market: figures, not data.

Fitted to one recording of Binance spot BTCUSDT (hftbacktest's example: 650 s from 2024-08-08
23:54:13 UTC, 6,493 diff-depth events at 100 ms, 19,904 trades, mid 61,556 to 61,861; tick
0.01, lot 0.00001). How each figure was got:

* The book was rebuilt from the REST snapshot and the diffs, and each changed level was taken
  with its distance to the best price of its own side before the event, its size before and
  its size after.
* Sizes and distances are quantiles of those columns. Drawing from them by interpolating the
  logarithm keeps the round numbers out and the shape in.
* Lifetimes follow Little's law: mean life = levels standing / levels arriving, in bands of
  distance. Measured lives of single levels would miss those that outlive the recording.
* Shares of event types come from counting: 704 book changes (update ids) a second, of which
  11 taker orders with 30.6 fills, and 112 changes of the best level (bookTicker frames).
* A few figures can't be read off a book without order ids, or had to give a little so that the
  rest fits. They say "tuned": turned until the model's own figures met the recorded ones.

Model against recording at the recorded rate (three seeds of 600 s)::

                                     recorded                     model
    book changes a second            704                          677 to 744
    level changes an event           12, 22, 45, 173              36, 52, 76, 138
      (25, 50, 75, 95 %)
    removals among level changes     0.48                         0.43
    new sizes, 10, 50, 95 %          0.0006, 0.054, 2.0           0.0005, 0.066, 1.9
    best level, 5, 50, 95 %          0.16, 1.9, 5.3               0.55, 2.8, 7.8
    best level's autocorrelation     0.91, 0.64, 0.41, 0.02       0.81, 0.55, 0.40, 0.03
      (0.1, 0.5, 1, 5 s)
    bookTicker frames a second       112                          130 to 142
    best bid moved, share of 100 ms  0.114                        0.107 to 0.114
    trades, volume a second          30.6, 0.67                   19 to 21, 0.72 to 0.83
    gaps between taker orders, ms    4, 23, 108                   4, 13, 51
      (25, 50, 75 %)
    sign autocorrelation of takers   0.41, 0.35, 0.24, 0.16       0.36, 0.36, 0.24, 0.14
      (lag 1, 2, 5, 10)
    return of 1 s, standard dev.     1.24 bps                     0.98 bps

So the model is less bursty than the market and trades in fewer, larger prints. Part of that is
meant, because a quiet market must be a healthy one: large orders more than 4 bps from mid stay
for at least `FAR_LARGE_LIFE_MIN_MS` (the recording has about one a second that is larger than
3 BTC, many of them flickering), the largest taker orders are cut, and
`streams.simulator.restraint` keeps net flow and depth near what is usual.

Units: sizes in BTC, distances in ticks of 0.01, times in milliseconds, rates per second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

Quantiles = Sequence[tuple[float, float]]
"""(probability, value), both ascending; values positive."""

PRICE: Final = 61_700.0
"""Quote per base while the recording ran."""

TICKS_PER_PRICE: Final = PRICE / 0.01
"""How fine the tick was: ticks from zero to the price."""

CHANGES_PER_S: Final = 704.0
"""Book changes (update ids) a second; 458 distinct level changes after 100 ms aggregation."""

TAKERS_PER_S: Final = 8.0
"""Bursts of taker orders a second, tuned. Recorded: 10.97 orders (prints of one time and side)
with 2.8 fills each; here twice eight with fewer fills, for two thirds of the trades."""

TAKER_FOLLOWED: Final = 0.5
TAKER_FOLLOWED_MS: Final = 10.0
"""Chance that another taker order comes after this mean time. Recorded gaps between orders:
4, 23, 108 ms at 25, 50, 75 %, far from Poisson's 26, 63, 126."""

JOINS_PER_S: Final = 18.0
"""Orders that join or improve the best price, both sides; tuned to the best level's changes."""

SHIFTS_PER_S: Final = 1.2
"""Times a second that makers step back and the other side follows; tuned to the best bid's
moves, in 742 of 6,492 intervals of 100 ms."""

DEEP_PER_S: Final = 290.0
"""Orders behind the best price, both sides."""

ARRIVALS_PER_S: Final = TAKERS_PER_S + JOINS_PER_S + SHIFTS_PER_S + DEEP_PER_S

LEVEL_SIZE: Final[Quantiles] = (
    (0.0, 0.00008), (0.05, 0.0002), (0.10, 0.00053), (0.25, 0.0081), (0.50, 0.0499),
    (0.75, 0.18), (0.90, 0.51), (0.95, 0.75), (0.975, 1.3), (1.0, 2.0),
)  # fmt: skip
"""Size of an order behind the best price; the recorded tail above 2.0 is cut."""

DUST: Final = 0.001
"""Up to this an order is dust: some tenth of arrivals, a fifth of what stands."""

DUST_LIFE_FACTOR: Final = 6.0
"""Dust stays this much longer than other orders; tuned to the recorded vacuums and to the 21.5 %
of the best 50 levels that are below the 10th percentile of new sizes."""

TOUCH_SIZE: Final[Quantiles] = (
    (0.0, 0.0003), (0.10, 0.009), (0.25, 0.025), (0.50, 0.080), (0.75, 0.22),
    (0.90, 0.55), (0.97, 1.30), (1.0, 2.6),
)  # fmt: skip
"""Size of an order at the best price, tuned: only their sum is seen, the best level."""

TOUCH_LIFE_MS: Final = 1200.0
"""Their mean life, tuned to how long the best level remembers its size."""

TAKER_SIZE: Final[Quantiles] = (
    (0.0, 0.00009), (0.10, 0.00017), (0.25, 0.00032), (0.50, 0.00316), (0.75, 0.02),
    (0.90, 0.101), (0.95, 0.254), (0.99, 0.90), (1.0, 1.5),
)  # fmt: skip
"""Size of a taker order; recorded 1.04 at 99 % and 4.3 at 99.9 %, cut here."""

NET_10S: Final = 2.0
"""Mean size of what takers buy or sell, net, in 10 s; what `restraint` starts from."""

TAKER_SIDE_KEPT: Final = 0.82
"""Chance that a taker order has the side of the present regime, and ..."""

TAKER_REGIME_ENDS: Final = 0.05
"""... chance per order that the regime turns: sign autocorrelation 0.40 at lag 1, 0.16 at 10."""

DISTANCE: Final[Quantiles] = (
    (0.0, 0.7), (0.03, 2.0), (0.06, 40.0), (0.12, 198.0), (0.29, 1023.0), (0.53, 3293.0),
    (0.77, 8930.0), (0.92, 14400.0), (0.97, 41500.0), (1.0, 450_000.0),
)  # fmt: skip
"""Distance of a new level from the best price of its side."""

STANDING: Final[Sequence[tuple[float, float, float]]] = (
    (1, 2, 0.40), (2, 5, 0.43), (5, 20, 0.42), (20, 50, 0.76), (50, 100, 1.0),
    (100, 200, 2.4), (200, 500, 7.8), (500, 1000, 15.5), (1000, 2000, 38.1),
    (2000, 5000, 125.0), (5000, 10_000, 209.0), (10_000, 20_000, 389.0),
    (20_000, 50_000, 200.0), (50_000, 450_000, 60.0),
)  # fmt: skip
"""(from, to, levels standing) a side by distance: what a book starts with. The last two bands
hold fewer than the recording's, where levels of hours before still stood."""

STANDING_DUST: Final = 0.1
STANDING_DUST_OF: Final = 0.15
"""Share of standing orders that are dust beyond what arrives, and the share of the smallest
arriving sizes that dust is drawn from."""

LIFE_NEAR_MS: Final = 1250.0
LIFE_NEAR_TICKS: Final = 400.0
LIFE_EXPONENT: Final = 0.8
LIFE_MAX_MS: Final = 200_000.0
"""Mean life of an order: 1.25 s up to 400 ticks, then growing with distance ** 0.8."""

LIFE_SHORT: Final = (0.7, 0.30)
LIFE_LONG: Final = (0.3, 79 / 30)
"""(share, factor): a life is exponential around the mean times one of two factors. Median 0.6
to 1.1 s against means of 3 to 4 s: many orders flicker, some stay."""

LARGE: Final = 0.8
FAR: Final = 0.0004
"""Orders of this size and more, this far from mid relative to it, stay for
`FAR_LARGE_LIFE_MIN_MS`: makers that show size do not flicker."""

FAR_LARGE_SHARE: Final = 0.00012
"""Share of deep orders that are large and far."""

FAR_LARGE_SIZE: Final[Quantiles] = ((0.0, 2.0), (0.5, 6.0), (0.9, 30.0), (1.0, 75.0))
FAR_LARGE_LIFE_MIN_MS: Final = 15_000.0

NEAR_LARGE_SHARE: Final = 0.000025
"""Share of deep orders that are large and near: the odd wall that is not the best price. The
recording has a tenth of one a look."""

NEAR_LARGE_SIZE: Final[Quantiles] = ((0.0, 6.0), (0.5, 8.0), (1.0, 18.0))
NEAR_LARGE_TICKS: Final = (100.0, 1200.0)
NEAR_LARGE_LIFE_MS: Final = 25_000.0

SHIFT_TICKS: Final = (278.0, 0.9)
"""Median and log-spread of the distance that the best price moves in a shift."""

REPAIR_MS: Final = 20.0
"""Mean time until somebody closes a spread of more than one tick; tuned to one tick in 99.3 %
of depth events."""

REPEG_MS: Final = 150.0
"""Mean time until a maker left behind moves to the new best price; a guess."""

ACTIVITY_STEP_MS: Final = 100
ACTIVITY_FAST: Final = (0.80, 0.6)
ACTIVITY_SLOW: Final = (0.40, 0.995)
"""(spread of the log, share kept each 100 ms) of the two waves that the rate rides on: the log
of levels an event has spread 1.04 and autocorrelation 0.71, 0.52, 0.25, 0.13 at 0.1, 0.2, 1
and 5 s. Cancels come later and smooth it: the model's events have 0.56 and 0.69, 0.58, 0.37,
0.28."""

LEVELS_LEAST: Final = 25
"""A side never loses its last levels to cancels, whatever an episode does to arrivals."""

SIZE_P95: Final = 1.2
SIZE_P10: Final = 0.0006
"""Percentiles of new level sizes, for a market too young to know its own."""


def quantile(table: Quantiles, probability: float) -> float:
    """The value at a probability, by linear interpolation of its logarithm."""
    before_p, before = table[0]
    for upto_p, upto in table[1:]:
        if probability <= upto_p:
            share = (probability - before_p) / (upto_p - before_p)
            return before * math.exp(share * math.log(upto / before))
        before_p, before = upto_p, upto
    return table[-1][1]


def lookup(table: Quantiles, scale: float, entries: int = 2048) -> list[int]:
    """``entries`` equally likely integers, at least 1: a table to draw from with one random.

    Args:
        table: What to draw from.
        scale: Integer units per unit of the table.
        entries: Length of the result.
    """
    return [
        max(1, round(quantile(table, (entry + 0.5) / entries) * scale)) for entry in range(entries)
    ]
