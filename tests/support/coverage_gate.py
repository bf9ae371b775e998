"""The coverage gate: ``python -m tests.support.coverage_gate`` after the tests.

Line coverage, child processes included. Exit status 1 where a group is under its minimum.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.support.imports import PACKAGES, ROOT, importers_of, modules

REPORT = ROOT / ".cache" / "coverage" / "coverage.json"

PACKAGE_MIN = 70.0
CALLERS_OF_LUA = "callers of lua"
GROUP_MIN = {
    "tables": 90.0,
    CALLERS_OF_LUA: 90.0,
    "streams": 95.0,
    "serving/dashboard": 95.0,
    "serving/hub": 95.0,
    "serving/status": 95.0,
}


@dataclass(frozen=True)
class Row:
    """One line of the gate's table."""

    name: str
    covered: int
    statements: int
    minimum: float

    @property
    def percent(self) -> float:
        """Covered lines in percent; all of none is all."""
        return 100.0 * self.covered / self.statements if self.statements else 100.0

    @property
    def passed(self) -> bool:
        """Whether the minimum is reached, without rounding up."""
        return self.percent >= self.minimum

    def __str__(self) -> str:
        # Rounded down, so that 89.99 does not show as a failing 90.0.
        shown = int(self.percent * 10) / 10
        verdict = "" if self.passed else "  <-- under its minimum"
        return f"{self.name:<28}{self.covered:>7}/{self.statements:<7}{shown:>6}  >= {self.minimum:g}{verdict}"


Counts = Mapping[str, tuple[int, int]]
"""(covered, statements) by file, as a path from the root."""


def counts(report: Mapping[str, Mapping[str, object]]) -> Counts:
    """What coverage's JSON report says of each file."""
    found = {}
    for name, entry in report["files"].items():
        summary = entry["summary"]  # type: ignore[index]
        found[name.replace("\\", "/")] = (summary["covered_lines"], summary["num_statements"])
    return found


def rows(measured: Counts, lua_callers: Iterable[str]) -> list[Row]:
    """The table: groups with minima of their own, then every package.

    Args:
        measured: Of each file.
        lua_callers: Files that import `lua`.
    """
    # Counted by the module, wherever it lies: whoever calls a script handles its refusals.
    callers = set(lua_callers)
    table = [_row(CALLERS_OF_LUA, callers & measured.keys(), measured, GROUP_MIN[CALLERS_OF_LUA])]
    folders = {str(p) for name in measured for p in PurePosixPath(name).parents if str(p) != "."}
    for folder in sorted(folders | set(PACKAGES)):
        inside = [name for name in measured if name.startswith(folder + "/")]
        table.append(_row(folder, inside, measured, GROUP_MIN.get(folder, PACKAGE_MIN)))
    return table


def _row(name: str, files: Iterable[str], measured: Counts, minimum: float) -> Row:
    pairs = [measured[file] for file in files]
    return Row(name, sum(p[0] for p in pairs), sum(p[1] for p in pairs), minimum)


def main(path: Path = REPORT) -> int:
    """Print the table; 0 where every row passed."""
    measured = counts(json.loads(path.read_text()))
    callers = [modules()[name].relative_to(ROOT).as_posix() for name in importers_of("lua")]
    table = rows(measured, callers)
    print("line coverage, percent")
    for row in table:
        print(f"  {row}")
    failed = [row.name for row in table if not row.passed]
    if failed:
        print(f"coverage gate: under the minimum: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
