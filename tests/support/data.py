"""Where recordings are, for tests that need real ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _folder() -> Path | None:
    """``TAPELINE_DATA``, or a folder beside the checkout that holds ``data/INDEX.md``."""
    named = os.environ.get("TAPELINE_DATA")
    if named:
        return Path(named)
    found = sorted(_ROOT.parent.glob("*/data/INDEX.md"))
    return found[0].parent if found else None


def recording(path: str) -> Path:
    """A recording by its path below the data folder; skips the test where it is absent."""
    folder = _folder()
    if folder is None or not (folder / path).exists():
        pytest.skip(f"recording {path} is not on this machine (set TAPELINE_DATA)")
    return folder / path
