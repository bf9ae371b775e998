"""JSON Schemas for ``kubeconform -strict``: ``python deploy/k8s/crd_schemas.py TARGET FILE...``.

Kubeconform reads a JSON Schema a kind; an operator brings its kinds as CustomResourceDefinitions.
The schema inside is OpenAPI with some words of Kubernetes' own, which are turned into what they mean.
A field that a kind does not have is refused, as the API server would not keep it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def strict(schema: Any) -> Any:
    """A schema that takes no field but those that are named."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"oneOf": [{"type": "string"}, {"type": "integer"}]}
    made = {
        key: {name: strict(one) for name, one in value.items()}
        if key == "properties"
        else strict(value)
        for key, value in schema.items()
        if not key.startswith("x-kubernetes-")
    }
    closed = "properties" in made and "additionalProperties" not in made
    if closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def schemas(definition: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and schema of each version that a definition serves."""
    names, group = definition["spec"]["names"], definition["spec"]["group"]
    for version in definition["spec"]["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}  # not the definition's to say
        kind = names["kind"].lower()
        yield f"{kind}-{group.split('.')[0]}-{version['name']}.json", schema


def write(target: Path, files: list[Path]) -> list[str]:
    """Write them all; their names."""
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for path in files:
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("kind") == "CustomResourceDefinition":
                for name, schema in schemas(document):
                    (target / name).write_text(json.dumps(schema))
                    written.append(name)
    return written


if __name__ == "__main__":
    done = write(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
    sys.stderr.write(f"{len(done)} schemas in {sys.argv[1]}\n")
