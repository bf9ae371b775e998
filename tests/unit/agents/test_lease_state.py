"""Which leases may be written under, moment by moment."""

from __future__ import annotations

import pytest

from agents.coordination.lease_state import AGAIN_MS, RETRY_MS, LeaseBook
from lua import AcquireCode, Acquired
from tapeline.clock import ManualClock

TTL_MS = 2000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(10_000)


@pytest.fixture
def book() -> LeaseBook:
    book = LeaseBook("a", "2", TTL_MS)
    book.want({"X": 0})
    return book


def granted(token: int = 7, code: AcquireCode = AcquireCode.GRANTED) -> Acquired:
    return Acquired(code, token, f"a|2|{token}", TTL_MS, 3, 4)


def held_by(value: str, pttl_ms: int = 1500, token: int = 7) -> Acquired:
    return Acquired(AcquireCode.HELD, token, value, pttl_ms, 0, 0)


def test_a_lease_is_believed_until_a_margin_before_its_end(
    book: LeaseBook, clock: ManualClock
) -> None:
    book.answered("X", granted(), sent_ms=10_000)
    clock.advance(1699)
    lease = book.valid("X", clock.monotonic_ms())
    assert lease is not None
    assert (lease.token, lease.last_seq, lease.last_updated_at) == (7, 3, 4)
    clock.advance(1)
    assert book.valid("X", clock.monotonic_ms()) is None


@pytest.mark.parametrize(
    ("ttl_ms", "margin_ms"), [(400, 66), (1200, 200), (1800, 300), (60_000, 300)]
)
def test_the_margin_is_300_ms_and_less_for_a_short_lease(ttl_ms: int, margin_ms: int) -> None:
    assert LeaseBook("a", "2", ttl_ms).margin_ms == margin_ms


def test_time_counts_from_the_sending_of_the_renewal_not_from_its_reply(
    book: LeaseBook, clock: ManualClock
) -> None:
    book.answered("X", granted(), sent_ms=10_000)
    clock.advance(600)
    sent_ms = clock.monotonic_ms()
    clock.advance(400)  # on its way
    book.renewed(book.held()[0], sent_ms)
    assert book.valid("X", 10_600 + 1699) is not None
    assert book.valid("X", 10_600 + 1700) is None


def test_a_lease_past_its_deadline_is_still_renewed_and_may_come_back(book: LeaseBook) -> None:
    """The process slept; Redis says whether anybody came."""
    book.answered("X", granted(), sent_ms=10_000)
    assert book.valid("X", 20_000) is None
    (lease,) = book.held()
    book.renewed(lease, sent_ms=20_000)
    assert book.valid("X", 20_001) is not None


def test_what_was_dropped_is_asked_for_again_with_its_token_as_floor(book: LeaseBook) -> None:
    book.answered("X", granted(token=7), sent_ms=10_000)
    assert book.due(10_500) == []
    assert book.drop("X", "a|2|7", next_try_ms=10_600)
    assert book.valid("X", 10_500) is None
    assert book.due(10_599) == []
    assert book.next_due_ms() == 10_600
    assert book.due(10_600) == [("X", 7, "")]


def test_a_late_refusal_does_not_drop_the_next_lease(book: LeaseBook) -> None:
    book.answered("X", granted(token=7), sent_ms=10_000)
    book.drop("X", "a|2|7", next_try_ms=10_000)
    book.answered("X", granted(token=8), sent_ms=10_010)
    assert not book.drop("X", "a|2|7", next_try_ms=10_020)
    assert not book.drop("Y", "a|2|7", next_try_ms=10_020)
    assert book.valid("X", 10_020) is not None


def test_a_late_renewal_does_not_extend_the_next_lease(book: LeaseBook) -> None:
    book.answered("X", granted(token=7), sent_ms=10_000)
    (old,) = book.held()
    book.drop("X", old.value, next_try_ms=10_000)
    book.renewed(old, sent_ms=10_500)
    assert book.valid("X", 10_500) is None
    book.answered("X", granted(token=8), sent_ms=10_010)
    book.renewed(old, sent_ms=11_000)
    assert book.held()[0].deadline_ms == 10_010 + 1700


