"""The garbage collector of a reader: what is there from the start is never looked at again."""

from __future__ import annotations

import gc
import subprocess
import sys

from tapeline.collector import OLDER
from tests.support import commands


def test_what_is_there_from_the_start_is_passed_over() -> None:
    """In a process of its own: it changes the collector of all of it."""
    script = (
        "import gc, serving.app;"
        "from tapeline.collector import relax;"
        "before = len(gc.get_objects()); relax(5_000);"
        "print(before > 10_000 > len(gc.get_objects()) and gc.get_freeze_count() > 10_000,"
        " gc.get_threshold())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=commands.environment(),
        timeout=30,
    )
    assert done.stdout.strip() == f"True {(5_000, *OLDER)}"
    assert gc.get_threshold()[1:] != OLDER
