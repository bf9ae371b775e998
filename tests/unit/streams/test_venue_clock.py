"""How far a venue's clock is ahead, by its events' times and the pings' round trips."""

from __future__ import annotations

import random

import pytest

from streams.venue_clock import WINDOW_MS, VenueClock

T0 = 1_723_100_000_000


@pytest.mark.parametrize("ahead_ms", [-40_000, -250, 0, 3, 1_500])
def test_it_is_off_by_less_than_half_the_shortest_way(ahead_ms: int) -> None:
    """Events take 20 ms and more on their way, pings 40 ms and more for both."""
    rng = random.Random(1)
    clock = VenueClock()
    for n in range(2_000):
        now_ms = T0 + n * 20
        clock.saw(now_ms - round(20 + rng.expovariate(1 / 30)) + ahead_ms, now_ms)
        if n % 100 == 0:
            clock.answered(40 + rng.expovariate(1 / 30), now_ms)
    assert clock.offset_ms == pytest.approx(ahead_ms, abs=10)
    assert clock.round_trip_ms == pytest.approx(40, abs=10)


def test_nothing_is_known_before_an_event_with_a_time_of_its_own() -> None:
    clock = VenueClock()
    clock.saw(T0, T0)
    assert (clock.offset_ms, clock.round_trip_ms) == (None, None)
    clock.saw(T0 - 5, T0)
    assert clock.offset_ms == -5


def test_what_is_long_past_is_forgotten_and_so_is_a_clock_that_was_set() -> None:
    clock = VenueClock()
    clock.saw(T0 + 900, T0)
    clock.saw(T0 + WINDOW_MS + 100, T0 + WINDOW_MS)
    assert clock.offset_ms == 900, "the window before counts"
    clock.saw(T0 + 2 * WINDOW_MS + 50, T0 + 2 * WINDOW_MS)
    assert clock.offset_ms == 100
    clock.saw(T0 + 9 * WINDOW_MS + 7, T0 + 9 * WINDOW_MS)
    assert clock.offset_ms == 7
    clock.saw(T0 + 60, T0)
    assert clock.offset_ms == 60
