"""The connection's numbers: what is next, lost, repeated."""

from __future__ import annotations

import pytest

from streams.venues.coinbase.sequence import RESTART_FRAMES, Sequence, Step

N, L, H, R = Step.NEXT, Step.LATE_START, Step.HOLE, Step.REPEAT


@pytest.mark.parametrize(
    ("numbers", "steps"),
    [
        ([0, 1, 2], [N, N, N]),
        ([0, 2, 3], [N, H, N]),
        ([0, 1, 1, 0, 2], [N, N, R, R, N]),
        ([0, 2, 1, 3], [N, H, R, N]),
        ([7, 8, 10], [L, N, H]),
        ([7, 0, 8], [L, R, N]),
    ],
)
def test_a_number_is_next_lost_or_repeated(numbers: list[int], steps: list[Step]) -> None:
    sequence = Sequence()
    assert [sequence.step(number) for number in numbers] == steps


def test_a_number_that_was_wrong_does_not_silence_the_connection() -> None:
    """The frames after it look like repeats; a run of them says that they are none."""
    sequence = Sequence()
    for number in (*range(10), 5_000):
        sequence.step(number)
    run = [sequence.step(10 + n) for n in range(RESTART_FRAMES + 1)]
    assert run == [R] * (RESTART_FRAMES - 1) + [H, N]
    assert sequence.newest == 10 + RESTART_FRAMES


def test_repeats_here_and_there_are_no_run() -> None:
    sequence = Sequence()
    for number in range(100):
        assert sequence.step(number) is N
        if number > 10:
            assert sequence.step(number - 10) is R


def test_the_same_frame_over_and_over_is_no_run() -> None:
    sequence = Sequence()
    for number in range(10):
        sequence.step(number)
    assert {sequence.step(4) for _ in range(2 * RESTART_FRAMES)} == {R}
    assert sequence.step(10) is N
