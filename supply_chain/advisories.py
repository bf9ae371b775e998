"""Known weaknesses in the OSV format, from files: no network is asked."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from supply_chain.locks import Pinned


class Finding(NamedTuple):
    """A weakness of a version that the lock has.

    Attributes:
        id: The advisory's, such as ``GHSA-...`` or ``PYSEC-...``.
        aliases: Other names of it, such as ``CVE-...``.
        fixed: Versions without it, as far as they are told.
    """

    package: Pinned
    id: str
    aliases: tuple[str, ...]
    summary: str
    fixed: tuple[str, ...]


def read_advisories(path: Path) -> Iterator[Mapping[str, Any]]:
    """All advisories of a file (one, a list, or one a line), a folder, or a zip of such files.

    Raises:
        OSError: There is no such file, or it can't be read.
        ValueError: It holds something else.
    """
    if path.is_dir():
        for each in sorted(path.rglob("*.json")):
            yield from _parsed(each.read_bytes())
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".json"):
                    yield from _parsed(archive.read(name))
    else:
        yield from _parsed(path.read_bytes())


def _parsed(content: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        found = json.loads(content)
    except json.JSONDecodeError:
        found = [json.loads(line) for line in content.splitlines() if line.strip()]
    for each in found if isinstance(found, list) else [found]:
        if not isinstance(each, dict) or "id" not in each:
            raise ValueError("no advisory in the OSV format")
        yield each


def findings(
    packages: Iterable[Pinned], advisories: Iterable[Mapping[str, Any]]
) -> tuple[list[Finding], int]:
    """What concerns these versions, and how many advisories were looked at."""
    by_name: dict[str, list[Pinned]] = {}
    for package in packages:
        by_name.setdefault(package.name, []).append(package)
    found, count = [], 0
    for advisory in advisories:
        count += 1
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", ()):
            about = affected.get("package", {})
            if about.get("ecosystem") != "PyPI":
                continue
            named = by_name.get(canonicalize_name(about.get("name", "")), ())
            found += [
                _finding(package, advisory, affected)
                for package in named
                if _concerns(affected, package.version)
            ]
    return sorted(set(found)), count


def _finding(package: Pinned, advisory: Mapping[str, Any], affected: Mapping[str, Any]) -> Finding:
    events = [e for r in affected.get("ranges", ()) for e in r.get("events", ())]
    return Finding(
        package,
        str(advisory["id"]),
        tuple(sorted(advisory.get("aliases", ()))),
        str(advisory.get("summary") or advisory.get("details") or "")[:200],
        tuple(str(e["fixed"]) for e in events if "fixed" in e),
    )


def _concerns(affected: Mapping[str, Any], version: str) -> bool:
    """Named among its versions, or inside one of its ranges."""
    if version in affected.get("versions", ()):
        return True
    return any(
        _inside(each.get("events", ()), Version(version))
        for each in affected.get("ranges", ())
        if each.get("type") == "ECOSYSTEM"
    )


def _inside(events: Iterable[Mapping[str, str]], version: Version) -> bool:
    """Walks the events in the order of their versions: the last that is not above decides."""
    placed = []
    for event in events:
        for kind, text in event.items():
            if kind not in {"introduced", "fixed", "last_affected"}:
                continue
            try:
                # "0" is below all versions.
                placed.append((Version("0.dev0") if text == "0" else Version(text), kind))
            except InvalidVersion:
                return True  # nobody can tell: better looked at once too often
    state = False
    for at, kind in sorted(placed):
        if kind == "introduced" and at <= version:
            state = True
        elif (kind == "fixed" and at <= version) or (kind == "last_affected" and at < version):
            state = False
    return state
