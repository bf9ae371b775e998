"""Frames of a recording lost, repeated, exchanged and damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Fault = tuple[str, int, int]
"""(``delete``, ``duplicate``, ``swap`` or ``corrupt``; which frame; how far, or how)."""


def faulty(
    frames: Iterable[str],
    faults: Sequence[Fault],
    damage: Callable[[str, int], str],
    swap_within: int,
) -> list[tuple[int, str]]:
    """(number on the recording, frame) in the order in which they come now.

    Args:
        frames: As they came.
        faults: What happens to them, one after the other.
        damage: Makes another frame of one, by a number.
        swap_within: A frame is exchanged with one of so many behind it.
    """
    tape = list(enumerate(frames))
    for what, number, detail in faults:
        at = next((k for k, (n, _) in enumerate(tape) if n == number), None)
        if at is None:
            continue
        if what == "delete":
            del tape[at]
        elif what == "duplicate":
            tape.insert(min(at + 1 + detail % 400, len(tape)), tape[at])
        elif what == "swap":
            other = min(at + 1 + detail % swap_within, len(tape) - 1)
            tape[at], tape[other] = tape[other], tape[at]
        else:
            tape[at] = (number, damage(tape[at][1], detail))
    return tape
