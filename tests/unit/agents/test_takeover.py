"""When a standby takes a lease, and what keeps it from doing so."""

from __future__ import annotations

import pytest

from agents.coordination.takeover import (
    AHEAD_MAX,
    EVICT_AGAIN_MS,
    EVICT_TURN_MS,
    FREE_MS,
    STALL_MS,
    Reason,
    Takeover,
    Taking,
    stall_ms,
)
from lua import Sight

START_MS = 10_000
MIN_HOLD_MS = 3000
LEASE = "other|1|7"


def sight(watermark: int, lease: str = LEASE) -> Sight:
    return Sight(lease, 1500 if lease else 0, 7, watermark)


class Seat:
    """One node's watch over X, with a copy that is at 100."""

    def __init__(self, watermark: int = 100) -> None:
        self.takeover = Takeover("me", MIN_HOLD_MS)
        self.takeover.watch(["X"])
        self.takeover.note("X", watermark, START_MS)

    def reason(
        self,
        seen: Sight,
        now_ms: int,
        *,
        assigned: bool = False,
        suspects: str = "",
        draining: str = "",
    ) -> Reason | None:
        """Look, and decide."""
        self.takeover.saw("X", seen, now_ms)
        takings = self.takeover.due(
            {"X": seen},
            frozenset({"X"} if assigned else ()),
            frozenset(suspects.split()),
            frozenset(draining.split()),
            now_ms,
        )
        if not takings:
            return None
        assert [(one.symbol, one.expected) for one in takings] == [("X", seen.lease_value)]
        return takings[0].reason


@pytest.fixture
def seat() -> Seat:
    """One that has seen the other's lease at the start."""
    seat = Seat()
    assert seat.reason(sight(100), START_MS) is None
    return seat


# --- absent --------------------------------------------------------------------------------------


def test_the_lease_of_a_node_that_has_vanished_is_taken_at_once(seat: Seat) -> None:
    """However long it has been seen, and also behind its watermark: ours will be there soon."""
    assert seat.reason(sight(100), START_MS, suspects="other third") == "absent"
    assert seat.reason(sight(999), START_MS, suspects="other") == "absent"
    assert seat.reason(sight(100), START_MS, suspects="third") is None


# --- draining ------------------------------------------------------------------------------------


def test_the_lease_of_a_node_that_drains_is_taken_when_we_are_as_far(seat: Seat) -> None:
    """Sooner would be a step back for its readers; there is no need, for it still writes."""
    assert seat.reason(sight(101), START_MS, draining="other|1") is None
    assert seat.reason(sight(100), START_MS, draining="other|1") == "draining"
    assert seat.reason(sight(100), START_MS, draining="other|9") is None


def test_a_quiet_symbol_is_handed_over_though_nothing_moves(seat: Seat) -> None:
    """Its writer may leave, and its owner gets it, without another record."""
    late_ms = START_MS + 60_000
    assert seat.reason(sight(100), late_ms) is None
    assert seat.reason(sight(100), late_ms, draining="other|1") == "draining"
    assert seat.reason(sight(100), late_ms, assigned=True) == "assigned"


# --- stalled -------------------------------------------------------------------------------------


def test_a_writer_that_publishes_nothing_of_what_we_have_is_stuck(seat: Seat) -> None:
    """Whatever the cause; counted from the first record that it has not published."""
    came_ms = START_MS + 5000
    seat.takeover.note("X", 101, came_ms)
    seat.takeover.note("X", 150, came_ms + 900)
    assert seat.reason(sight(100), came_ms + STALL_MS - 1) is None
    assert seat.reason(sight(100), came_ms + STALL_MS) == "stalled"


def test_a_writer_that_comes_on_behind_us_is_not_stuck(seat: Seat) -> None:
    """It may be slower than we are, as long as what it publishes is less than a second old."""
    for step in range(1, 20):
        now_ms = START_MS + step * 400
        seat.takeover.note("X", 100 + step, now_ms)
        assert seat.reason(sight(100 + step - 2), now_ms) is None
    # Two records of ours are unpublished now, the older since 400 ms.
    assert seat.reason(sight(117), now_ms + STALL_MS - 401) is None
    assert seat.reason(sight(117), now_ms + STALL_MS - 400) == "stalled"


