"""Which fields are compared, how strictly, and where two reports are not equal."""

from __future__ import annotations

import pytest

from tables.report import Report
from tapeline.compare.fields import (
    MISSING,
    Kind,
    Leaf,
    Rules,
    matcher,
    parse_tolerance,
    unequal,
    window_holds,
)
from tapeline.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "a", "b", "holds"),
    [
        ("mid_price=0.01", 100.0, 100.01, False),  # 100.01 - 100 is a little more than 0.01
        ("mid_price=0.02", 100.0, 100.01, True),
        ("mid_price=0", 1.0, 1.0, True),
        ("flow=2%", 100, 98, True),
        ("flow=2%", 100, 97, False),
        ("flow=2%", -100, 100, False),
        ("flow=100%", 0.0, 5.0, True),
    ],
)
def test_a_tolerance_is_a_distance_or_a_share_of_the_larger(
    text: str, a: float, b: float, holds: bool
) -> None:
    tolerance = parse_tolerance(text)
    assert tolerance.holds(a, b) is holds
    assert tolerance.holds(b, a) is holds
    assert str(tolerance) == text.partition("=")[2]


@pytest.mark.parametrize(
    "text", ["", "flow", "flow=", "=1", "flow=x", "flow=-1", "flow=inf", "flow=nan"]
)
def test_what_is_no_tolerance_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="FIELD=ABS or FIELD=REL%"):
        parse_tolerance(text)


@pytest.mark.parametrize(
    ("pattern", "path", "means"),
    [
        ("flow", "flow", True),
        ("flow", "flow.net_flow", True),
        ("flow", "flows", False),
        ("flow", "x.flow", False),
        ("*.net_flow", "flow.net_flow", True),
        ("depth.bids", "depth.bids.*.1", True),
        ("depth.bids.*.1", "depth.bids.*.0", False),
        ("venues.by_venue.*.age_ms", "venues.by_venue.kraken.age_ms", True),
        ("best_bid", "best_bid.price", True),
        ("a.c", "abc", False),
    ],
)
def test_a_pattern_means_a_field_and_all_below_it(pattern: str, path: str, means: bool) -> None:
    assert bool(matcher([pattern]).fullmatch(path)) is means
    assert matcher([]).fullmatch(path) is None


def test_every_field_of_a_report_has_a_rule_on_purpose() -> None:
    """A new field is compared strictly unless somebody puts it elsewhere."""
    names = {Report.__struct_encode_fields__[n] for n in range(len(Report.__struct_fields__))}
    rules = Rules()
    by_kind = {kind: {name for name in names if rules.of(name)[0] is kind} for kind in Kind}
    assert by_kind[Kind.LEFT_OUT] == {
        "writer",
        "seq",
        "updatedAt",
        "heavy",
        "generated_at",
        "source",
    }
    assert by_kind[Kind.AGE] == {"data_age_ms", "last_change_age_ms"}
    assert by_kind[Kind.WINDOW] == {
        "flow", "coverage", "gaps", "health", "venues", "liquidity", "anomalies", "custom",
    }  # fmt: skip
    assert {"best_bid", "depth", "last_price", "ingestion", "schemaVersion"} <= by_kind[Kind.FIXED]
    assert rules.of("ingestion.status")[0] is Kind.WINDOW
    assert rules.of("ingestion.book")[0] is Kind.FIXED
    assert rules.of("venues.by_venue.kraken.age_ms")[0] is Kind.AGE


def test_of_replays_all_is_compared_but_the_writer() -> None:
    rules = Rules(same_moment=True)
    left_out = {n for n in Report.__struct_encode_fields__ if rules.of(n)[0] is Kind.LEFT_OUT}
    assert left_out == {"writer", "seq", "updatedAt", "heavy"}


def test_what_is_ignored_is_left_out_and_the_last_tolerance_wins() -> None:
    tolerances = [parse_tolerance(text) for text in ("flow=1", "flow.net_flow=2", "mid_price=3")]
    rules = Rules(tolerances, ["custom", "health.*"])
    assert rules.of("custom.vwap.price")[0] is Kind.LEFT_OUT
    assert rules.of("health.score")[0] is Kind.LEFT_OUT
    assert str(rules.of("flow.net_flow")[1]) == "2"
    assert str(rules.of("flow.buy_volume")[1]) == "1"
    assert rules.of("last_price")[1] is None


def test_unequal_fields_are_found_with_their_places() -> None:
    a = {"x": 1, "list": [[1, 2], [3, 4]], "short": [1], "gone": 5, "same": {"deep": [1]}}
    b = {"x": 2.5, "list": [[1, 2], [3, 5]], "short": [1, 2], "new": None, "same": {"deep": [1]}}
    found = {leaf.path: leaf for leaf in unequal("r", a, b)}
    assert found["r.x"] == Leaf("r.x", "r.x", 1, 2.5)
    assert found["r.list.*.*"] == Leaf("r.list.*.*", "r.list.1.1", 4, 5)
    assert found["r.short"].a == [1]
    assert found["r.gone"].b == MISSING
    assert found["r.new"][2:] == (MISSING, None)
    assert set(found) == {"r.x", "r.list.*.*", "r.short", "r.gone", "r.new"}
    assert list(unequal("r", {"n": 2}, {"n": 2.0})) == []


@pytest.mark.parametrize(
    ("path", "a", "b", "skew_ms", "holds"),
    [
        ("flow.buy_volume", 100.0, 95.0, 10, True),
        ("flow.buy_volume", 100.0, 94.9, 10, False),
        ("flow.net_flow", 0.5, -0.5, 10, True),  # of 100 bought and sold
        ("flow.net_flow", 6.0, -0.5, 10, False),
        ("health.freshness", 0.10, 0.05, 50, True),
        ("health.freshness", 0.10, 0.04, 50, False),
        ("ingestion.status", "ok", "degraded", 10, False),
        ("gaps.count", 1, 0, 10, False),
        ("coverage.day", True, False, 10, False),
        # A twentieth of a price would be another market; of a size it would not.
        ("liquidity.volume_profile.POC", 60_000.05, 60_000.0, 10, False),
        ("liquidity.walls.*.price", 60_000.05, 60_000.0, 10, False),
        ("liquidity.walls.*.qty", 1.0, 0.99, 10, True),
        ("liquidity.vacuums.*.from", 2.0, 1.99, 10, False),
        ("venues.best_bid.price", 2.0, 1.99, 10, False),
        ("venues.crossed.*.ask", 2.0, 1.99, 10, False),
        ("custom.vwap_5m.price", 60_000.05, 60_000.0, 10, True),
    ],
)
def test_a_window_may_have_lost_a_twentieth(
    path: str, a: object, b: object, skew_ms: int, holds: bool
) -> None:
    body = {"flow": {"buy_volume": 50.0, "sell_volume": 50.0}}
    assert window_holds(Leaf(path, path, a, b), body, body, skew_ms) is holds
