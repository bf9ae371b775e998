"""The numbers of one connection's frames: from 0, one more with each. Pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

RESTART_FRAMES: Final = 5
"""So many frames in a row below the newest number, each following the one before it: the numbers
run there, and the high one was wrong."""


class Step(Enum):
    """What a number says of its frame."""

    NEXT = auto()
    """It follows the one before."""
    LATE_START = auto()
    """The first of its connection, and not 0: the recording, or we, began in the middle."""
    HOLE = auto()
    """Frames are missing before it."""
    REPEAT = auto()
    """It, or one after it, was seen before."""


class Sequence:
    """One connection's numbers.

    Attributes:
        newest: The newest number that was not a repeat; -1 before any.
    """

    __slots__ = ("_begun", "_below", "_below_count", "newest")

    def __init__(self) -> None:
        self.newest = -1
        self._begun = False
        self._below = -1
        self._below_count = 0

    def step(self, number: int) -> Step:
        """Take the number of the frame that has just come."""
        newest = self.newest
        if number == newest + 1:
            self._begun = True
            return self._take(number, Step.NEXT)
        if not self._begun:
            self._begun = True
            return self._take(number, Step.LATE_START)
        if number > newest:
            return self._take(number, Step.HOLE)
        self._below_count = self._below_count + 1 if number == self._below + 1 else 1
        self._below = number
        if self._below_count < RESTART_FRAMES:
            return Step.REPEAT
        return self._take(number, Step.HOLE)

    def _take(self, number: int, step: Step) -> Step:
        self.newest = number
        self._below, self._below_count = -1, 0
        return step
