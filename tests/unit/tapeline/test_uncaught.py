"""What Python would print by itself is a log line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.commands import environment

pytestmark = pytest.mark.slow

SETUP = """
import asyncio, threading, warnings
from tapeline.config import load_settings
from tapeline.uncaught import configure_process
configure_process(load_settings(), "worker")
"""

EVERYTHING = """
warnings.warn("odd")
thread = threading.Thread(target=lambda: 1 / 0, name="t9")
thread.start()
thread.join()

class Ends:
    def __del__(self):
        raise OSError("redis://u:hush@h/0")

Ends()

async def late():
    asyncio.get_running_loop().call_soon(lambda: [][0])
    await asyncio.sleep(0.01)

asyncio.run(late())
raise ValueError("first\\nsecond")
"""


def lines_of(code: str, **variables: str) -> tuple[int, list[dict[str, Any]]]:
    """Status of a process and all that it writes to stderr, each line as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", SETUP + code],
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


def test_what_nobody_catches_is_a_line() -> None:
    """Warnings, threads, destructors, callbacks, and what ends the process; secrets are masked."""
    status, lines = lines_of(EVERYTHING, NT_LOGLEVEL="INFO")
    assert status == 1
    setting, warning, thread, destructor, callback, main = lines
    assert (setting["event"], setting["name"], setting["nearest"]) == (
        "setting.unknown",
        "NT_LOGLEVEL",
        "NT_LOG_LEVEL",
    )
    assert "UserWarning: odd" in warning["event"]
    assert (thread["event"], thread["level"], thread["thread"]) == (
        "process.uncaught",
        "critical",
        "t9",
    )
    assert "ZeroDivisionError" in thread["exception"]
    assert destructor["event"] == "process.unraisable"
    assert "OSError: redis://u:***@h/0" in destructor["exception"]
    assert callback["event"].startswith("Exception in callback")
    assert "IndexError" in callback["exception"]
    assert main["event"] == "process.uncaught"
    assert "ValueError: first\nsecond" in main["exception"]


def test_an_interrupt_is_no_traceback() -> None:
    status, (line,) = lines_of("raise KeyboardInterrupt")
    assert status in {130, -2}
    assert line["event"] == "process.interrupted"
