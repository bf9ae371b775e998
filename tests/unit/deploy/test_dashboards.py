"""The dashboards: made by their generator, whole, and of metrics that there are."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.boards import BOARDS, render
from deploy.grafana.panels import Board, Panel, board_json, series
from tapeline.metrics.alerts import names_in
from tapeline.metrics.live import Family, families
from tests.support.dashboards import concrete, expressions
from tests.support.imports import ROOT

FOLDER = ROOT / "deploy" / "grafana"
UIDS = [
    "tapeline-overview",
    "tapeline-worker",
    "tapeline-bridge",
    "tapeline-readers",
    "tapeline-coordination",
]
"""Bookmarks and links hold them."""

RUNBOOK = ROOT / "docs" / "runbooks" / "troubleshooting.md"

UNITS = {"none", "short", "s", "bytes", "Bps", "cps", "reqps", "percentunit"}
"""Grafana's names of units; one that it does not know it shows as text, and says nothing."""

SCRAPED = {"instance", "job", "le"}

boards = pytest.mark.parametrize("uid", UIDS)


@cache
def board(uid: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboards" / f"{uid}.json").read_text())
    return found


def panels(uid: str) -> list[dict[str, Any]]:
    return [panel for panel in board(uid)["panels"] if panel["type"] != "row"]


@cache
def by_series() -> dict[str, Family]:
    return {name: family for family in families().values() for name in family.series}


# --- the files -------------------------------------------------------------------------------------


def test_the_files_are_those_that_the_generator_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make docs` writes them anew."""
    monkeypatch.setattr(sys, "argv", ["boards", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "deploy.grafana.boards")
    runpy.run_module("deploy.grafana.boards", run_name="__main__")
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in (FOLDER / "dashboards").iterdir()}
    assert written == kept
    assert sorted(written) == sorted(f"{uid}.json" for uid in UIDS)
    assert [one.uid for one in BOARDS] == UIDS
    assert render(BOARDS[0]) == kept[f"{UIDS[0]}.json"]


@boards
def test_a_board_is_of_no_particular_grafana(uid: str) -> None:
    """No ids, no data source by name, nothing that an import would trip over."""
    made = board(uid)
    assert made["uid"] == uid
    assert len(uid) <= 40
    assert "id" not in made
    assert made["title"].startswith("Tapeline: ")
    assert made["schemaVersion"] >= 39
    assert "__inputs" not in made
    sources = set(
        re.findall(r'"uid": "([^"]+)"', (FOLDER / "dashboards" / f"{uid}.json").read_text())
    )
    assert sources == {uid, "${datasource}"}
    variables = {one["name"]: one for one in made["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert made["tags"] == ["tapeline"]


@boards
def test_every_panel_says_what_it_shows(uid: str) -> None:
    """Title, description, unit, legend; and a title stands for one panel of its row only."""
    found = panels(uid)
    assert len({panel["id"] for panel in board(uid)["panels"]}) == len(board(uid)["panels"])
    for panel in found:
        title = panel["title"]
        assert len(panel["description"]) > 4, title
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, title
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, title
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0, title
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], title
            assert target["legendFormat"] or panel["type"] == "table", title
            assert target["instant"] != target["range"], title
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends), title
        if panel["type"] == "heatmap":
            assert {target["format"] for target in panel["targets"]} == {"heatmap"}, title


@boards
def test_thresholds_begin_without_a_value_and_rise(uid: str) -> None:
    for panel in panels(uid):
        first, *rest = [s["value"] for s in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert first is None, panel["title"]
        assert rest == sorted(rest), panel["title"]


@boards
def test_panels_lie_in_the_grid_and_beside_each_other(uid: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board(uid)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@boards
def test_links_lead_to_headings_that_there_are(uid: str) -> None:
    headings = {
        line[3:].lower().replace(" ", "-")
        for line in RUNBOOK.read_text().splitlines()
        if line.startswith("## ")
    }
    links = [link["url"] for panel in panels(uid) for link in panel.get("links", [])]
    for url in links:
        page, _, anchor = url.partition("#")
        assert page == "${docs}/runbooks/troubleshooting.md", url
        assert anchor in headings, url
    assert links
    pages = [link["url"] for link in board(uid)["links"] if link["type"] == "link"]
    for url in pages:
        assert (ROOT / url.replace("${docs}", "docs")).exists(), url


# --- the queries ------------------------------------------------------------------------------------


@boards
def test_every_query_is_of_metrics_that_there_are(uid: str) -> None:
    for where, expr in expressions(board(uid)):
        named = names_in(expr)
        assert named <= set(by_series()), where
        assert named or "ALERTS" in expr, where


@boards
def test_queries_ask_for_labels_that_their_metrics_have(uid: str) -> None:
    """A label that there is not matches nothing, and the panel stays empty without a word."""
    for where, expr in expressions(board(uid)):
        for name, matchers in re.findall(r"\b(\w+)\{([^}]*)\}", expr):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers))
            assert asked <= {*by_series()[name].labels, *SCRAPED}, (where, name)
        had = {label for name in names_in(expr) for label in by_series()[name].labels}
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr):
            assert {label.strip() for label in labels.split(",")} <= had | SCRAPED, where
        # What a function is asked for the first time may be made by it.
        made = set(re.findall(r'label_replace\(.*?, "(\w+)"', expr))
        legend = where.legend
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= had | SCRAPED | made, where


@boards
def test_queries_use_variables_that_the_board_has(uid: str) -> None:
    variables = {one["name"] for one in board(uid)["templating"]["list"]}
    built_in = {"__rate_interval", "__range", "__interval"}
    for where, expr in expressions(board(uid)):
        assert set(re.findall(r"\$\{?(\w+)", expr)) <= variables | built_in, where
    used = (FOLDER / "dashboards" / f"{uid}.json").read_text()
    for name in variables:
        assert f"${name}" in used or f"${{{name}}}" in used, f"${name} is asked for and not used"


@boards
def test_counters_are_asked_for_their_rate(uid: str) -> None:
    """And gauges are not: the rate of one is nonsense."""
    for where, expr in expressions(board(uid)):
        if where.panel.startswith("$"):
            continue  # a variable asks for labels, not for values
        rated = set(re.findall(r"\b(?:rate|irate|increase)\((\w+)", expr))
        for name in names_in(expr):
            family = by_series()[name]
            rises = family.kind in {"counter", "histogram"}
            assert (name in rated) == rises, (where, name)


def test_histograms_are_shown_as_heatmaps_of_readers() -> None:
    """Latency of what is handed out, as the spec wants it."""
    kinds = {panel["title"]: panel["type"] for panel in panels("tapeline-readers")}
    assert kinds["Delivery"] == kinds["Time to answer"] == "heatmap"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@boards
def test_prometheus_parses_every_query(uid: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:n{n}", "expr": concrete(expr)}
        for n, (_, expr) in enumerate(expressions(board(uid)))
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


# --- the generator ----------------------------------------------------------------------------------


def test_a_row_that_is_full_is_followed_by_another() -> None:
    one = series("A", "About.", "s", ("nt_x", "x"), width=16)
    made = board_json(
        Board(uid="u", title="T", about="A", variables=(), rows=(("R", (one, one)), ("S", (one,))))
    )
    places = [(p["type"], p["gridPos"]["x"], p["gridPos"]["y"]) for p in made["panels"]]
    assert places == [
        ("row", 0, 0), ("timeseries", 0, 1), ("timeseries", 0, 9), ("row", 0, 17), ("timeseries", 0, 18),
    ]  # fmt: skip


def test_a_kind_of_panel_that_nobody_knows_is_refused() -> None:
    odd = Panel(title="A", about="About.", kind="pie", unit="s", queries=(("nt_x", "x"),))
    with pytest.raises(ValueError, match="pie"):
        board_json(Board(uid="u", title="T", about="A", variables=(), rows=(("R", (odd,)),)))


# --- provisioning -----------------------------------------------------------------------------------


def test_provisioning_names_what_there_is() -> None:
    provisioning = FOLDER / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "tapeline.yml").read_text())[
        "datasources"
    ]
    assert (source["type"], source["uid"]) == ("prometheus", "tapeline-prometheus")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "tapeline.yml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file"
    # Where the command of the README mounts them.
    readme = (FOLDER / "README.md").read_text()
    assert f"dashboards:{provider['options']['path']}:ro" in readme
    assert all(f"`{uid}`" in readme for uid in UIDS)
