"""Alerts lead to a runbook that is there, look at metrics that exist, and each is tested."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest
import yaml

from tests.alerts import rules
from tests.alerts.faults import FAULTS
from tests.support.imports import ROOT
from tests.support.metric_names import metric_names

DOCUMENT = rules.load()
RULES = list(rules.each(DOCUMENT))
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
RUNBOOK = ROOT / "docs/runbooks/troubleshooting.md"
NAMES = {
    "MarketDataStale", "LeaseConflictSpike", "ExcessiveRebalancing", "ProducerDown", "FeedGapRate",
    "ChecksumFailures", "BridgeWithoutWriter", "SymbolWithoutOwner", "ConsumerLag",
    "SlowCycleSkipped", "PublishErrors", "WebsocketConnectionFailures", "SubscribersDrop",
    "DeadLettersGrowing", "StuckCommits", "ReaderDown", "BridgeDown",
}  # fmt: skip

RUNBOOK_URL = re.compile(
    r"\{\{ or \$externalLabels\.runbooks \"docs/runbooks/troubleshooting\.md\" \}\}#([a-z-]+)"
)
STATE = re.compile(r"ALERTS\{(.*)\}")
LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


def label(alert: dict[str, Any]) -> str:
    """An alert by its name and what tells it from others of the name."""
    more = [value for name, value in alert["labels"].items() if name != "severity"]
    return ":".join([alert["alert"], *more])


def promtool_tests() -> list[dict[str, Any]]:
    """All expressions tested, of all files."""
    found = []
    for path in sorted((rules.FOLDER / "tests").glob("*.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            found += test.get("promql_expr_test", [])
    return found


def test_every_alert_that_is_asked_for_is_there() -> None:
    assert {alert["alert"] for alert in ALERTS} == NAMES


@pytest.mark.parametrize("alert", ALERTS, ids=label)
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(
    alert: dict[str, Any],
) -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOK.read_text(), re.M)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    match = RUNBOOK_URL.fullmatch(alert["annotations"]["runbook_url"])
    assert match is not None
    assert match[1] in anchors


def test_the_runbook_has_an_entry_for_each_alert() -> None:
    """By the alert's name, and it is the one that the alert links to."""
    text = RUNBOOK.read_text()
    for alert in ALERTS:
        (row,) = re.findall(rf"^\| {alert['alert']} \| (.+) \|$", text, re.M)
        assert alert["annotations"]["runbook_url"].rpartition("#")[2] in re.findall(
            r"#([a-z-]+)", row
        )


def test_recorded_series_are_named_by_level_metric_and_operation() -> None:
    metrics = {re.sub(r"_(total|bucket)$", "", name) for name in metric_names()}
    for name in RECORDED:
        level, metric, operation = name.split(":")
        assert level in {"cluster", "instance", "partition", "reason", "symbol", "venue"}
        assert re.fullmatch(r"(sum|max|p50_2m|p95_2m|(max_|ratio_)?rate[25]m)", operation)
        assert metric.removesuffix("_records").removesuffix("_seconds") in {
            "tapeline_lag", "tapeline_publish_failures",
        } or metric in metrics, name  # fmt: skip


def test_every_recorded_series_is_used_or_shown() -> None:
    """`partition:tapeline_lag_records:max` is for dashboards."""
    text = " ".join(rule["expr"] for rule in RULES)
    unused = [name for name in RECORDED if name not in text]
    assert unused == ["partition:tapeline_lag_records:max"]


def test_expressions_look_at_series_that_processes_export() -> None:
    """Or an alert never fires, and nobody notices."""
    known = metric_names() | set(RECORDED)
    for rule in RULES:
        expr = re.sub(r'"[^"]*"', '""', rule["expr"])
        named = set(re.findall(r"\b(?:[a-z]+:)?(?:nt|tapeline)_[a-z0-9_]+(?::[a-z0-9_]+)?\b", expr))
        assert named <= known, rule["expr"]


def test_windows_bear_a_scrape_every_half_minute() -> None:
    """Two samples at least."""
    for rule in RULES:
        for window in re.findall(r"\[(\w+)\]", rule["expr"]):
            least_s = 60 if "max_over_time" in rule["expr"] else 120
            assert rules.seconds(window) >= least_s, rule


@pytest.mark.parametrize("alert", ALERTS, ids=label)
def test_a_unit_test_fires_it_and_another_does_not(alert: dict[str, Any]) -> None:
    fired, silent = 0, 0
    for test in promtool_tests():
        if not test["exp_samples"]:
            silent += test["expr"] == "ALERTS" or alert["alert"] in test["expr"]
        for sample in test["exp_samples"]:
            labels = dict(LABEL.findall(sample["labels"]))
            wanted = {"alertname": alert["alert"], "alertstate": "firing", **alert["labels"]}
            fired += wanted.items() <= labels.items()
    assert fired
    assert silent > 1


def test_a_real_fault_is_brought_about_for_each_alert() -> None:
    raised: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for fault in FAULTS.values():
        for expected in fault.alerts:
            raised[expected.name].append(expected.labels)
    for alert in ALERTS:
        assert any(labels.items() <= alert["labels"].items() for labels in raised[alert["alert"]])
    assert set(raised) == NAMES


# --- the rules in a shorter time --------------------------------------------------------------------


def test_scaled_rules_are_the_same_but_faster() -> None:
    document = {
        "groups": [
            {
                "rules": [
                    {"record": "cluster:x:rate5m", "expr": "sum(rate(x[5m]))"},
                    {"alert": "X", "expr": "cluster:x:rate5m > 1 and y[20s]", "for": "2m30s"},
                ]
            }
        ]
    }
    found = rules.scaled(document, 20)
    record, alert = rules.each(found)
    assert record["expr"] == "sum(rate(x[15000ms]))"
    assert alert["expr"] == "cluster:x:rate5m > 1 and y[3000ms]"
    assert alert["for"] == "7500ms"
    assert rules.scaled(document, 1) == document
    (slow,), (fast,) = rules.alerts(document), rules.alerts(found)
    assert (slow.lasting_s, fast.lasting_s) == (300 + 20 + 150, 15 + 3 + 7.5)


@pytest.mark.parametrize("text", ["", "5", "m5", "5m3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        rules.seconds(text)
