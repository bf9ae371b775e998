"""What is said of a killed worker: who goes on, how long it took, who is killed at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.survey import Health
from tapeline.errors import StackError
from tapeline.stack.failover import Outcome, SymbolOutcome, victim_of, warm_of


def symbol(name: str, before: str = "w1", after: str = "w2", **changes: Any) -> SymbolOutcome:
    fields: dict[str, Any] = {"gap_s": 0.5124, "reports": 40, "silent_s": 0.2}
    return SymbolOutcome(
        symbol=name, owner_before=before, owner_after=after, **{**fields, **changes}
    )


def outcome(*symbols: SymbolOutcome, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "killed": "w1",
        "broker": "Apache Kafka",
        "warm": 1,
        "assigned_s": 2.04,
        "watched_s": 10.01,
    }
    return Outcome(symbols=symbols, **{**fields, **changes})


def test_the_table_has_a_line_a_symbol_and_says_what_it_comes_to() -> None:
    kept = symbol("ETHUSDT", "w2", gap_s=0.31, reports=9)
    assert outcome(symbol("BTCUSDT"), kept).table().splitlines() == [
        "symbol   before  after  longest gap  reports",
        "BTCUSDT  w1      w2          0.51 s       40",
        "ETHUSDT  w2      w2          0.31 s        9",
        "",
        "w1 was killed; 2 of 2 symbols go on after 10 s",
        "longest gap: 0.51 s where w1 wrote, 0.31 s elsewhere",
        "standbys: 1 of the 1 symbols of w1 were warm",
        "broker: Apache Kafka; its consumer group assigned every symbol to a survivor after 2.0 s",
    ]


def test_on_the_embedded_broker_it_says_what_that_can_t_do() -> None:
    lines = outcome(symbol("A"), broker="embedded", assigned_s=None).table().splitlines()
    assert lines[-2] == (
        "broker: embedded; its consumer group had not assigned every symbol to a survivor after 10 s"
    )
    assert lines[-1].startswith("the embedded broker makes every join wait for half a session")
    assert outcome(symbol("A"), broker="embedded").as_json()["broker_note"] == lines[-1]
    assert outcome(symbol("A")).as_json()["broker_note"] is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"reports": 0}, "nothing was heard"),
        ({"silent_s": 2.1}, "the last report of later records is too old"),
        ({"after": "w1"}, "the lease is the dead one's"),
        ({"after": ""}, "nobody has the lease"),
    ],
)
def test_a_symbol_that_does_not_go_on_is_named(changes: dict[str, Any], why: str) -> None:
    found = outcome(symbol("A"), symbol("B", **changes))
    assert found.stopped == ["B"], why
    row = next(line for line in found.table().splitlines() if line.startswith("B"))
    assert row.endswith("STOPPED")
    assert "1 of 2 symbols go on" in found.table()
    body = found.as_json()
    assert body["goes_on"] is False
    assert [one["goes_on"] for one in body["symbols"]] == [True, False]


def test_a_symbol_that_was_never_the_killed_worker_s_counts_as_elsewhere() -> None:
    found = outcome(symbol("A", "w3", "w3", gap_s=0.25), symbol("B", "", "w2", gap_s=0.75))
    assert found.as_json()["longest_gap_s"] == {"killed": None, "others": 0.75}
    assert "longest gap: none where w1 wrote, 0.75 s elsewhere" in found.table()


def test_the_object_says_the_same_as_the_table() -> None:
    body = outcome(symbol("A")).as_json()
    assert json.loads(json.dumps(body)) == body
    assert body["symbols"] == [
        {
            "symbol": "A", "owner_before": "w1", "owner_after": "w2", "gap_s": 0.512, "reports": 40,
            "goes_on": True,
        }
    ]  # fmt: skip
    said = ("killed", "broker", "watched_s", "standbys_warm", "assigned_after_s")
    assert [body[name] for name in said] == ["w1", "Apache Kafka", 10.01, 1, 2.04]


def test_standbys_are_counted_only_where_every_worker_told() -> None:
    one, two = Health("w2", warm_symbols=("A", "B")), Health("w3", warm_symbols=("B", "X"))
    assert warm_of({"A", "B", "C"}, [one, two]) == 2
    assert warm_of({"A", "B", "C"}, [one, None]) is None
    found = outcome(symbol("A"), warm=None)
    assert "standbys: not known, as not every worker answered in time" in found.table()
    assert found.as_json()["standbys_warm"] is None


@pytest.mark.parametrize(
    ("owners", "killed"),
    [
        ({"A": "w1", "B": "w2", "C": "w2"}, "w2"),
        ({"A": "w2", "B": "w1"}, "w1"),
        ({"A": "other", "B": "other", "C": "w2"}, "w2"),
    ],
)
def test_the_worker_with_the_most_symbols_is_killed(owners: dict[str, str], killed: str) -> None:
    """Another's worker on the same servers is nobody's to kill."""
    assert victim_of(owners, ("w1", "w2", "w3")) == killed


@pytest.mark.parametrize("owners", [{}, {"A": ""}, {"A": "other"}])
def test_where_no_worker_writes_a_symbol_nobody_is_killed(owners: dict[str, str]) -> None:
    with pytest.raises(StackError, match="none of w1, w2 writes a symbol"):
        victim_of(owners, ("w2", "w1"))
