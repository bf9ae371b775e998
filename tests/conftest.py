"""What every test runs under: limits (support/guards.py) and real servers (support/servers.py)."""

from __future__ import annotations

pytest_plugins = ["pytester", "tests.support.guards", "tests.support.servers"]
