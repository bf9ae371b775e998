"""The locks against known weaknesses: by files where there are, else by a service, else not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.utils import canonicalize_name

from supply_chain.advisories import Finding, findings, read_advisories
from supply_chain.locks import ROOT, Pinned

TOOL: Final = ROOT / ".cache" / "venv-tools" / "bin" / "pip-audit"
SERVICE_S: Final = 180.0
_FOUND: Final = 1


class Audited(NamedTuple):
    """What came of it.

    Attributes:
        by: What was asked, in words; empty where nothing could be.
        why_not: Why not, then.
    """

    by: str
    found: Sequence[Finding] = ()
    why_not: str = ""


def by_files(packages: Collection[Pinned], path: Path) -> Audited:
    """By advisories in files."""
    try:
        found, count = findings(packages, read_advisories(path))
    except (OSError, ValueError) as error:
        return Audited("", why_not=f"{path}: {error}")
    if not count:
        return Audited("", why_not=f"{path} holds no advisory")
    return Audited(f"{count} advisories in {path.name}", found)


def by_service(packages: Collection[Pinned], lock: Path, tool: Path = TOOL) -> Audited:
    """By ``pip-audit``, which asks a service on the network about each package of ``lock``."""
    if not tool.is_file():
        return Audited("", why_not="pip-audit is not installed: requirements/bench.sh tools")
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(
            [str(tool), "-r", str(lock), *options],
            capture_output=True,
            text=True,
            timeout=SERVICE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Audited("", why_not=f"no answer within {SERVICE_S:g} s")
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return Audited("", why_not=lines[-1][:300] if lines else f"status {done.returncode}")
    return Audited("pip-audit", _told(answer, {p.name: p for p in packages}))


def _told(answer: Any, by_name: dict[str, Pinned]) -> list[Finding]:
    return [
        Finding(
            by_name[canonicalize_name(each["name"])],
            weakness["id"],
            tuple(weakness.get("aliases", ())),
            (weakness.get("description") or "")[:200],
            tuple(weakness.get("fix_versions", ())),
        )
        for each in answer["dependencies"]
        for weakness in each.get("vulns", ())
    ]
