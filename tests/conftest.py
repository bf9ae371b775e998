"""What every test runs under: limits (support/guards.py) and real servers (support/servers.py)."""

from __future__ import annotations

import signal

pytest_plugins = [
    "pytester",
    "tests.support.guards",
    "tests.support.logs",
    "tests.support.second_try",
    "tests.support.servers",
    "tests.support.side_by_side",
]


def pytest_configure() -> None:
    """Hear Ctrl-C, and let child processes hear it.

    A shell starts what it puts in the background with SIGINT ignored, children inherit that, and
    tests of what Ctrl-C does would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
