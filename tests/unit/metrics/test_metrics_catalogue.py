"""Every metric has an entry, every entry a metric, and the page says what the code does."""

from __future__ import annotations

import re
import runpy
import sys
from functools import cache
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from tapeline.metrics import live
from tapeline.metrics.alerts import alerts_of, names_in, read_alerts
from tapeline.metrics.catalogue import Catalogue, Entry, read_catalogue
from tapeline.metrics.docs import RULES, in_order, render
from tapeline.metrics.live import Family, families
from tests.support.imports import ROOT

PAGE = ROOT / "docs" / "metrics.md"

SCRAPED = {"instance", "job", "le"}
"""Labels that a series has beside its own: of the scrape, and of a bucket."""

PARTS_OF_UNITS = re.compile(
    r"_(ms|millis|milliseconds|us|ns|min|minutes|hours|kb|mb|percent|pct)(_|$)"
)


@cache
def known() -> dict[str, Family]:
    return families()


def series_of(found: dict[str, Family]) -> dict[str, Family]:
    """Families by the names of their series."""
    return {name: family for family in found.values() for name in family.series}


def test_every_metric_has_an_entry_and_every_entry_a_metric() -> None:
    assert set(read_catalogue().metrics) == set(known())


def test_a_metric_without_an_entry_is_not_passed_over() -> None:
    """Neither by the page, nor by what compares."""
    catalogue = read_catalogue()
    family = Family(
        name="tapeline_new_total",
        kind="counter",
        help="New",
        labels=(),
        buckets=(),
        components=("worker",),
    )
    with pytest.raises(KeyError, match="tapeline_new_total"):
        render({family.name: family}, catalogue, [])


@pytest.mark.parametrize("component", live.COMPONENTS)
def test_every_process_says_what_it_is_and_what_it_uses(component: live.Component) -> None:
    registry = live.registry_of(component)
    names = {live.scraped_name(family) for family in registry.collect()}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "python_info"} <= names
    samples = [s for f in registry.collect() if f.name == "tapeline_build_info" for s in f.samples]
    assert [(s.labels["component"], s.value) for s in samples] == [(component, 1.0)]
    assert re.fullmatch(r"\d+\.\d+\.\d+.*|unknown", samples[0].labels["version"])


def test_names_and_types_are_by_the_conventions() -> None:
    """Base units, and `_total` for all that only rises."""
    for name, family in known().items():
        assert (family.kind == "counter") == name.endswith("_total"), name
        assert family.kind in {"counter", "gauge", "histogram"}, name
        assert not PARTS_OF_UNITS.search(name), name
        assert family.help.strip(), name
        assert not name.removesuffix("_total").endswith(("_count", "_sum", "_bucket")), name
        if family.kind == "histogram":
            assert name.endswith("_seconds"), name
            assert list(family.buckets) == sorted(family.buckets), name


def test_every_label_is_explained_and_no_explanation_is_left_over() -> None:
    catalogue = read_catalogue()
    used = {label for family in known().values() for label in family.labels}
    assert used <= set(catalogue.labels) | {"le"}
    assert set(catalogue.labels) <= used | {"le"}
    for name, entry in catalogue.metrics.items():
        assert set(entry.labels) <= set(known()[name].labels), name


def test_an_example_is_about_its_metric_and_names_no_other_that_is_not() -> None:
    series = series_of(known())
    for name, entry in read_catalogue().metrics.items():
        named = names_in(entry.query)
        assert named & set(known()[name].series), name
        assert named <= set(series), name
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", entry.query):
            wanted = {label.strip() for label in labels.split(",")}
            allowed = {label for one in named for label in series[one].labels} | SCRAPED
            assert wanted <= allowed, name


def test_symbols_and_partitions_are_the_only_labels_without_a_fixed_set() -> None:
    """And no metric has both a symbol and another that multiplies it by much."""
    for name, family in known().items():
        beside = set(family.labels) - {"symbol", "venue", "outcome"}
        assert "symbol" not in family.labels or not beside, name


