"""Who is suspected, and when a look that finds nobody means nothing."""

from __future__ import annotations

import pytest

from agents.coordination.view import AT_ONCE_MS, QUIET_MS, View

START_MS = 50_000
TRUSTED_MS = START_MS + QUIET_MS


@pytest.fixture
def view() -> View:
    """Of a node whose connection is old enough to be trusted, with three others there."""
    view = View("me")
    view.connected(START_MS)
    view.looked({"me": 1, "a": 1, "b": 1, "c": 1}, TRUSTED_MS)
    return view


def test_who_was_never_seen_is_not_suspected() -> None:
    """Its heartbeat is there; it may be about to listen, or of an older version that never will."""
    view = View("me")
    view.connected(START_MS)
    for at_ms in range(TRUSTED_MS, TRUSTED_MS + 2000, 150):
        view.looked({"a": 0}, at_ms)
    assert view.suspects(TRUSTED_MS + 9000) == {}
    assert view.present() == []


def test_one_miss_is_none_and_two_are() -> None:
    """With the moment of the second; more of them change nothing."""
    view = View("me")
    view.connected(START_MS)
    view.looked({"a": 1, "b": 1}, TRUSTED_MS)
    view.looked({"a": 0, "b": 1}, TRUSTED_MS + 150)
    assert view.suspects(TRUSTED_MS + 150) == {}
    assert view.present() == ["a", "b"]
    for at_ms in (300, 450, 600):
        view.looked({"a": 0, "b": 1}, TRUSTED_MS + at_ms)
        assert view.suspects(TRUSTED_MS + at_ms) == {"a": TRUSTED_MS + 300}
    assert view.present() == ["b"]


def test_misses_count_in_a_row(view: View) -> None:
    """A connection that comes back at once was only that."""
    for at_ms in range(0, 1800, 300):
        view.looked({"a": 0, "b": 1, "c": 1}, TRUSTED_MS + at_ms)
        view.looked({"a": 2, "b": 1, "c": 1}, TRUSTED_MS + at_ms + 150)
    assert view.suspects(TRUSTED_MS + 9000) == {}


def test_who_is_seen_again_is_no_suspect(view: View) -> None:
    for at_ms in (150, 300):
        view.looked({"a": 0, "b": 1, "c": 1}, TRUSTED_MS + at_ms)
    assert [*view.suspects(TRUSTED_MS + 300)] == ["a"]
    view.looked({"a": 1, "b": 1, "c": 1}, TRUSTED_MS + 450)
    assert view.suspects(TRUSTED_MS + 450) == {}
    assert sorted(view.present()) == ["a", "b", "c"]


def test_nobody_is_suspected_while_our_own_connection_is_new() -> None:
    """Where Redis was away, the others' connections may come back later than ours."""
    view = View("me")
    view.connected(START_MS)
    view.looked({"a": 1, "b": 1, "c": 1}, START_MS + 100)
    for at_ms in (250, 400):
        view.looked({"a": 0, "b": 1, "c": 1}, START_MS + at_ms)
    assert view.suspects(TRUSTED_MS - 1) == {}
    assert view.suspects(TRUSTED_MS) == {"a": START_MS + 400}


def test_where_most_vanish_at_once_it_is_redis_that_has_trouble(view: View) -> None:
    """They get as long to come back as our own connection would; then they are gone indeed."""
    gone = {"a": 0, "b": 0, "c": 1}
    view.looked(gone, TRUSTED_MS + 150)
    missed_ms = TRUSTED_MS + 300
    for at_ms in range(missed_ms, missed_ms + QUIET_MS, 150):
        view.looked(gone, at_ms)
        assert view.suspects(at_ms) == {}
    assert view.suspects(missed_ms + QUIET_MS - 1) == {}
    assert view.suspects(missed_ms + QUIET_MS) == {"a": missed_ms, "b": missed_ms}


def test_most_need_not_vanish_in_the_same_look(view: View) -> None:
    view.looked({"a": 0, "b": 1, "c": 1}, TRUSTED_MS + 150)
    view.looked({"a": 0, "b": 0, "c": 1}, TRUSTED_MS + 300)
    assert [*view.suspects(TRUSTED_MS + 300)] == ["a"]
    view.looked({"a": 0, "b": 0, "c": 1}, TRUSTED_MS + 450)
    assert view.suspects(TRUSTED_MS + 450) == {}
    assert len(view.suspects(TRUSTED_MS + 450 + QUIET_MS)) == 2


def test_who_vanishes_well_after_another_is_suspected_like_it(view: View) -> None:
    """Two crashes, not one outage."""
    for at_ms in (150, 300, 300 + AT_ONCE_MS - 150, 300 + AT_ONCE_MS):
        b = 1 if at_ms <= 300 else 0
        view.looked({"a": 0, "b": b, "c": 1}, TRUSTED_MS + at_ms)
    assert [*view.suspects(TRUSTED_MS + 300 + AT_ONCE_MS)] == ["a", "b"]


def test_half_of_them_are_not_most() -> None:
    """Two of four may have been on one machine."""
    view = View("me")
    view.connected(START_MS)
    view.looked(dict.fromkeys("abcd", 1), TRUSTED_MS)
    for at_ms in (150, 300):
        view.looked({"a": 0, "b": 0, "c": 1, "d": 1}, TRUSTED_MS + at_ms)
    assert [*view.suspects(TRUSTED_MS + 300)] == ["a", "b"]


def test_the_only_other_node_may_be_suspected() -> None:
    """All of the others are gone at once whenever it goes."""
    view = View("me")
    view.connected(START_MS)
    view.looked({"me": 1, "a": 1}, TRUSTED_MS)
    view.looked({"me": 1, "a": 0}, TRUSTED_MS + 150)
    view.looked({"me": 1, "a": 0}, TRUSTED_MS + 300)
    assert view.suspects(TRUSTED_MS + 300) == {"a": TRUSTED_MS + 300}


def test_we_are_no_peer_of_our_own() -> None:
    """A connection of ours that is gone makes nobody a suspect."""
    view = View("me")
    view.connected(START_MS)
    for count in (1, 0, 0):
        view.looked({"me": count}, TRUSTED_MS)
    assert view.present() == []
    assert view.suspects(TRUSTED_MS) == {}


def test_without_a_connection_everybody_is_forgotten(view: View) -> None:
    """What we do not see says nothing, and what we saw before has to be seen again."""
    assert View("me").is_blind()
    assert not view.is_blind()
    for at_ms in (150, 300):
        view.looked({"a": 0, "b": 1, "c": 1}, TRUSTED_MS + at_ms)
    view.disconnected()
    assert view.is_blind()
    assert view.suspects(TRUSTED_MS + 300) == {}
    assert view.present() == []
    view.connected(TRUSTED_MS + 1000)
    assert not view.is_blind()
    for at_ms in range(3000, 6000, 150):
        view.looked({"a": 0, "b": 1, "c": 1}, TRUSTED_MS + at_ms)
    assert view.suspects(TRUSTED_MS + 6000) == {}
    assert view.present() == ["b", "c"]


def test_who_has_no_heartbeat_any_more_is_neither_there_nor_missed(view: View) -> None:
    """It has left, or has been gone for so long that there is nothing left to do."""
    for at_ms in (150, 300):
        view.looked({"a": 0, "b": 1, "c": 1}, TRUSTED_MS + at_ms)
    view.draining |= {"a|1", "b|1"}
    view.keep(["me", "b"])
    assert view.suspects(TRUSTED_MS + 300) == {}
    assert view.present() == ["b"]
    assert view.draining == {"b|1"}
