"""Writes the readers' contracts into the documentation: ``python -m serving.contract_docs DIR``.

OpenAPI in both renderings, AsyncAPI, and a page for people made of the former. A test compares the
committed copies.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis

from serving.app import create_api
from serving.asyncapi import asyncapi
from serving.openapi30 import downgraded
from tapeline.config import load_settings

_INTRO = """\
# HTTP reference

Generated from `openapi.json` by `make docs`; how to ask, and with which key, is in
[http.md](../http.md). Every error is `application/problem+json`, and its `type` a page of the
reader that says what to do.
"""


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 of a reader with stock settings."""
    document: dict[str, Any] = create_api(load_settings({}), Redis()).openapi()
    return document


def rendered() -> dict[str, str]:
    """Every document by file name."""
    document = openapi()
    return {
        "openapi.json": _text(document),
        "openapi-3.0.json": _text(downgraded(document)),
        "asyncapi.json": _text(asyncapi()),
        "reference.md": reference(document),
    }


def _text(document: dict[str, Any]) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"


# --- the page ------------------------------------------------------------------------------------


def reference(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document, the same of both renderings."""
    parts = [_INTRO]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(f"{method.upper()} {path}", operation, document))
    return "\n".join(parts)


def _operation(title: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    lines = [f"## `{title}`", "", operation.get("description", "").strip(), ""]
    parameters = operation.get("parameters", [])
    if parameters:
        lines += ["| parameter | in | needed | what it is |", "|---|---|---|---|"]
        lines += [
            f"| `{one['name']}` | {one['in']} | {'yes' if one.get('required') else 'no'} "
            f"| {_cell(one.get('description', '') or one['schema'].get('description', ''))} |"
            for one in parameters
        ]
        lines.append("")
    lines += ["| status | answer | fields |", "|---|---|---|"]
    lines += [
        f"| {status} | {_cell(answer['description'])} | {_fields(answer, document)} |"
        for status, answer in operation["responses"].items()
    ]
    return "\n".join(lines) + "\n"


def _fields(answer: dict[str, Any], document: dict[str, Any]) -> str:
    """Names of the fields on top of an answer."""
    for media in answer.get("content", {}).values():
        found = _properties(media.get("schema", {}), document)
        if found:
            return ", ".join(f"`{name}`" for name in found)
    return ""


def _properties(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return _properties(document["components"]["schemas"][name], document)
    if "properties" in schema:
        return list(schema["properties"])
    for choice in ("anyOf", "allOf", "oneOf"):
        for one in schema.get(choice, []):
            found = _properties(one, document)
            if found:
                return found
    return []


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def write(folder: Path) -> None:
    """Write all into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
