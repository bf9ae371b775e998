"""What operators read names metrics, log events, constants and settings that the code has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module

import pytest

from tapeline.config import Settings, variable_name
from tests.support.imports import ROOT
from tests.support.metric_names import metric_names

PAGES = ("docs/coordination.md", "docs/runbooks/troubleshooting.md")
GUIDES = tuple(
    f"docs/operations/{name}.md"
    for name in ("development", "staging", "production", "recovery", "monitoring")
)
PACKAGES = ("agents", "lua", "serving", "streams", "tables", "tapeline")

METRIC = re.compile(r"\b(?:nt|tapeline)_[a-z_]*[a-z]\b")
EVENT = re.compile(r"[a-z_]+\.[a-z_]+|(?:lease|symbol|rebalance)_[a-z]*(?:ed|lost|conflict)")
TESTS_OWN = {"NT_CRASH_KILLS", "NT_CRASH_SEED"}
"""What tests are told by the environment."""
FILES = (".py", ".lua", ".md", ".yml", ".log")

ANCHORS = (
    "lease-conflicts", "heartbeat-failures", "excessive-rebalancing", "symbol-without-a-writer",
    "ownership-differences", "node-spared-or-evicted", "slow-cycle-lagging",
    "reports-not-generated", "venue-or-key-rejected",
    "no-bridge", "broker-away", "redis-away", "stale-market-data", "worker-down", "reader-down",
    "feed-gaps", "checksum-failures", "feed-without-a-writer", "consumer-lag", "publish-errors",
    "websocket-connections-fail", "subscribers-drop", "dead-letters-growing", "stuck-commits",
    "websocket-updates-missing", "metrics-not-in-prometheus", "high-latency",
)  # fmt: skip
"""What alerts link to: stays, whatever the sections become."""


@cache
def calls() -> tuple[tuple[str, str], ...]:
    """(what is called, first argument) of each call that begins with a text."""
    found = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=func, args=[ast.Constant(value=str(text)), *_]):
                        found.append((ast.unparse(func), text))
    return tuple(found)


def events() -> set[str]:
    """Log events; the sockets' ``said`` is a logger's method, picked by how bad it is."""
    return {text for func, text in calls() if func.startswith("log.") or func == "said"}


def unknown(text: str) -> list[str]:
    """Metrics and log events of a page that the code does not have."""
    codes = re.findall(r"`([^`\n]+)`", text)
    said = {code for code in codes if EVENT.fullmatch(code) and not code.endswith(FILES)}
    return sorted((said - events()) | (set(METRIC.findall(text)) - metric_names()))


def rows(page: str) -> Iterator[list[str]]:
    """Cells of the tables' rows, backticks left off."""
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("| `"):
            yield [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize("page", PAGES + GUIDES)
def test_every_metric_and_log_event_of_a_page_is_in_the_code(page: str) -> None:
    """Or somebody waits for an alert that never comes."""
    assert unknown((ROOT / page).read_text()) == []


def test_what_is_not_in_the_code_would_be_found() -> None:
    """The check above checks, and both pages name something that it looks at."""
    text = "`node.vanished` `lease_lost` nt_lease_conflicts_total tapeline_bridge_gaps_total"
    assert unknown(text) == []
    text = "`node.lost` `lease_dropped` nt_conflicts_total tapeline_bridge_gaps `hrw.py`"
    names = ["lease_dropped", "node.lost", "nt_conflicts_total", "tapeline_bridge_gaps"]
    assert unknown(text) == names
    for page in PAGES:
        assert "`node.vanished`" in (ROOT / page).read_text()


def test_constants_have_the_values_that_the_page_says() -> None:
    """Of rows whose third cell is a module."""
    said = [row for row in rows(PAGES[0]) if len(row) == 4 and row[0].isupper()]
    for name, value, path, _ in said:
        module = import_module(path.removesuffix(".py").replace("/", "."))
        assert getattr(module, name) == ast.literal_eval(value), name
    assert len(said) > 20


def test_settings_have_the_defaults_that_the_page_says() -> None:
    """Also those a setting was changed to since."""
    defaults = {variable_name(name): field.default for name, field in Settings.model_fields.items()}
    said = [row for row in rows(PAGES[0]) if row[0].startswith("NT_")]
    for name, value, _ in said:
        assert defaults[name] == ast.literal_eval(value), name
    assert said


@pytest.mark.parametrize("page", PAGES + GUIDES)
def test_settings_named_in_a_page_are_settings(page: str) -> None:
    names = {variable_name(name) for name in Settings.model_fields} | TESTS_OWN
    assert set(re.findall(r"\bNT_[A-Z_]+\b", (ROOT / page).read_text())) <= names


def test_anchors_that_alerts_link_to_stay() -> None:
    text = (ROOT / PAGES[1]).read_text()
    found = [line[3:].lower().replace(" ", "-") for line in text.splitlines() if line[:3] == "## "]
    assert found == ["first-look", *ANCHORS]


def test_every_scenario_has_a_row_for_its_figures() -> None:
    source = (ROOT / "tests/chaos/scenarios.py").read_text()
    table = source.partition("SCENARIOS:")[2].partition("}")[0]
    measured = (ROOT / PAGES[0]).read_text().partition("### Measured")[2]
    assert re.findall(r"^\| `([a-z-]+)`", measured, re.M) == re.findall(r'"([a-z-]+)":', table)