def test_another_s_lease_is_asked_for_again_when_it_may_have_ended(book: LeaseBook) -> None:
    book.answered("X", held_by("b|1|7", pttl_ms=1500), sent_ms=10_000)
    assert book.next_due_ms() == 10_500
    book.answered("X", held_by("b|1|7", pttl_ms=120), sent_ms=10_500)
    assert book.next_due_ms() == 10_621
    book.answered("X", held_by("b|1|7", pttl_ms=0), sent_ms=10_621)
    assert book.next_due_ms() == 10_621 + AGAIN_MS
    book.answered("X", held_by("b|1|7", pttl_ms=-1), sent_ms=10_700)
    assert book.next_due_ms() == 11_200
    assert book.due(11_200) == [("X", 7, "")]


def test_the_lease_of_this_node_s_past_is_taken_at_once_but_not_in_a_spin(book: LeaseBook) -> None:
    book.answered("X", held_by("a|1|7"), sent_ms=10_000)
    assert book.due(10_000) == [("X", 7, "a|1|7")]
    book.answered("X", held_by("a|1|7"), sent_ms=10_000)
    assert book.due(10_000) == []
    assert book.due(10_000 + AGAIN_MS) == [("X", 7, "a|1|7")]
    book.answered("X", held_by("b|1|9", token=9), sent_ms=10_100)
    assert book.due(10_600) == [("X", 9, "")]


def test_who_took_a_lease_that_we_had_is_not_robbed_by_its_name(book: LeaseBook) -> None:
    """A run of our own node that came after us lives: we are the ones to go."""
    book.want({"X": 0})
    lease_value = "a|2|7"
    book.answered("X", granted(7), sent_ms=10_000)
    book.drop("X", lease_value, next_try_ms=10_100)
    book.answered("X", held_by("a|3|8", token=8), sent_ms=10_100)
    (again,) = book.due(99_999)
    assert again == ("X", 8, "")


def test_a_wish_without_an_answer_is_repeated_soon(book: LeaseBook) -> None:
    book.unanswered("X", 10_000)
    book.unanswered("gone", 10_000)
    assert book.next_due_ms() == 10_000 + RETRY_MS


def test_floors_only_rise_and_outlive_the_wish(book: LeaseBook) -> None:
    book.want({"X": 50})
    book.want({"X": 20})
    assert book.floor("X") == 50
    book.want({})
    assert book.due(99_999) == []
    assert book.next_due_ms() is None
    book.want({"X": 0})
    assert book.due(0) == [("X", 50, "")]


def test_what_is_no_longer_wanted_is_given_back(book: LeaseBook) -> None:
    book.want({"X": 0, "Y": 0, "Z": 0})
    book.answered("X", granted(7), sent_ms=10_000)
    book.answered("Y", granted(8), sent_ms=10_000)
    (released,) = book.want({"Y": 0})
    assert (released.symbol, released.value) == ("X", "a|2|7")
    assert book.wanted() == ["Y"]
    assert book.valid("X", 10_000) is None


def test_a_grant_nobody_wants_any_more_is_given_back(book: LeaseBook) -> None:
    book.want({})
    unwanted = book.answered("X", granted(7), sent_ms=10_000)
    assert unwanted is not None
    assert unwanted.value == "a|2|7"
    assert book.answered("X", held_by("b|1|7"), sent_ms=10_000) is None
    assert book.floor("X") == 7


# --- of others -----------------------------------------------------------------------------------


def test_what_goes_to_another_is_kept_until_another_takes_it(book: LeaseBook) -> None:
    """Its new owner reads first; meanwhile nobody else would write."""
    book.want({"X": 0, "Y": 0})
    book.answered("X", granted(7), sent_ms=10_000)
    book.answered("Y", granted(8), sent_ms=10_000)
    (released,) = book.want({}, keep=["X"])
    assert released.symbol == "Y"
    assert book.wanted() == ["X"]
    assert not book.assigned("X")
    book.renewed(book.held()[0], sent_ms=11_000)
    assert book.valid("X", 11_000) is not None
    assert book.drop("X", "a|2|7", next_try_ms=11_000)
    assert book.wanted() == []  # not asked for again: it is another's
    assert book.next_due_ms() is None


def test_only_what_is_held_can_be_kept(book: LeaseBook) -> None:
    """A wish that was never granted gives nobody anything to write under."""
    assert book.want({}, keep=["X", "never wanted"]) == []
    assert book.wanted() == []
    assert book.due(99_999) == []


def test_what_is_assigned_is_assigned_also_where_it_is_to_be_kept(book: LeaseBook) -> None:
    """Both lists may name it."""
    book.answered("X", granted(7), sent_ms=10_000)
    assert book.want({"X": 0}, keep=["X"]) == []
    assert book.assigned("X")
    book.want({}, keep=["X"])
    assert not book.assigned("X")
    assert book.want({"X": 0}) == []  # and back again, the lease held all along
    assert book.assigned("X")
    assert book.valid("X", 10_001) is not None
    book.want({}, keep=["X"])
    (released,) = book.want({})
    assert released.value == "a|2|7"
    assert not book.assigned("X")


