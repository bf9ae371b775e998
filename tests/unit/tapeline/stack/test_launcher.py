"""What stands between fork and exec, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tapeline.stack import processes

# Without -I and -S, so that coverage can see it.
LAUNCH = [sys.executable, str(processes._LAUNCHER)]


def test_the_process_becomes_the_program() -> None:
    command = [
        *LAUNCH,
        str(os.getpid()),
        "0",
        sys.executable,
        "-c",
        "import os; print(os.getpid())",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert int(child.stdout.read()) == child.pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_a_parent_that_is_gone_already_is_noticed() -> None:
    """It died between the fork and the request for its death signal, which never fires."""
    somebody_else = "1"
    done = subprocess.run(
        [*LAUNCH, somebody_else, "0", "/bin/echo", "ran"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "the parent is gone" in done.stderr


def test_a_program_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        [*LAUNCH, str(os.getpid()), str(1 << 30), "/nonexistent/program"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "/nonexistent/program: No such file or directory"