def test_a_writer_that_is_ahead_of_us_is_not_stuck(seat: Seat) -> None:
    for step in range(1, 10):
        now_ms = START_MS + step * 1000
        seat.takeover.note("X", 100 + step, now_ms)
        assert seat.reason(sight(500), now_ms) is None


def test_a_new_writer_gets_as_long_as_the_one_before_it(seat: Seat) -> None:
    """Else two who watch a stuck one take its lease from each other before either has written."""
    seat.takeover.note("X", 101, START_MS + 1000)
    taken_ms = START_MS + 2100
    assert seat.reason(sight(100, "third|1|8"), taken_ms) is None
    assert seat.reason(sight(100, "third|1|8"), taken_ms + STALL_MS - 1) is None
    assert seat.reason(sight(100, "third|1|8"), taken_ms + STALL_MS) == "stalled"


def test_what_is_remembered_of_a_stall_is_bounded(seat: Seat) -> None:
    """Redis may be away for hours while records come; the oldest of them is still the first."""
    for step in range(1, 10 * AHEAD_MAX):
        seat.takeover.note("X", 100 + step, START_MS + step)
    assert len(seat.takeover._watched["X"].ahead) == AHEAD_MAX
    assert seat.reason(sight(100), START_MS + 1 + STALL_MS) == "stalled"
    newest = 100 + 10 * AHEAD_MAX - 1
    assert seat.reason(sight(newest), START_MS + 60_000) is None
    assert not seat.takeover._watched["X"].ahead


# --- free ----------------------------------------------------------------------------------------


def test_a_free_lease_is_its_owner_s_at_once_and_its_standby_s_after_a_while(seat: Seat) -> None:
    assert seat.reason(sight(100, ""), START_MS + 50, assigned=True) == "free"
    assert seat.reason(sight(100, ""), START_MS + 50) is None
    assert seat.reason(sight(100, ""), START_MS + 50 + FREE_MS - 1) is None
    assert seat.reason(sight(100, ""), START_MS + 50 + FREE_MS) == "free"


def test_a_lease_that_was_held_in_between_has_not_been_free_for_long(seat: Seat) -> None:
    assert seat.reason(sight(100, ""), START_MS) is None
    assert seat.reason(sight(100), START_MS + 200) is None
    assert seat.reason(sight(100, ""), START_MS + FREE_MS) is None
    assert seat.reason(sight(100, ""), START_MS + 2 * FREE_MS) == "free"


# --- assigned ------------------------------------------------------------------------------------


def test_the_owner_takes_its_lease_when_the_other_has_had_it_for_the_least_time(
    seat: Seat,
) -> None:
    """The other does its work: a lease that changed hands each moment would be nobody's."""
    assert seat.reason(sight(100), START_MS + MIN_HOLD_MS - 1, assigned=True) is None
    assert seat.reason(sight(100), START_MS + MIN_HOLD_MS) is None
    assert seat.reason(sight(100), START_MS + MIN_HOLD_MS, assigned=True) == "assigned"


def test_each_new_lease_is_held_for_the_least_time(seat: Seat) -> None:
    changed_ms = START_MS + MIN_HOLD_MS
    assert seat.reason(sight(100, "other|1|8"), changed_ms, assigned=True) is None
    late_ms = changed_ms + MIN_HOLD_MS
    assert seat.reason(sight(100, "other|1|8"), late_ms - 1, assigned=True) is None
    assert seat.reason(sight(100, "other|1|8"), late_ms, assigned=True) == "assigned"


def test_the_owner_takes_nothing_that_it_can_t_go_on_from(seat: Seat) -> None:
    """Behind what is published, its reports would be refused, and nobody would write."""
    late_ms = START_MS + MIN_HOLD_MS
    assert seat.reason(sight(101), late_ms, assigned=True) is None
    seat.takeover.note("X", 101, late_ms)
    assert seat.reason(sight(101), late_ms, assigned=True) == "assigned"


