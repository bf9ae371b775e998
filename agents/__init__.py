"""What ``faust -A agents worker`` runs: the app, its transport, agents, cycles and metrics.

``app`` is made when it is first asked for, from the environment; importing the package alone
reads nothing.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agents.main import faust_app  # noqa: PLC0415

    globals()["app"] = faust_app()
    return globals()["app"]