def test_the_page_is_the_one_that_code_catalogue_and_rules_give() -> None:
    """`make docs` makes it anew."""
    alerts = read_alerts(ROOT / RULES)
    assert PAGE.read_text() == render(known(), read_catalogue(), alerts)


def test_the_page_has_a_section_with_a_query_for_each_metric() -> None:
    text = PAGE.read_text()
    assert sorted(re.findall(r"^### (\S+)$", text, re.M)) == sorted(known())
    assert text.count("```promql") == len(known())


def test_the_generator_writes_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "metrics.md"
    monkeypatch.setattr(sys, "argv", ["docs", str(target), str(ROOT / RULES)])
    monkeypatch.delitem(sys.modules, "tapeline.metrics.docs")
    runpy.run_module("tapeline.metrics.docs", run_name="__main__")
    assert target.read_text() == PAGE.read_text()


def test_alerts_name_metrics_that_there_are() -> None:
    """Also through the series that rules record."""
    for alert in read_alerts(ROOT / RULES):
        assert alert.names <= set(series_of(known())), alert.name


RECORDED = [
    {"record": "symbol:age:p95", "expr": "histogram_quantile(0.95, rate(nt_age_seconds_bucket[2m]))"},
    {"record": "cluster:age:max", "expr": "max(symbol:age:p95)"},
    {
        "alert": "Old",
        "expr": 'cluster:age:max\n  > 1 and up{job="tapeline_worker"} == 1',
        "for": "5m",
        "annotations": {"runbook_url": '{{ or $externalLabels.runbooks "docs/t.md" }}#old'},
    },
    {"alert": "Gone", "expr": "absent(nt_node_heartbeat) or vector(0)[5m:30s] > 3"},
]  # fmt: skip


def test_an_alert_is_known_by_the_metrics_behind_what_it_looks_at() -> None:
    old, gone = alerts_of(RECORDED)
    assert (old.name, old.names, old.lasting) == ("Old", {"nt_age_seconds_bucket"}, "5m")
    assert old.expr == 'cluster:age:max > 1 and up{job="tapeline_worker"} == 1'
    assert old.anchor == "old"
    assert (gone.names, gone.lasting, gone.anchor) == ({"nt_node_heartbeat"}, "", "")


def test_rules_that_record_each_other_come_to_an_end() -> None:
    loop = [
        {"record": "a:b", "expr": "c:d + nt_x"},
        {"record": "c:d", "expr": "a:b"},
        {"alert": "A", "expr": "a:b > 0"},
    ]
    assert alerts_of(loop)[0].names == {"nt_x"}


def test_without_rules_there_are_no_alerts(tmp_path: Path) -> None:
    assert read_alerts(tmp_path / "rules.yml") == []
    (tmp_path / "rules.yml").write_text(
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: nt_x > 1}\n"
    )
    assert [alert.name for alert in read_alerts(tmp_path / "rules.yml")] == ["A"]


def test_the_page_says_what_an_alert_waits_for() -> None:
    registry = CollectorRegistry()
    Histogram("nt_age_seconds", "Age", ("symbol",), buckets=(1, 2.5), registry=registry)
    Counter("nt_other_total", "Other things", registry=registry)
    found = {f.name: f for f in live._families(registry, "worker")}
    assert found["nt_age_seconds"].buckets == (1.0, 2.5)
    entry = Entry(query="nt_age_seconds_count", labels={"symbol": "Which"})
    catalogue = Catalogue(
        labels={},
        metrics={"nt_other_total": Entry(query="nt_other_total"), "nt_age_seconds": entry},
    )
    page = render(found, catalogue, alerts_of(RECORDED))
    assert "- Alert [Old](runbooks/troubleshooting.md#old): `cluster:age:max > 1 and up" in page
    assert "Buckets: 1, 2.5.\n" in page
    assert "| `symbol` | Which |" in page
    assert page.count("No alert.") == 1
    assert [f.name for f in in_order(found.values(), catalogue)] == [
        "nt_other_total",
        "nt_age_seconds",
    ]