# --- nothing at all ------------------------------------------------------------------------------


def test_our_own_lease_is_not_taken(seat: Seat) -> None:
    """Whatever is said of us."""
    mine = sight(0, "me|1|7")
    late_ms = START_MS + 60_000
    seat.takeover.note("X", 500, START_MS)
    said = {"assigned": True, "suspects": "me", "draining": "me|1"}
    assert seat.reason(mine, late_ms, **said) is None  # type: ignore[arg-type]


def test_without_a_copy_nothing_is_taken() -> None:
    """There is nothing to go on from; it is read first."""
    seat = Seat()
    seat.takeover.watch([])
    seat.takeover.watch(["X"])
    late_ms = START_MS + 60_000
    for seen in (sight(0), sight(0, "")):
        said = {"assigned": True, "suspects": "other", "draining": "other|1"}
        assert seat.reason(seen, START_MS, **said) is None  # type: ignore[arg-type]
        assert seat.reason(seen, late_ms, **said) is None  # type: ignore[arg-type]


def test_what_was_not_looked_at_is_not_taken(seat: Seat) -> None:
    """A look may be answered for some symbols only."""
    late_ms = START_MS + 60_000
    everything = frozenset({"X", "other"})
    assert seat.takeover.due({}, everything, everything, everything, late_ms) == []


def test_what_is_not_watched_is_nothing_to_us() -> None:
    seat = Seat()
    seat.takeover.note("Y", 5, START_MS)
    seat.takeover.saw("Y", sight(1), START_MS)
    sights = {"X": sight(100), "Y": sight(1)}
    takings = seat.takeover.due(
        sights, frozenset(), frozenset({"other"}), frozenset(), START_MS + 60_000
    )
    assert takings == [Taking("X", LEASE, "absent")]


def test_watching_on_keeps_what_is_known(seat: Seat) -> None:
    """The set of symbols is named anew at each look."""
    seat.takeover.note("X", 101, START_MS)
    seat.takeover.watch(["X", "Y"])
    assert seat.reason(sight(100), START_MS + STALL_MS) == "stalled"


def test_a_copy_never_steps_back(seat: Seat) -> None:
    """News may come late: what was there once is not waited for again."""
    seat.takeover.note("X", 90, START_MS + 10)
    assert seat.reason(sight(100), START_MS, draining="other|1") == "draining"
    assert seat.reason(sight(0), START_MS + STALL_MS - 1) is None


# --- eviction ------------------------------------------------------------------------------------


def test_those_that_are_left_take_turns_in_the_order_of_their_names() -> None:
    """One does it; if it does not, the next."""
    takeover = Takeover("m", MIN_HOLD_MS)
    present = ["z", "a", "b"]
    for turns, left in ((2, present), (1, ["z", "b"]), (0, ["z"]), (0, [])):
        due_ms = START_MS + turns * EVICT_TURN_MS
        assert takeover.may_evict("dead", START_MS, left, due_ms)
        if turns:
            assert not takeover.may_evict("dead", START_MS, left, due_ms - 1)


def test_what_was_tried_is_not_tried_again_at_once() -> None:
    """A second sign may take its time; and it may come to nothing."""
    takeover = Takeover("m", MIN_HOLD_MS)
    takeover.evicted("dead", START_MS)
    assert not takeover.may_evict("dead", START_MS, [], START_MS + EVICT_AGAIN_MS - 1)
    assert takeover.may_evict("dead", START_MS, [], START_MS + EVICT_AGAIN_MS)
    assert takeover.may_evict("other", START_MS, [], START_MS)


def test_a_slower_writer_is_given_more_time() -> None:
    """At a report a second, a second without one is nothing."""
    assert stall_ms(100) == stall_ms(250) == STALL_MS
    assert stall_ms(1000) == STALL_MS + 750
