"""The arrows between packages, and what no file of the project may say."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.imports import (
    PACKAGES,
    ROOT,
    imports,
    modules,
    reachable,
    tree,
    within,
)

LINES_MAX = 500

# Clocks, loops, sockets, processes, the environment: what would make the same records give
# another report. `datetime` may format a time that was given; that it is not asked for one is
# checked below.
IMPURE = {
    "asyncio", "http", "logging", "os", "random", "secrets", "select", "selectors", "signal",
    "socket", "ssl", "subprocess", "threading", "time", "urllib", "uuid",
}  # fmt: skip
PURE_LIBRARIES = {"msgspec", "numpy"}
ASKS_THE_CLOCK = {"now", "utcnow", "today"}

PUBLISHER = "agents.coordination.publisher"

SKIPPED_DIRECTORIES = {
    ".cache", ".coverage", ".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv",
    "__pycache__", "build", "dist", "lib", "node_modules", "target",
}  # fmt: skip
BINARY_SUFFIXES = {".gz", ".ico", ".parquet", ".png", ".pyc", ".woff2", ".zst"}


def first_party(module: str) -> set[str]:
    """What ``module`` imports of the product."""
    return {name for name in imports(module) if name.split(".")[0] in PACKAGES}


def inside(package: str) -> list[str]:
    """The modules of ``package``."""
    return [module for module in modules() if within(module, package)]


def strays(package: str, *allowed: str) -> dict[str, set[str]]:
    """Modules of ``package`` with what they import beyond itself and ``allowed``."""
    seen = (package, *allowed)
    found = {
        module: {name for name in first_party(module) if not any(within(name, a) for a in seen)}
        for module in inside(package)
    }
    return {module: names for module, names in found.items() if names}


def test_every_package_is_there() -> None:
    assert {name for name in modules() if "." not in name} == set(PACKAGES)


def test_tables_see_records_ladder_and_errors_only() -> None:
    """Records are those of two topics: what is applied, and the windows that they are merged into.

    The ladder, one side of a book, is shared with the assemblers: one piece, wrong in both or none.
    """
    records = ("streams.events", "streams.merged")
    assert strays("tables", *records, "streams.ladder", "tapeline.errors") == {}


def test_tables_reach_no_clock_no_socket_no_server() -> None:
    """Through whatever they import, too."""
    for module in set().union(*(reachable(name) for name in inside("tables"))):
        foreign = {name.split(".")[0] for name in imports(module)} - set(PACKAGES)
        libraries = foreign - set(sys.stdlib_module_names) - {"__future__"}
        assert not foreign & IMPURE, module
        assert libraries <= PURE_LIBRARIES, module


def test_tables_never_ask_for_the_time() -> None:
    for module in inside("tables"):
        asked = {
            node.attr
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Attribute) and node.attr in ASKS_THE_CLOCK
        }
        assert not asked, module


def test_streams_never_see_tables_or_agents() -> None:
    assert strays("streams", "tapeline", "lua") == {}


def test_serving_runs_without_the_worker() -> None:
    assert strays("serving", "tables.report", "tapeline", "lua") == {}
    for module in inside("serving"):
        assert not {name for name in reachable(module) if within(name, "agents")}, module


def test_lua_sees_errors_only() -> None:
    assert strays("lua", "tapeline.errors") == {}


def test_agents_see_no_reader() -> None:
    assert strays("agents", "lua", "streams", "tables", "tapeline") == {}


@pytest.mark.parametrize("name", ["errors", "config", "clock", "logging", "http_probe"])
def test_the_ground_floor_stands_alone(name: str) -> None:
    """Every package imports these, so they import none."""
    others = {other for other in first_party(f"tapeline.{name}") if not within(other, "tapeline")}
    assert others == set()


def test_no_package_reaches_what_stands_above_it() -> None:
    """Not through `tapeline` either."""
    below = {
        "lua": {"agents", "serving", "streams", "tables"},
        "streams": {"agents", "serving", "tables"},
        "tables": {"agents", "lua", "serving"},
    }
    for package, above in below.items():
        for module in inside(package):
            tops = {name.split(".")[0] for name in reachable(module)}
            assert not tops & above, module


def test_only_the_publisher_writes_reports() -> None:
    writers = {
        module
        for module in modules()
        if not within(module, "lua") and module != PUBLISHER and any(publishing(tree(module)))
    }
    assert writers == set()
    assert any(publishing(tree(PUBLISHER))), "the publisher is not where this test looks for it"


def publishing(module: ast.Module) -> Iterator[ast.AST]:
    """Places that run a publish script, or name one to load it."""
    for node in ast.walk(module):
        match node:
            case ast.Attribute(attr="publish_many" | "publish_tick"):
                yield node
            case ast.Attribute(
                attr="publish",
                value=ast.Name(id="scripts") | ast.Attribute(attr="scripts" | "_scripts"),
            ):
                yield node
            case ast.Call(
                func=ast.Name(id="load_script") | ast.Attribute(attr="load_script"),
                args=[ast.Constant(value="publish" | "publish_tick"), *_],
            ):
                yield node
            case ast.Subscript(slice=ast.Constant(value="publish" | "publish_tick")):
                yield node


# --- what no file may say ------------------------------------------------------------------------


def files() -> list[Path]:
    """Every text file of the project, whatever version control makes of it."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED_DIRECTORIES]
        found += [Path(folder, name) for name in names]
    return [path for path in found if path.suffix not in BINARY_SUFFIXES]


# Put together here, so that this file does not say them either.
MACHINE_PATHS = tuple(f"/{name}/" for name in ("work", "root", "home"))
REGISTRIES = tuple(f"{name}.org" for name in ("pypi", "files.pythonhosted"))
SHARED = "/".join(["..", "shared"])


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        pytest.param(MACHINE_PATHS, (), id="machine-paths"),
        pytest.param(REGISTRIES, (), id="registries"),
        pytest.param((SHARED,), ("tests/support/data.py",), id="data-folder"),
    ],
)
def test_no_file_says(said: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    guilty = []
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8", errors="replace")
        guilty += [f"{name}: {word}" for word in said if word in text and name not in allowed]
    assert guilty == []


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in files()
        if path.suffix in {".py", ".lua"}
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert long == {}
