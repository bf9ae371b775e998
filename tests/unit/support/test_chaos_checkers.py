"""What the chaos runs are judged by: each fault is found in a history made for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.figures import gap_s, handovers_s, spread
from tests.chaos.history import Accepted, judged, overdue, regranted


def write(heard_s: float, token: int, seq: int, watermark: int, **extra: Any) -> Accepted:
    values = {"lease": f"n{token}|1|{token}", "updated_at": int(heard_s * 1000), **extra}
    return Accepted("A", heard_s, token, seq, watermark=watermark, **values)


WELL = [write(0.0, 1, 1, 10), write(0.25, 1, 2, 20), write(0.75, 2, 3, 20), write(1.0, 2, 4, 30)]


def test_a_gap_is_between_reports_of_later_records() -> None:
    """The third write says nothing new."""
    assert gap_s(WELL, 0.1, 1.0) == pytest.approx(0.75)


def test_a_gap_that_has_not_ended_counts_to_the_end() -> None:
    assert gap_s(WELL, 0.9, 5.0) == pytest.approx(4.0)
    assert gap_s([], 1.0, 5.0) == pytest.approx(4.0)


def test_a_gap_before_the_fault_is_not_of_it() -> None:
    assert gap_s(WELL, 1.0, 1.2) == pytest.approx(0.2)


def test_a_hand_over_is_timed_from_the_old_writers_last_report() -> None:
    assert handovers_s(WELL, 0.0, 2.0) == [pytest.approx(0.75)]
    assert handovers_s(WELL, 1.5, 2.0) == []


def test_spread_of_few_values() -> None:
    assert spread([]) == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    assert spread([0.5]) == {"p50": 0.5, "p99": 0.5, "max": 0.5}
    assert spread([0.1, 0.2, 0.3])["p50"] == 0.2


def test_a_history_as_it_should_be() -> None:
    assert judged({"A": WELL}).well()


@pytest.mark.parametrize(
    ("late", "what"),
    [
        (write(1.25, 1, 9, 40), "stale"),  # a lower token
        (write(1.25, 2, 3, 40), "stale"),  # a lower seq
        (write(1.25, 2, 5, 25), "stale"),  # of earlier records
        (write(1.25, 2, 5, 40, updated_at=900), "stale"),  # of an earlier time
        (write(1.25, 2, 4, 30), "duplicate"),  # once more
        (write(1.25, 2, 5, 40, lease="n7|1|2"), "duplicate"),  # one token, two writers
    ],
)
def test_what_should_not_have_been_accepted(late: Accepted, what: str) -> None:
    verdict = judged({"A": [*WELL, late]})
    assert getattr(verdict, what) == 1
    assert not verdict.well()


def test_a_fenced_reader_does_not_see_what_is_lower() -> None:
    assert judged({"A": [*WELL, write(1.25, 1, 9, 40)]}, fenced_reader=True).well()


def test_a_token_granted_again() -> None:
    grant = {"call": "acquire", "lease": "report:writer:A", "code": "GRANTED"}
    assert regranted([{**grant, "token": 5}, {**grant, "token": 6}]) == 0
    assert regranted([{**grant, "token": 5}, {**grant, "token": 5}]) == 1


def test_a_report_sent_after_its_lease_had_run_out() -> None:
    renewed = {"call": "renew", "t": 1.1, "sent": 1.0, "value": "n|1|5", "code": "RENEWED"}
    sent = {"call": "publish", "lease": "n|1|5"}
    assert overdue([renewed, {**sent, "decided": 2.9}], ttl_s=2.0) == 0
    assert overdue([renewed, {**sent, "decided": 3.1}], ttl_s=2.0) == 1
