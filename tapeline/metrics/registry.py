"""The registry that every process begins with: what the process is, and what it uses."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

Component = Literal["worker", "bridge", "reader"]

UNKNOWN: Final = "unknown"


def new_registry(component: Component) -> CollectorRegistry:
    """A registry with ``process_*``, ``python_info`` and ``tapeline_build_info``.

    Series of the time at which a counter was made are left out everywhere: they would double what
    a scrape has to carry for each symbol, and nobody asks for them.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    Gauge(
        "tapeline_build_info",
        "1; what runs is in the labels",
        ("component", "version"),
        registry=registry,
    ).labels(component, _version()).set(1)
    return registry


@cache
def _version() -> str:
    try:
        return version("tapeline")
    except PackageNotFoundError:  # a checkout that is not installed
        return UNKNOWN
