"""Who imports whom, drawn from the syntax trees: nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "lua", "serving", "streams", "tables", "tapeline")


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    return {
        _dotted(path): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module of the product."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Dotted names of the modules that ``module`` imports, wherever in its text.

    ``from a import b`` is ``a.b`` where that is a module of the product, else ``a``; an import
    that names its module in a string counts as well.
    """
    return frozenset(_named(module))


def importers_of(package: str) -> set[str]:
    """Modules outside ``package`` that import from it."""
    return {
        module
        for module in modules()
        if not within(module, package) and any(within(name, package) for name in imports(module))
    }


def reachable(start: str) -> set[str]:
    """Modules of the product that importing ``start`` runs, packages on the way included."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        module = ahead.pop()
        if module in found or module not in modules():
            continue
        found.add(module)
        parts = module.split(".")
        ahead += [".".join(parts[:n]) for n in range(1, len(parts))]
        ahead += imports(module)
    return found


def within(module: str, package: str) -> bool:
    """Whether ``module`` is ``package`` or lies inside it."""
    return module == package or module.startswith(package + ".")


def _named(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                base = _absolute(module, source, level)
                for alias in names:
                    inner = f"{base}.{alias.name}"
                    yield inner if inner in modules() else base
            case ast.Call(
                func=ast.Attribute(attr="import_module")
                | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def _absolute(module: str, source: str | None, level: int) -> str:
    if level == 0:
        return source or ""
    is_package = modules()[module].name == "__init__.py"
    parts = module.split(".")[: None if is_package and level == 1 else -level + is_package]
    return ".".join([*parts, *([source] if source else [])])


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
