from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import coverage_gate
from tests.support.coverage_gate import counts, rows
from tests.support.imports import ROOT, importers_of, modules

FULL = (100, 100)


def failing(measured: dict[str, tuple[int, int]], callers: tuple[str, ...] = ()) -> set[str]:
    return {row.name for row in rows(measured, callers) if not row.passed}


def test_full_coverage_passes() -> None:
    assert failing({"tables/book.py": FULL, "streams/venues/base.py": FULL}) == set()


@pytest.mark.parametrize(
    ("file", "least"),
    [("tables/book.py", 90), ("streams/events.py", 95), ("serving/app.py", 70)],
)
def test_each_package_has_its_minimum(file: str, least: int) -> None:
    assert failing({file: (least, 100)}) == set()
    assert failing({file: (least - 1, 100)}) == {file.split("/", maxsplit=1)[0]}


def test_callers_of_lua_are_a_group_across_packages() -> None:
    measured = {"agents/a.py": (80, 100), "agents/b.py": FULL, "serving/c.py": FULL}
    assert failing(measured) == set()
    assert failing(measured, ("agents/a.py",)) == {"callers of lua"}


def test_a_package_inside_a_good_package_can_fail() -> None:
    measured = {"streams/events.py": (2000, 2000), "streams/venues/new/feed.py": (10, 100)}
    assert "streams/venues/new" in failing(measured)


def test_almost_is_not_enough() -> None:
    row = next(r for r in rows({"tables/book.py": (89_999, 100_000)}, ()) if r.name == "tables")
    assert not row.passed
    assert " 89.9 " in str(row)


def test_the_command_prints_the_table_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"summary": {"covered_lines": 1, "num_statements": 10}}
    report = tmp_path / "coverage.json"
    report.write_text(json.dumps({"files": {"tables/book.py": entry}}))
    assert coverage_gate.main(report) == 1
    out, err = capsys.readouterr()
    assert "tables" in out
    assert "under the minimum: tables" in err


def test_reads_what_coverage_writes() -> None:
    summary = {"covered_lines": 3, "num_statements": 4, "percent_covered": 75.0}
    assert counts({"files": {"lua/keys.py": {"summary": summary}}}) == {"lua/keys.py": (3, 4)}


def test_the_callers_of_lua_are_found() -> None:
    found = importers_of("lua")
    assert "agents.coordination.publisher" in found
    assert all((ROOT / modules()[name]).is_file() for name in found)
