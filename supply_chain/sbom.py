"""The bill of materials of what an image runs: CycloneDX 1.6, the same bytes for the same lock."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply_chain.licences import Licensed
from supply_chain.locks import ROOT

SPEC: Final = "1.6"
VENDOR: Final = ROOT / "serving" / "dashboard" / "static" / "vendor"
_SIMPLE = re.compile(r"[A-Za-z0-9.+-]+")


def project() -> Mapping[str, Any]:
    """The ``[project]`` of pyproject.toml."""
    found: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def bill(packages: Sequence[Licensed], needs: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """The document.

    Args:
        packages: All there are, with their licences.
        needs: By name: names of what it requires; ``""`` stands for the project itself.
    """
    ours = project()
    root = f"pkg:pypi/{ours['name']}@{ours['version']}"
    refs: dict[str, list[str]] = {}
    for each in packages:
        refs.setdefault(each.package.name, []).append(each.package.purl)
    graph: list[dict[str, Any]] = [
        {
            "ref": ref,
            "dependsOn": sorted({r for n in needs.get(name, ()) for r in refs.get(n, ())}),
        }
        for name, own in [("", [root]), *sorted(refs.items())]
        for ref in own
    ]
    script = vendored()
    graph[0]["dependsOn"] = sorted([*graph[0]["dependsOn"], script["bom-ref"]])
    body = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": ours["name"],
                "version": ours["version"],
                "purl": root,
                "licenses": [{"license": {"id": ours["license"]}}],
            }
        },
        "components": [*(_component(each) for each in sorted(packages)), script],
        "dependencies": [*graph, {"ref": script["bom-ref"], "dependsOn": []}],
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        # By what it holds: no time and no chance is in it.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        **body,
    }


def _component(each: Licensed) -> dict[str, Any]:
    package = each.package
    if each.licence.startswith("LicenseRef-"):
        licence: dict[str, Any] = {"license": {"name": each.licence.removeprefix("LicenseRef-")}}
    elif _SIMPLE.fullmatch(each.licence):
        licence = {"license": {"id": each.licence}}
    else:
        licence = {"expression": each.licence}
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "licenses": [licence],
        # Of each file that the lock lets be installed: one a platform.
        "hashes": [{"alg": "SHA-256", "content": value} for value in package.hashes],
    }
    if package.marker:
        found["properties"] = [{"name": "tapeline:marker", "value": package.marker}]
    return found


def vendored() -> dict[str, Any]:
    """The dashboard's script of others, by the manifest beside it."""
    told = json.loads((VENDOR / "manifest.json").read_text(encoding="utf-8"))
    purl = f"pkg:npm/{told['package']}@{told['version']}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": told["package"],
        "version": told["version"],
        "purl": purl,
        "licenses": [{"license": {"id": told["licence"]}}],
        "hashes": [{"alg": "SHA-256", "content": told["sha256"][f"{told['package']}.mjs"]}],
    }


def needs_of(names: Iterable[str]) -> dict[str, set[str]]:
    """What each requires, by its own metadata; extras that the lock was made with included."""
    among = set(names)
    ours = project()
    extras = (text for name in ("mcp", "otel") for text in ours["optional-dependencies"][name])
    found = {"": among & _names([*ours["dependencies"], *extras])}
    for name in among:
        try:
            told = requires(name) or ()
        except PackageNotFoundError:
            told = ()
        found[name] = among & _names(told)
    return found


def _names(requirements: Iterable[str]) -> set[str]:
    return {str(canonicalize_name(Requirement(text).name)) for text in requirements}


def rendered(document: Mapping[str, Any]) -> str:
    """As it is written."""
    return json.dumps(document, indent=1) + "\n"
