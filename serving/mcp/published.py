"""The contract as a client sees it: ``python -m serving.mcp.published docs/api/mcp.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from serving.mcp import prompts
from serving.mcp.resources import FIXED, TEMPLATES
from serving.mcp.server import INSTRUCTIONS, tools

BYTES_MAX: Final = 6000
"""What an agent has in its context before its first question."""


def contract() -> dict[str, Any]:
    """Everything that is listed and never changes while a server runs."""
    return {
        "instructions": INSTRUCTIONS,
        "tools": _dumped(tools()),
        "resources": _dumped(FIXED),
        "resourceTemplates": _dumped(TEMPLATES),
        "prompts": _dumped(prompts.listed()),
    }


def rendered() -> str:
    """As it is committed."""
    return json.dumps(contract(), indent=1, ensure_ascii=False) + "\n"


def _dumped(models: Any) -> list[Any]:
    return [_one(model) for model in models]


def _one(model: BaseModel) -> Any:
    return model.model_dump(by_alias=True, exclude_none=True, mode="json")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(rendered())
