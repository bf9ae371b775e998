"""Integers with a decimal exponent: exact inside, floats only where a report is written."""

from __future__ import annotations

from collections.abc import Iterable

from streams.events import EXPONENT_MAX, EXPONENT_MIN

_POWERS = [10**n for n in range(EXPONENT_MAX - EXPONENT_MIN + 2)]


def to_float(value: int, exponent: int) -> float:
    """``value * 10 ** exponent``, correctly rounded.

    Dividing two integers rounds once; multiplying by a negative power of ten would round
    twice and print 61837.630000000005.
    """
    return value / _POWERS[-exponent] if exponent < 0 else float(value * _POWERS[exponent])


def levels_to_float(
    levels: Iterable[tuple[int, int]], px_e: int, sz_e: int
) -> list[tuple[float, float]]:
    """`to_float` of each price and size, without a call for each."""
    if px_e <= 0 and sz_e <= 0:
        px_parts, sz_parts = _POWERS[-px_e], _POWERS[-sz_e]
        return [(px / px_parts, sz / sz_parts) for px, sz in levels]
    return [(to_float(px, px_e), to_float(sz, sz_e)) for px, sz in levels]


def rescale(value: int, exponent: int, finer: int) -> int:
    """The same quantity in units of ``10 ** finer``; ``finer <= exponent``."""
    power: int = _POWERS[exponent - finer]
    return value * power
