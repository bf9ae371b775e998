"""Builds the fast lanes beside their sources, where there is a C compiler.

Without one, or without Python's headers, everything works the same and slower: the build says so
and goes on.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = (
    Path("streams") / "venues" / "binance" / "_wire.c",
    Path("tables") / "_lane.c",
)


def build(root: Path, source: Path) -> tuple[Path, str]:
    """Compile one of them.

    Returns:
        The extension module's file, relative to the project, and why it can't be built, or ''.
    """
    target = source.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    link = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    made = root / target.with_name(f"{target.name}.{os.getpid()}")
    command = [
        *shlex.split(compiler),
        *("-std=c11", "-O2", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", *link),
        f"-I{sysconfig.get_path('include')}",
        *(str(root / source), "-o", str(made)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        made.unlink(missing_ok=True)
        (root / target).unlink(missing_ok=True)  # of another source
        return target, next((line for line in reason.splitlines() if "error" in line), reason)
    made.replace(root / target)
    return target, ""


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling's way to call `build`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put what was built into a wheel, whose tag then names interpreter and platform."""
        for source in SOURCES:
            target, reason = build(Path(self.root), source)
            if reason:
                self.app.display_warning(f"without the fast lane {source}: {reason}")
            elif version != "editable":
                build_data["force_include"][str(Path(self.root) / target)] = str(target)
                build_data["pure_python"] = False
                build_data["infer_tag"] = True
