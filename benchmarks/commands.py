"""Commands whose last line on stdout is one JSON object."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def json_of(
    what: str,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float,
) -> dict[str, Any]:
    """Run it, and take what it says.

    Raises:
        SystemExit: It failed; ``what`` and its last words are named.
    """
    ran = subprocess.run(
        argv, env=env, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    if ran.returncode:
        raise SystemExit(f"{what} ended with {ran.returncode}:\n{ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found
