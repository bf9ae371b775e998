"""Decimal text to integers with an exponent: exact, never rounded, and quick.

A market repeats itself: three of four prices and sizes of a busy book have been seen among the
last few thousand. So a scale is a dict from text to integer that fills itself; the parsing
below runs for the fourth only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import gcd
from typing import Final

from tapeline.errors import FrameError

CACHE_ENTRIES: Final = 8_192
DECIMALS_MAX: Final = 8
"""Unless a venue prints more. One stray value with 18 decimals would otherwise leave no room, in
62 bits, for the prices around it."""

USUAL_DECIMALS: Final = 8
"""What most venues print most of the time; read without counting."""

TEXT_MAX: Final = 40
"""No number of the venue is nearly as long; int() of thousands of digits would raise."""

VALUE_MAX: Final = 2**62
"""Largest price or size of a record."""


class TooFine(Exception):
    """A value has more digits than the scale's exponent holds.

    Attributes:
        scale: Which scale.
        exponent: One that holds the value.
    """

    def __init__(self, scale: Scale, exponent: int) -> None:
        super().__init__(exponent)
        self.scale, self.exponent = scale, exponent


class Scale(dict[str, int]):
    """Decimal text to integers in units of ``10 ** exponent``: ``scale["1.50"]``.

    Attributes:
        exponent: At most 0.
        what: What the values are, for error messages.
        least: Smallest value allowed: 1 for prices, 0 for sizes.
        decimals_max: Most decimals that a value may have, zeros at its end not counted.

    Raises:
        FrameError: On reading a text that is no plain decimal number, is out of range, or,
            where ``least`` is 1, is zero; the text is named.
        TooFine: On reading one that does not fit the exponent.
    """

    __slots__ = ("_cut", "_point", "_zeros", "decimals_max", "exponent", "least", "what")

    def __init__(
        self, what: str, least: int, exponent: int = 0, *, decimals_max: int = DECIMALS_MAX
    ) -> None:
        super().__init__()
        self.what, self.least, self.exponent = what, least, exponent
        self.decimals_max = decimals_max
        self._zeros = "0" * (USUAL_DECIMALS + exponent)
        self._cut = -len(self._zeros) or None
        # An exponent finer than the usual decimals would need zeros put on: not the quick way.
        self._point = slice(-9, -8) if -exponent <= USUAL_DECIMALS else slice(0)

    def finer(self, exponent: int) -> Scale:
        """The same scale at a finer exponent, or this one if it is as fine already."""
        if exponent >= self.exponent:
            return self
        return Scale(self.what, self.least, exponent, decimals_max=self.decimals_max)

    def __missing__(self, text: str) -> int:
        # The wire's usual eight decimals, those beyond the exponent zero.
        if text[self._point] == "." and 9 < len(text) <= TEXT_MAX and text.endswith(self._zeros):
            digits = text[:-9] + text[-8 : self._cut]
        else:
            digits = self._digits(text)
        # int() alone would take "1_0", " 1" and other scripts' digits.
        if not digits.isdecimal() or not digits.isascii():
            raise FrameError(f"{self.what} {text[:TEXT_MAX]!r} is not a plain decimal number")
        value = int(digits)
        if not self.least <= value <= VALUE_MAX:
            raise FrameError(f"{self.what} {text!r} is out of range")
        if len(self) >= CACHE_ENTRIES:
            self.clear()
        self[text] = value
        return value

    def many(self, texts: Sequence[str]) -> list[int]:
        """``[self[text] for text in texts]`` of a whole book: quicker, and the cache is kept.

        Raises:
            As reading each of them.
        """
        digits = -self.exponent
        joined = f",{','.join(texts)},"
        # int() alone would take "1_0", " 1" and other scripts' digits; a comma it refuses.
        plain = joined.isascii() and not joined.encode().translate(None, b"0123456789.,")
        if plain and not any(wrong in joined for wrong in (",,", ",.", ".,")):
            parts = [text.partition(".") for text in texts]
            if max(len(fraction) for _, _, fraction in parts) <= digits:
                with suppress(ValueError):
                    values = [
                        int(whole + fraction.ljust(digits, "0")) for whole, _, fraction in parts
                    ]
                    if self.least <= min(values) and max(values) <= VALUE_MAX:
                        return values
        return [self[text] for text in texts]

    def _digits(self, text: str) -> str:
        """The digits of a text of any other form; of no number at all, something that is none."""
        whole, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0")
        if not whole or text.endswith(".") or len(text) > TEXT_MAX or not text.isascii():
            return ""
        if len(fraction) > -self.exponent and (whole + fraction).isdecimal():
            if len(fraction) > self.decimals_max:
                raise FrameError(f"{self.what} {text!r} has over {self.decimals_max} decimals")
            raise TooFine(self, -len(fraction))
        return whole + fraction.ljust(-self.exponent, "0")


def together(scale: Scale, texts: Iterable[str]) -> tuple[list[int], int]:
    """All these texts at one exponent: the scale's, or a finer one where a value needs it.

    Raises:
        FrameError: As `Scale`.
    """
    texts = list(texts)
    while True:
        try:
            return [scale[text] for text in texts], scale.exponent
        except TooFine as finer:
            scale = scale.finer(finer.exponent)


def common_step(
    texts: Iterable[str], what: str, *, decimals_max: int = DECIMALS_MAX
) -> tuple[int, int]:
    """The largest step that all these numbers are multiples of, as (integer, exponent).

    Zeros say nothing; without any other number the step is one unit of the usual 8 decimals.

    Raises:
        FrameError: As `Scale`.
    """
    values, exponent = together(Scale(what, 0, decimals_max=decimals_max), texts)
    step = gcd(*values)
    return (step, exponent) if step else (1, -USUAL_DECIMALS)
