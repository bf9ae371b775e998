"""Queries of dashboards, and how a Prometheus is asked them without a Grafana."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple


class Where(NamedTuple):
    """A query's place, for a failure's message."""

    panel: str
    legend: str


def expressions(board: dict[str, Any]) -> Iterator[tuple[Where, str]]:
    """Each query of a board: panels, annotations and variables."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield Where(panel["title"], target["legendFormat"]), target["expr"]
    for annotation in board["annotations"]["list"]:
        yield Where(annotation["name"], annotation["titleFormat"]), annotation["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert found, variable["query"]
            yield Where(f"${variable['name']}", ""), f"count by ({found[2]}) ({found[1]})"


def concrete(expr: str, window: str = "1m") -> str:
    """What Grafana would ask where every variable stands at "All"."""
    expr = re.sub(r"\$\{?__(?:rate_interval|range|interval)\}?", window, expr)
    return re.sub(r"\$\{?[a-z]+\}?", ".*", expr)
