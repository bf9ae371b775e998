"""The WebSocket client, frame by frame: what it takes, refuses, asks for again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.hub.protocol import MESSAGE_BYTES_MAX
from tests.support import example_readers  # noqa: F401 (the path to what is imported next)
from tests.support.reports import stored

from tapeline_reading import Refused  # isort: skip
from ws_async import Follower  # isort: skip

REPORT = json.loads(stored())


def frame(kind: str, seq: int, before: int | None = None, token: int = 7) -> dict[str, Any]:
    made = {
        "type": kind, "channel": "reports.fast", "symbol": "BTCUSDT", "token": token, "seq": seq,
        "read": {"now_ms": 1, "age_ms": 1, "data_age_ms": 40, "stale": False}, "data": REPORT,
    }  # fmt: skip
    return made if before is None else {**made, "prev_token": 7, "prev_seq": before}


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def follower(told: list[str]) -> Follower:
    made = Follower("http://127.0.0.1:8080/", ["BTCUSDT"], told=told.append)
    assert made._take(hello(), 1.0) is None
    made._take({"type": "subscribed"}, 1.0)
    told.clear()
    return made


def hello(**changes: Any) -> dict[str, Any]:
    return {"type": "hello", "heartbeat_s": 2.0, "auth_required": False, **changes}


def test_states_in_a_row_are_taken_and_told(follower: Follower, told: list[str]) -> None:
    assert follower._take(frame("snapshot", 1), 1.0) is None
    assert follower._take(frame("update", 2, before=1), 1.0) is None
    held = follower.newest.get("BTCUSDT")
    assert held is not None
    assert held.order == (7, 2)
    assert told == ["BTCUSDT"] * 2


def test_a_break_between_two_is_seen_and_the_state_asked_for(follower: Follower) -> None:
    """The state is whole, so it is taken all the same."""
    follower._take(frame("snapshot", 1), 1.0)
    wanted = follower._take(frame("update", 4, before=3), 1.0)
    assert wanted == {"op": "snapshot", "channel": "reports.fast", "symbol": "BTCUSDT"}
    held = follower.newest.get("BTCUSDT")
    assert held is not None
    assert held.seq == 4


def test_a_reader_that_is_behind_is_not_believed(follower: Follower, told: list[str]) -> None:
    """As after coming back to another one, whose store is an older copy."""
    follower._take(frame("snapshot", 9), 1.0)
    told.clear()
    follower._take(frame("snapshot", 12, token=6), 2.0)
    follower._take(frame("snapshot", 8), 2.0)
    held = follower.newest.get("BTCUSDT")
    assert held is not None
    assert (held.order, held.at_s) == ((7, 9), 1.0)
    assert told == []


def test_a_store_that_is_away_is_said_until_it_is_back(follower: Follower, told: list[str]) -> None:
    """Also where it was said before the subscription was confirmed."""
    follower._take(frame("snapshot", 1), 1.0)
    told.clear()
    follower._take({"type": "source", "redis": "down", "since_ms": 1}, 1.0)
    follower._take({"type": "subscribed"}, 1.0)
    assert "store is down" in follower.note
    follower._take({"type": "source", "redis": "up", "since_ms": 2}, 1.0)
    assert follower.note == ""
    assert told == ["BTCUSDT"] * 2


def test_nothing_is_told_of_a_report_that_is_on_its_way(told: list[str]) -> None:
    """Connected, subscribed, and the first state not here yet: that is not "no report"."""
    made = Follower("http://127.0.0.1:8080", ["BTCUSDT"], told=told.append)
    made._take(hello(), 1.0)
    made._take({"type": "subscribed"}, 1.0)
    assert told == []
    made._take(frame("snapshot", 1), 1.0)
    assert told == ["BTCUSDT"]


def test_a_key_that_is_missing_or_refused_ends_it(follower: Follower) -> None:
    with pytest.raises(Refused, match="TAPELINE_KEY"):
        follower._take(hello(auth_required=True), 1.0)
    with pytest.raises(Refused, match="forbidden: no scope"):
        follower._take({"type": "error", "code": "forbidden", "message": "no scope"}, 1.0)


def test_it_goes_on_from_where_it_was(follower: Follower) -> None:
    """An update on what is held is no break, though it is the first frame of the connection."""
    assert follower._subscription()["resume"] == {}
    follower._take(frame("snapshot", 9), 1.0)
    assert follower._subscription()["resume"] == {"reports.fast|BTCUSDT": "7.9"}
    assert follower._take(frame("update", 15, before=9), 2.0) is None


def test_a_message_with_many_symbols_stays_within_its_size() -> None:
    """Of names and numbers as long as they may be."""
    made = Follower("http://127.0.0.1:8080", ["*"])
    for n in range(2000):
        state = frame("snapshot", 9_999_999_999, token=2**53)
        made._take({**state, "symbol": f"S{n:031}"}, 1.0)
    assert len(json.dumps(made._subscription())) < MESSAGE_BYTES_MAX


def test_what_later_versions_add_is_passed_over(follower: Follower, told: list[str]) -> None:
    assert follower._take({"type": "something_new"}, 1.0) is None
    assert told == []
