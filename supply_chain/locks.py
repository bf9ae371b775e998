"""The locks: requirements/*.txt, taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.markers import Marker
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
CORE: Final = ROOT / "requirements" / "core.txt"
"""What an image runs."""

PYTHONS: Final = ("3.11", "3.12", "3.13")
SYSTEMS: Final = (("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"))
"""Where this is supported; packages for others alone are in the lock and never installed."""

_PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)(?:\s*;\s*(.+))?")


@dataclass(frozen=True, order=True, slots=True)
class Pinned:
    """One package of a lock.

    Attributes:
        name: As registries compare names.
        hashes: SHA-256 of its files, any of which may be installed.
        marker: When it is installed; empty for always.
    """

    name: str
    version: str
    hashes: tuple[str, ...] = ()
    marker: str = ""

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"

    @property
    def for_us(self) -> bool:
        """Whether some supported platform installs it."""
        if not self.marker:
            return True
        marker = Marker(self.marker)
        return any(
            marker.evaluate(
                {
                    "python_version": python,
                    "python_full_version": f"{python}.0",
                    "sys_platform": platform,
                    "platform_system": system,
                    "os_name": os_name,
                    "platform_python_implementation": "CPython",
                    "implementation_name": "cpython",
                }
            )
            for python in PYTHONS
            for platform, system, os_name in SYSTEMS
        )


def read_lock(path: Path) -> list[Pinned]:
    """All packages of a lock, in its order.

    Raises:
        ValueError: A line is no pinned package with hashes.
    """
    return list(_read(path.read_text(encoding="utf-8"), path.name))


def _read(text: str, name: str) -> Iterator[Pinned]:
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        head, *hashes = line.split(" --hash=sha256:")
        match = _PINNED.fullmatch(head.strip())
        if match is None or not hashes:
            raise ValueError(f"{name}: {head.strip()!r} is not pinned, or has no hash")
        yield Pinned(
            canonicalize_name(match[1]),
            match[2],
            tuple(sorted(each.strip() for each in hashes)),
            (match[3] or "").strip(),
        )
