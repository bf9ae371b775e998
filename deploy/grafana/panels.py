"""What Grafana dashboards are put together of: panels, variables, and a board in rows of 24 columns.

Plain data in, Grafana's JSON out; nothing of a particular board is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

COLUMNS: Final = 24
SCHEMA_VERSION: Final = 39
"""Grafana 11; later ones read it and bring it up to date."""

SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
TAG: Final = "tapeline"
RUNBOOK: Final = "${docs}/runbooks/troubleshooting.md"

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"

Steps = tuple[tuple[float | None, str], ...]
"""Colours from a value on; the first begins at None."""

PLAIN: Final[Steps] = ((None, BLUE),)
ZERO_IS_BAD: Final[Steps] = ((None, RED), (1, GREEN))
ONE_IS_BAD: Final[Steps] = ((None, GREEN), (1, RED))


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title, about: What it is called; what it shows, and when that is wrong.
        kind: Grafana's type of panel.
        unit: Grafana's name of it, such as ``s`` or ``reqps``.
        queries: PromQL with the legend of its series.
        width, height: In columns and rows of the grid.
        steps: Colours by value, where it has a goal.
        least, most: Ends of its axis; None: by what is there.
        stack: Whether series are on top of each other.
        runbook: Heading of the troubleshooting page; empty for none.
        words: What values say, in place of numbers.
    """

    title: str
    about: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    width: int = 8
    height: int = 8
    steps: Steps = PLAIN
    least: float | None = 0
    most: float | None = None
    stack: bool = False
    runbook: str = ""
    words: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard.

    Attributes:
        uid, title, about: As Grafana keeps it, shows it, describes it.
        variables: Of the queries, beside the data source: name, label, and the query of its values.
        rows: A heading and its panels.
    """

    uid: str
    title: str
    about: str
    variables: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def series(title: str, about: str, unit: str, *queries: tuple[str, str], **more: Any) -> Panel:
    """Lines over time."""
    return Panel(title=title, about=about, kind="timeseries", unit=unit, queries=queries, **more)


def stat(title: str, about: str, unit: str, query: str, **more: Any) -> Panel:
    """One number, as it is now."""
    more = {"width": 4, "height": 4, **more}
    queries = ((query, title),)
    return Panel(title=title, about=about, kind="stat", unit=unit, queries=queries, **more)


def heat(title: str, about: str, unit: str, histogram: str, where: str, **more: Any) -> Panel:
    """A histogram over time; ``where`` are its label matchers."""
    query = f"sum by (le) (increase({histogram}_bucket{{{where}}}[$__rate_interval]))"
    return Panel(
        title=title, about=about, kind="heatmap", unit=unit, queries=((query, "{{le}}"),), **more
    )


def table(title: str, about: str, query: str, **more: Any) -> Panel:
    """Series as they are now, a row each."""
    return Panel(
        title=title, about=about, kind="table", unit="none", queries=((query, ""),), **more
    )


def states(title: str, about: str, query: str, legend: str, **more: Any) -> Panel:
    """Which of a few states each series was in, over time."""
    queries = ((query, legend),)
    return Panel(
        title=title, about=about, kind="state-timeline", unit="none", queries=queries, **more
    )


def quantiles(histogram: str, where: str, by: str = "") -> tuple[tuple[str, str], ...]:
    """Median, p95 and p99 of a histogram."""
    labels = f"{by}, le" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    buckets = f"sum by ({labels}) (rate({histogram}_bucket{{{where}}}[$__rate_interval]))"
    return tuple(
        (f"histogram_quantile({q}, {buckets})", f"{name}{legend}")
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


# --- as Grafana's JSON -----------------------------------------------------------------------------


def board_json(board: Board) -> dict[str, Any]:
    """The board as Grafana imports it: no ids of a particular Grafana, no data source by name."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "liveNow": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "utc",
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "annotations": {"list": [_restarts()]},
        "links": _links(),
        "templating": {"list": _variables(board)},
        "panels": _laid_out(board.rows),
    }


def _restarts() -> dict[str, Any]:
    return {
        "name": "Restarts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": "changes(process_start_time_seconds[1m]) > 0",
        "titleFormat": "{{instance}} has restarted",
        "step": "30s",
    }


