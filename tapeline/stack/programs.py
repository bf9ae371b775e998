"""Tapeline's own processes as children: how each is started, and what it is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tapeline.config_security import FILE_SUFFIX
from tapeline.stack.processes import ChildProcess, OnLine

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "simulator": ("-m", "streams.simulator"),
    "bridge": ("-m", "tapeline.cli", "bridge"),
    "worker": ("-m", "faust", "-A", "agents", "worker", "-l", "info", "--without-web"),
    "serve": ("-m", "tapeline.cli", "serve"),
}
"""What runs each of them, after the interpreter."""

_CHECKOUT = Path(__file__).parents[2]


def program(
    name: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    on_line: OnLine | None = None,
    label: str = "",
) -> ChildProcess:
    """One of `COMMANDS` as a child that is not started yet.

    Args:
        name: Which.
        arguments: More of them, behind the command's own.
        env: Variables that win over this process's.
        on_line: Told of each line it writes.
        label: What errors call it; its name if empty.
    """
    # What it is told itself, it need not look up in a file.
    told = {name + FILE_SUFFIX for name in env or ()}
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith("NT_TEST_") and k not in told
    }
    path = os.pathsep.join(filter(None, (str(_CHECKOUT), inherited.get("PYTHONPATH", ""))))
    return ChildProcess(
        label or name,
        [sys.executable, *COMMANDS[name], *arguments],
        # Found whether or not the distribution is installed, and before packages of the same
        # import names that belong to others.
        env={**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})},
        on_line=on_line,
    )
