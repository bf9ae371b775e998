"""Prometheus' own checks of what is shipped in ``deploy/prometheus``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.alerts.rules import FOLDER
from tests.alerts.watch import find

promtool = pytest.mark.skipif(find("promtool") is None, reason="no promtool on this machine")


def run(*argv: str, cwd: Path = FOLDER) -> tuple[int, str]:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=50, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A copy, to be changed."""
    shutil.copytree(FOLDER, tmp_path / "prometheus")
    return tmp_path / "prometheus"


@promtool
@pytest.mark.slow
@pytest.mark.parametrize("what", [("config", "prometheus.yml"), ("rules", "rules.yml")])
def test_promtool_finds_nothing_wrong(what: tuple[str, str]) -> None:
    kind, name = what
    status, said = run("promtool", "check", kind, name)
    assert status == 0, said
    assert "SUCCESS" in said


@promtool
@pytest.mark.slow
def test_the_rules_pass_their_unit_tests() -> None:
    files = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("tests/*.yml"))
    status, said = run("promtool", "test", "rules", *files)
    assert status == 0, said
    assert said.count("SUCCESS") == len(files) == 6


@promtool
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "was", "becomes"),
    [
        ("processes", "or absent(nt_node_heartbeat)", ""),
        (
            "coordination",
            "sum(rate(nt_lease_conflicts_total[5m]))",
            "sum(nt_lease_conflicts_total)",
        ),
        ("coordination", "nt_hrw_rebalances:max_rate5m > 0.01", "nt_hrw_rebalances:max_rate5m > 0"),
        ("freshness", "tapeline_lag_seconds:max > 10", "tapeline_lag_seconds:max > 0.5"),
        ("freshness", "ratio_rate2m > 0.01", "ratio_rate2m > 0.5"),
    ],
)
def test_a_change_of_a_rule_fails_a_unit_test(
    shipped: Path, name: str, was: str, becomes: str
) -> None:
    """The tests of rules test."""
    path = shipped / "rules.yml"
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, becomes))
    status, said = run("promtool", "test", "rules", f"tests/{name}.yml", cwd=shipped)
    assert status != 0, said
    assert "FAILED" in said


@pytest.mark.skipif(shutil.which("amtool") is None, reason="no amtool on this machine")
@pytest.mark.slow
def test_amtool_finds_nothing_wrong() -> None:
    status, said = run("amtool", "check-config", "alertmanager.yml")
    assert status == 0, said