def _links() -> list[dict[str, Any]]:
    return [
        {"type": "dashboards", "title": "Tapeline", "tags": [TAG], "asDropdown": True,
         "includeVars": True, "keepTime": True, "icon": "external link"},
        {"type": "link", "title": "Troubleshooting", "url": RUNBOOK, "targetBlank": True,
         "icon": "doc"},
        {"type": "link", "title": "Metrics", "url": "${docs}/metrics.md", "targetBlank": True,
         "icon": "doc"},
    ]  # fmt: skip


def _variables(board: Board) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "hide": 0,
            "current": {},
        },
        {
            "name": "docs",
            "label": "Docs at",
            "description": "Address of the project's docs folder, for links to it",
            "type": "textbox",
            "query": "docs",
            "hide": 0,
            "current": {"text": "docs", "value": "docs"},
        },
    ]
    for name, label, query in board.variables:
        found.append(
            {
                "name": name,
                "label": label,
                "type": "query",
                "datasource": SOURCE,
                "definition": query,
                "query": {"query": query, "refId": name},
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "hide": 0,
                "current": {"text": ["All"], "value": ["$__all"]},
            }
        )
    return found


def _laid_out(rows: Iterable[tuple[str, tuple[Panel, ...]]]) -> list[dict[str, Any]]:
    """Panels from left to right and down, each row under its heading."""
    found: list[dict[str, Any]] = []
    top = 0
    for heading, panels in rows:
        found.append(
            {
                "id": len(found) + 1,
                "type": "row",
                "title": heading,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        top += 1
        left = tallest = 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            found.append(_panel(panel, len(found) + 1, place))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return found


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": _targets(panel),
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel.kind),
    }
    if panel.runbook:
        url = f"{RUNBOOK}#{panel.runbook}"
        made["links"] = [{"title": "What to do", "url": url, "targetBlank": True}]
    if panel.kind == "table":
        hidden = {"Time": True, "Value": True, "__name__": True, "job": True}
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return made


def _targets(panel: Panel) -> list[dict[str, Any]]:
    now = panel.kind in {"stat", "table"}
    form = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    return [
        {
            "refId": chr(ord("A") + n),
            "datasource": SOURCE,
            "expr": expr,
            "legendFormat": legend,
            "format": form,
            "instant": now,
            "range": not now,
        }
        for n, (expr, legend) in enumerate(panel.queries)
    ]


def _defaults(panel: Panel) -> dict[str, Any]:
    goal = len(panel.steps) > 1
    made: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in panel.steps],
        },
        "mappings": _mappings(panel.words),
        "custom": {},
    }
    if panel.least is not None:
        made["min"] = panel.least
    if panel.most is not None:
        made["max"] = panel.most
    if panel.kind == "timeseries":
        made["color"] = {"mode": "palette-classic"}
        made["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stack else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if goal else "off"},
        }
    else:
        made["color"] = {"mode": "thresholds"}
    return made


def _mappings(words: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    if not words:
        return []
    options = {
        value: {"text": text, "color": color, "index": n}
        for n, (value, text, color) in enumerate(words)
    }
    return [{"type": "value", "options": options}]


def _options(kind: str) -> dict[str, Any]:
    match kind:
        case "timeseries":
            return {
                "legend": {
                    "displayMode": "table",
                    "placement": "bottom",
                    "showLegend": True,
                    "calcs": ["lastNotNull", "max"],
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            return {
                "colorMode": "value",
                "graphMode": "none",
                "justifyMode": "auto",
                "orientation": "auto",
                "textMode": "value",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            }
        case "heatmap":
            return {
                "calculate": False,
                "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5},
                "filterValues": {"le": 1e-9},
                "yAxis": {"axisPlacement": "left", "unit": "s"},
                "rowsFrame": {"layout": "auto"},
                "legend": {"show": True},
                "tooltip": {"mode": "single", "yHistogram": True},
            }
        case "table":
            return {"showHeader": True, "cellHeight": "sm"}
        case "state-timeline":
            return {
                "mergeValues": True,
                "showValue": "never",
                "rowHeight": 0.9,
                "alignValue": "left",
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "single"},
            }
        case _:
            raise ValueError(f"{kind!r} is no kind of panel that is made here")
