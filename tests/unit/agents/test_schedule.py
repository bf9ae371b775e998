"""The grid of cycles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.schedule import Grid, phase_ms

SYMBOLS = [f"S{n}" for n in range(20)]


@given(waits=st.lists(st.integers(1, 900), max_size=60), start=st.integers(0, 10**6))
def test_every_slot_is_served_or_counted_as_skipped(waits: list[int], start: int) -> None:
    """Each symbol's slots lie on its own phase; none is served twice."""
    grid = Grid(250)
    grid.set_symbols(SYMBOLS, start)
    now, served = start, dict.fromkeys(SYMBOLS, 0)
    for wait in waits:
        now += wait
        taken = grid.take_due(now)
        assert len(set(taken)) == len(taken)
        for symbol in taken:
            served[symbol] += 1
    slots = sum(
        (now - phase_ms(s, 250)) // 250 - (start - phase_ms(s, 250)) // 250 for s in SYMBOLS
    )
    assert sum(served.values()) + grid.skipped == slots
    assert grid.take_due(now) == []


def test_symbols_are_spread_over_the_period() -> None:
    """So the work is, too."""
    phases = {phase_ms(f"SYM{n}", 250) for n in range(200)}
    assert len(phases) > 100
    assert max(phases) < 250


def test_symbols_come_and_go_without_moving_the_others() -> None:
    """A rebalance does not restart anybody's grid."""
    grid = Grid(250)
    grid.set_symbols(SYMBOLS, 1_000)
    due = grid.next_due_ms()
    grid.set_symbols([*SYMBOLS, "NEW"], 1_000)
    assert grid.next_due_ms() is not None
    assert grid.next_due_ms() <= (due or 0)
    grid.set_symbols([], 1_000)
    assert grid.next_due_ms() is None
    assert grid.take_due(10**9) == []


def test_a_clock_set_back_does_not_silence_the_grid() -> None:
    """Due times in the far future are laid anew."""
    grid = Grid(250)
    grid.set_symbols(SYMBOLS, 10**9)
    grid.take_due(5_000)
    assert len(set(grid.take_due(5_250))) == len(SYMBOLS)
