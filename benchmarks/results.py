"""What benchmarks found, kept from run to run until the documentation is written of it."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.mix import CACHE

Main = Callable[[list[str]], int]

PARTIAL = "--only"
"""An option that leaves things out: what was found with it is no whole result."""


def path_of(name: str) -> Path:
    """Where the newest result of a benchmark is kept."""
    return CACHE / "results" / f"{name}.json"


def run_and_keep(name: str, command: str, main: Main, argv: list[str]) -> int:
    """Run a benchmark, keep its JSON, and print it where it was asked for; its exit status."""
    said = io.StringIO()
    asked = "--json" in argv
    with contextlib.redirect_stdout(said):
        status = main(argv if asked else [*argv, "--json"])
    lines = said.getvalue().splitlines()
    if asked and lines:
        print(lines[-1])
    if not lines or PARTIAL in argv:
        return status
    found = json.loads(lines[-1])
    kept = found if isinstance(found, dict) else {"rows": found}
    # No folder of this machine: the names of recordings say enough.
    words = [_without_folders(word) for word in argv if word != "--json"]
    kept["command"] = " ".join(["python -m benchmarks", command, *words])
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return status


def _without_folders(word: str) -> str:
    """``a/b``, or ``venue=a/b,c/d``, as the names of files alone."""
    venue, equals, files = word.rpartition("=")
    return f"{venue}{equals}" + ",".join(Path(file).name for file in files.split(","))


def kept(name: str) -> dict[str, Any] | None:
    """The newest result; None if there is none."""
    path = path_of(name)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def without_paths(text: str) -> str:
    """A program's words without folders of the machine it ran on."""
    return re.sub(r"(?<![\w.])(/[\w.+-]+)+/", "", text)
