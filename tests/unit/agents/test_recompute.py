"""A report once more, from its own (offset, now_ms)."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.recompute import MISSING, Difference, Recomputation, differences, recompute
from agents.timeline import Plan, Timeline
from tables.parameters import Parameters
from tables.report import Report, encode_report
from tests.support.tape import SYMBOL, VENUE, interleaved, random_tape

WHOLE = 1 << 30
RECORDS = random_tape(12, 400).records


@cache
def published(at: int) -> Report:
    """One of the tape's reports; its slow part is of earlier records than its fast one."""
    timeline = Timeline(SYMBOL, VENUE, Plan(node_id="a"))
    reports = [
        r
        for r in timeline.feed(RECORDS)
        if r.source.slow and r.source.slow.offset < r.source.fast.offset
    ]
    return reports[at]


def of_three_venues() -> tuple[Report, list[tuple[int, bytes]]]:
    """The last report of three venues' records, and those."""
    names = (VENUE, "kraken", "coinbase")
    tapes = [
        random_tape(n, 150, venue=venue, quote_currency="USD") for n, venue in enumerate(names)
    ]
    records = interleaved(7, *tapes)
    timeline = Timeline(SYMBOL, VENUE, Plan(node_id="a"), others=names[1:])
    return [*timeline.feed(records)][-1], records


def test_the_venues_are_made_again_too() -> None:
    """Which they are is in the report; what they say is in the records."""
    report, records = of_three_venues()
    assert report.venues is not None
    assert sum(each.age_ms is not None for each in report.venues.by_venue.values()) == 3
    again = recompute(report, records, Parameters())
    assert encode_report(again, WHOLE) == encode_report(report, WHOLE)


def test_a_record_of_another_venue_that_is_missing_shows() -> None:
    report, records = of_three_venues()
    lost = next(r for r in records[100:] if b'"venue":"kraken"' in r[1])
    again = recompute(report, [r for r in records if r is not lost], Parameters())
    paths = {each.path for each in differences(body(report), body(again))}
    assert "venues.by_venue.kraken.gaps" in paths
    assert all(path.startswith("venues.") for path in paths)


def body(report: Report) -> dict[str, Any]:
    return json.loads(encode_report(report, WHOLE)[0])


@pytest.mark.parametrize("at", [0, 40, -1])
def test_the_same_records_give_the_same_bytes(at: int) -> None:
    report = published(at)
    again = recompute(report, RECORDS, Parameters())
    assert encode_report(again, WHOLE) == encode_report(report, WHOLE)


@given(cuts=st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=10, deadline=None)
def test_however_the_records_come(cuts: list[int]) -> None:
    report = published(40)
    ends = [0, *sorted(cuts), len(RECORDS)]
    making = Recomputation(report, Parameters())
    for begin, end in pairwise(ends):
        if not making.done:
            making.feed(RECORDS[begin:end])
    assert making.done
    assert differences(body(report), body(making.report())) == []


def test_records_behind_the_report_s_are_left_out() -> None:
    report = published(40)
    making = Recomputation(report, Parameters())
    making.feed(RECORDS[: report.source.fast.offset + 1])
    assert making.done
    assert making.report().source == report.source


def test_a_report_without_a_slow_part_is_made_without_one() -> None:
    report = published(0)
    source = msgspec.structs.replace(report.source, slow=None)
    bare = msgspec.structs.replace(report, liquidity=None, anomalies=None, source=source)
    assert recompute(bare, RECORDS, Parameters()) == bare


def test_an_offset_that_is_not_the_symbol_s_shows() -> None:
    """The engine says which record was its last."""
    report = published(40)
    records = [r for r in RECORDS if r[0] != report.source.fast.offset]
    again = recompute(report, records, Parameters())
    assert "source.fast.offset" in {d.path for d in differences(body(report), body(again))}


def test_every_changed_field_is_found_and_named() -> None:
    """One after the other, whatever lies below it; but for those that only the writer knew."""
    report = body(published(40))
    for path, value in leaves(report):
        changed = json.loads(json.dumps(report))
        where = changed
        for step in path[:-1]:
            where = where[step]
        where[path[-1]] = {"other": 1} if value != {"other": 1} else 1
        found = differences(changed, report)
        if path[0] in ("writer", "seq", "updatedAt"):
            assert found == []
        else:
            named = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path).lstrip(".")
            assert found == [Difference(named, {"other": 1}, value)]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    steps = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list)
        else ()
    )  # fmt: skip
    found = [leaf for step, inner in steps for leaf in leaves(inner, (*path, step))]
    return found or [(path, value)]


def test_fields_added_removed_and_of_another_type_differ() -> None:
    assert differences({"a": 1, "b": 1}, {"b": 1.0, "c": None}) == [
        Difference("a", 1, MISSING),
        Difference("b", 1, 1.0),
        Difference("c", MISSING, None),
    ]
    assert differences({"a": [1, 2]}, {"a": [1]}) == [Difference("a", [1, 2], [1])]
    assert differences({"a": True}, {"a": 1}) == [Difference("a", True, 1)]


def test_another_threshold_is_a_difference() -> None:
    """An auditor with settings of its own would find reports wrong that are right."""
    report = published(40)
    assert report.depth is not None
    again = recompute(report, RECORDS, Parameters(report_levels=5))
    assert any(d.path.startswith("depth") for d in differences(body(report), body(again)))
