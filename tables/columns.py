"""Columns of integers as bytes: what keeps a snapshot small and quick to write."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

_TEXT = 8
_TYPES = (np.dtype("<i1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<i8"))


def pack(values: Iterable[int] | NDArray[np.int64], *, delta: bool = False) -> bytes:
    """Integers in the narrowest of four widths that holds them all.

    Args:
        values: Any integers; those beyond int64 cost more.
        delta: Store differences: narrow for anything sorted.

    Returns:
        One byte that names the width and whether these are differences, then the column.
    """
    if isinstance(values, np.ndarray):
        column = values
    else:
        listed = values if isinstance(values, list) else list(values)
        try:
            column = np.array(listed, dtype="<i8")
        except OverflowError:
            # Very fine exponents only: exact matters more than small.
            return bytes([_TEXT]) + ",".join(map(str, listed)).encode()
    if delta and column.size:
        column = np.diff(column, prepend=np.int64(0))
    width = 0
    if column.size:
        low, high = int(column.min()), int(column.max())
        while low < np.iinfo(_TYPES[width]).min or high > np.iinfo(_TYPES[width]).max:
            width += 1
    return bytes([width | (4 if delta else 0)]) + column.astype(_TYPES[width]).tobytes()


def unpack(packed: bytes) -> list[int]:
    """The integers `pack` was given."""
    if packed[0] == _TEXT:
        return [int(text) for text in packed[1:].split(b",")]
    values: list[int] = np.frombuffer(packed, dtype=_TYPES[packed[0] & 3], offset=1).tolist()
    return list(accumulate(values)) if packed[0] & 4 else values
