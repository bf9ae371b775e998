"""Conditions that a report is waited for by."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.mcp.condition import BadCondition, parse, value_at
from tests.support.reports import BARE, WHOLE

REPORT = json.loads(WHOLE)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("spread_bps > 0", True),
        ("spread_bps>5", False),
        ("health.score <= 100 and spread_bps < 5", True),
        ("health.score <= 100 and spread_bps > 5", False),
        ("ingestion.book == gap", True),
        ("ingestion.book != 'gap'", False),
        ("synthetic == true", REPORT["synthetic"]),
        ("gaps.count >= 1", True),
        ("best_bid.price == 60000", True),
    ],
)
def test_a_condition_holds_as_it_reads(text: str, holds: bool) -> None:
    assert parse(text).holds(REPORT) is holds


@pytest.mark.parametrize("op", ["<", ">", "<=", ">=", "==", "!="])
def test_what_is_not_known_satisfies_nothing(op: str) -> None:
    """Null is no number; "is not 5" is no exception."""
    bare = json.loads(BARE)
    assert bare["spread_bps"] is None
    assert not parse(f"spread_bps {op} 5").holds(bare)


def test_a_flag_is_no_number() -> None:
    assert not parse("synthetic >= 0").holds(REPORT)
    assert not parse("spread_bps == true").holds(REPORT)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "FIELD OP VALUE"),
        ("spread_bps", "FIELD OP VALUE"),
        ("spread_bps > 5 or 1 == 1", "FIELD OP VALUE"),
        ("__import__('os') == 1", "FIELD OP VALUE"),
        ("spread_bps > wide", "compares with a number"),
        (" and ".join(["spread_bps > 1"] * 5), "at most 4"),
        ("spraed_bps > 5", "no such field"),
    ],
)
def test_what_is_no_condition_is_said_to_be_none(text: str, sentence: str) -> None:
    with pytest.raises(BadCondition, match=sentence):
        parse(text)


def test_a_field_of_a_near_name_is_suggested() -> None:
    with pytest.raises(BadCondition) as caught:
        parse("spraed_bps > 5")
    assert caught.value.suggestions[0] == "spread_bps"


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_is_refused(text: str) -> None:
    with suppress(BadCondition):
        assert parse(text).holds(REPORT) in {True, False}


def test_a_path_through_what_is_no_object_leads_nowhere() -> None:
    assert value_at(REPORT, "spread_bps.more") is None
    assert value_at(REPORT, "depth.imbalance") == REPORT["depth"]["imbalance"]
