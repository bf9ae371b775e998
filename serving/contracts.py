"""JSON Schemas as files of this package, and what of them OpenAPI takes in.

They are generated (`tapeline.schemas`) from the types that write the data. A reader does not
import those: numpy comes with them, and a reader starts in two thirds of the time without.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

FOLDER: Final = Path(__file__).parent / "schemas"
REPORT: Final = "report-1.1.json"
CACHED: Final = {"Cache-Control": "public, max-age=300"}


@cache
def schema_names() -> tuple[str, ...]:
    """Names of all schemas."""
    return tuple(sorted(path.name for path in FOLDER.glob("*.json")))


@cache
def schema_bytes(name: str) -> bytes:
    """One schema, as it is committed."""
    return (FOLDER / name).read_bytes()


@cache
def schema(name: str) -> dict[str, Any]:
    """One schema, read."""
    found: dict[str, Any] = orjson.loads(schema_bytes(name))
    return found


@cache
def report_fields() -> frozenset[str]:
    """Names of a report's own fields."""
    return frozenset(schema(REPORT)["$defs"]["Report"]["properties"])


def components(name: str, root: str, prefix: str = "") -> dict[str, Any]:
    """The definitions of a schema as components of an OpenAPI or AsyncAPI document.

    Args:
        name: Of the schema.
        root: Its whole, which keeps its name.
        prefix: Of all other definitions' names: they are many and ordinary.
    """
    defs: dict[str, Any] = schema(name)["$defs"]
    names = {one: one if one == root else prefix + one for one in defs}

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: f"#/components/schemas/{names[one.rsplit('/', 1)[-1]]}"
                if key == "$ref"
                else moved(one)
                for key, one in value.items()
            }
        return [moved(one) for one in value] if isinstance(value, list) else value

    return {names[one]: moved(body) for one, body in defs.items()}
