"""Waits between attempts."""

from __future__ import annotations

import random

from streams.backoff import Backoff, Timing


def test_the_ceiling_doubles_up_to_its_own_ceiling() -> None:
    timing = Timing(backoff=0.5, backoff_max=4.0)
    most = [0.0] * 8
    for seed in range(300):
        backoff = Backoff(timing, random.Random(seed))
        for n in range(8):
            most[n] = max(most[n], backoff.next_s())
    for n, ceiling in enumerate([0.5, 1, 2, 4, 4, 4, 4, 4]):
        assert 0.9 * ceiling < most[n] <= ceiling


def test_jitter_is_full() -> None:
    """Half of the bridges must not come back at the same moment as the other half."""
    waits = [Backoff(Timing(backoff=10.0), random.Random(seed)).next_s() for seed in range(300)]
    assert min(waits) < 1.0
    assert 4.0 < sum(waits) / len(waits) < 6.0


def test_the_venue_s_own_wait_is_the_least() -> None:
    assert Backoff(Timing()).next_s(17.0) == 17.0


def test_only_a_stable_connection_makes_the_next_failure_a_first_one() -> None:
    timing = Timing(backoff=1.0, backoff_max=1_000.0, stable_after=60.0)

    def longest_s(lived_s: float) -> float:
        waits = []
        for seed in range(50):
            backoff = Backoff(timing, random.Random(seed))
            for _ in range(8):
                backoff.next_s()
            backoff.lived(lived_s)
            waits.append(backoff.next_s())
        return max(waits)

    assert longest_s(59.9) > 100.0
    assert longest_s(60.0) <= 1.0
