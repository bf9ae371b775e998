"""Tapeline's commands as real processes, in an environment of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_OURS = ("KAFKA_URL", "REDIS_URL", "SYMBOLS")


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without any setting of Tapeline's, plus ``variables``."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NT_") and name not in _OURS
    }
    path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH", ""))))
    return {**inherited, "PYTHONPATH": path, "COLUMNS": "200", "NO_COLOR": "1", **variables}


def tapeline(*arguments: str) -> list[str]:
    """The command line of ``tapeline ARGUMENTS``, installed or not."""
    return [sys.executable, "-m", "tapeline.cli", *arguments]


async def start(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
    """``tapeline ARGUMENTS`` with both outputs captured, in a process group of its own."""
    return await asyncio.create_subprocess_exec(
        *tapeline(*arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**variables),
        process_group=0,
        limit=1 << 22,
    )