def test_another_s_lease_is_taken_as_it_was_seen(book: LeaseBook) -> None:
    """At once, and held on to like one that is ours, though it is not assigned."""
    book.raise_floor("Z", 40)
    book.take("Z", "b|1|41")
    assert book.due(0) == [("X", 0, ""), ("Z", 40, "b|1|41")]
    assert not book.assigned("Z")
    code = AcquireCode.STOLEN
    taken = Acquired(code, 42, "a|2|42", TTL_MS, 3, 4)
    assert book.answered("Z", taken, sent_ms=10_000) is None
    assert book.valid("Z", 10_000) is not None
    assert [lease.symbol for lease in book.held()] == ["Z"]


def test_a_taking_that_comes_to_nothing_is_not_repeated(book: LeaseBook) -> None:
    """It was decided by what was seen, which has changed; whoever decided it looks again."""
    book.take("Z", "b|1|7")
    assert book.answered("Z", held_by("c|1|9", token=9), sent_ms=10_000) is None
    assert book.wanted() == ["X"]
    assert book.floor("Z") == 9


def test_a_taking_without_an_answer_is_asked_for_again_and_steals_nothing(book: LeaseBook) -> None:
    """It may have been granted, and nobody else would ask for what is ours."""
    book.take("Z", "b|1|7")
    book.unanswered("Z", 10_000)
    book.unanswered("X", 10_000)
    assert book.due(10_000) == []
    assert book.due(10_100) == [("X", 0, ""), ("Z", 0, "")]


def test_what_is_not_assigned_is_given_up_when_it_is_lost_not_when_it_is_unknown(
    book: LeaseBook,
) -> None:
    """Redis may only have been slow, and the lease still be ours."""
    book.take("Z", "")
    book.answered("Z", Acquired(AcquireCode.GRANTED, 8, "a|2|8", TTL_MS, 0, 0), sent_ms=10_000)
    assert book.drop("Z", "a|2|8", 10_500, lost=False)
    assert book.valid("Z", 10_500) is None
    assert ("Z", 0 + 8, "") in book.due(10_500)
    book.answered("Z", Acquired(AcquireCode.HELD_BY_ME, 8, "a|2|8", TTL_MS, 0, 0), sent_ms=10_600)
    assert book.valid("Z", 10_600) is not None
    assert book.drop("Z", "a|2|8", 10_700)
    assert book.wanted() == ["X"]


def test_what_is_assigned_is_taken_at_once_and_asked_for_again_if_that_fails(
    book: LeaseBook,
) -> None:
    book.answered("X", held_by("b|1|7"), sent_ms=10_000)
    assert book.due(10_001) == []
    book.take("X", "b|1|7")
    assert book.due(10_001) == [("X", 7, "b|1|7")]
    assert book.assigned("X")
    book.answered("X", held_by("c|1|8", token=8), sent_ms=10_001)
    assert book.due(99_999) == [("X", 8, "")]
    book.take("X", "c|1|8")
    book.unanswered("X", 20_000)
    assert book.due(20_000 + RETRY_MS) == [("X", 8, "")]  # what was seen is of the past


def test_what_is_held_is_not_taken_again(book: LeaseBook) -> None:
    """Also past its deadline: the next renewal tells."""
    book.answered("X", granted(7), sent_ms=10_000)
    book.take("X", "a|2|7")
    assert book.due(99_999) == []
    assert book.valid("X", 10_001) is not None
    book.drop("X", "a|2|7", next_try_ms=10_100)
    assert book.due(10_100) == [("X", 7, "")]


def test_a_taking_under_way_becomes_ours_with_the_assignment(book: LeaseBook) -> None:
    """And is given back where the assignment names another."""
    book.take("Z", "b|1|7")
    book.want({"Z": 3})
    assert book.assigned("Z")
    book.answered("Z", held_by("b|1|7"), sent_ms=10_000)
    assert book.wanted() == ["Z"]
    book.take("Y", "b|1|8")
    book.want({})
    unwanted = book.answered("Y", granted(9), sent_ms=10_000)
    assert unwanted is not None
    assert unwanted.token == 9


def test_of_what_is_unknown_nothing_is_assigned(book: LeaseBook) -> None:
    assert book.assigned("X")
    assert not book.assigned("nobody's")
