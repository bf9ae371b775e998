"""JSON Schemas of the public contracts, generated from the types that implement them.

``python -m tapeline.schemas DIR...`` writes them; a test compares the committed copies, which are
those of the documentation and those that readers serve.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import msgspec

from streams.events import event_schema
from tables.report import report_schema


def schemas() -> dict[str, dict[str, object]]:
    """Every schema by file name."""
    return {"md.events.v1.json": event_schema(), "report-1.1.json": report_schema()}


def render(schema: dict[str, object]) -> str:
    """A schema as it is committed."""
    text = msgspec.json.format(msgspec.json.encode(_cleaned(schema)), indent=2).decode()
    return text + "\n"


def _cleaned(value: Any) -> Any:
    """With docstrings unindented: from 3.13 on Python does that itself, before it not."""
    if isinstance(value, dict):
        return {
            key: inspect.cleandoc(one)
            if key == "description" and isinstance(one, str)
            else _cleaned(one)
            for key, one in value.items()
        }
    return [_cleaned(one) for one in value] if isinstance(value, list) else value


def write(folder: Path) -> None:
    """Write all schemas into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (folder / name).write_text(render(schema))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        write(Path(folder))
