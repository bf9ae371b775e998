"""What Python would print by itself is a log line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.commands import environment

SETUP = """
import asyncio, sys, threading, warnings
from tapeline.config import load_settings
from tapeline.uncaught import configure_process
configure_process(load_settings(), "worker")
"""


def lines_of(code: str, **variables: str) -> tuple[int, list[dict[str, Any]]]:
    """Status of a process and all that it writes to stderr, each line as JSON."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", SETUP + code],
        env=environment(NT_NODE_ID="n1", **variables),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    for line in lines:
        assert line["node_id"] == "n1"
        assert {"timestamp", "level", "logger", "event", "component"} <= line.keys()
    return done.returncode, lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "status", "event", "words"),
    [
        ("raise ValueError('first\\nsecond')", 1, "process.uncaught", "ValueError: first\nsecond"),
        (
            "t = threading.Thread(target=lambda: 1 / 0, name='t9'); t.start(); t.join()",
            0,
            "process.uncaught",
            "ZeroDivisionError",
        ),
        (
            "class A:\n  def __del__(self): raise OSError('redis://u:hush@h/0')\na = A(); del a",
            0,
            "process.unraisable",
            "OSError: redis://u:***@h/0",
        ),
        ("warnings.warn('odd')", 0, "UserWarning: odd", ""),
        (
            "async def f():\n"
            "  asyncio.get_running_loop().call_soon(lambda: 1 / 0)\n"
            "  await asyncio.sleep(0.05)\n"
            "asyncio.run(f())",
            0,
            "Exception in callback",
            "ZeroDivisionError",
        ),
        ("raise KeyboardInterrupt", 130, "process.interrupted", ""),
    ],
    ids=["main", "thread", "destructor", "warning", "loop", "interrupt"],
)
def test_what_nobody_catches_is_a_line(code: str, status: int, event: str, words: str) -> None:
    returned, lines = lines_of(code)
    found = [line for line in lines if event in line["event"]]
    assert len(found) == 1, lines
    assert words in found[0].get("exception", "")
    assert returned in {status, -2}


@pytest.mark.slow
def test_a_variable_that_is_no_setting_is_a_line() -> None:
    """With the nearest that is one."""
    status, lines = lines_of("", NT_LOGLEVEL="INFO")
    assert status == 0
    (line,) = lines
    assert (line["event"], line["name"], line["nearest"]) == (
        "setting.unknown",
        "NT_LOGLEVEL",
        "NT_LOG_LEVEL",
    )
