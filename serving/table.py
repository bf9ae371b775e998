"""What ``tapeline top`` shows, drawn from what was seen. Pure: no clock, no Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serving.survey import NodeSight, Survey, SymbolSight
from serving.writes import Writes

NOTHING: Final = "-"
BETWEEN: Final = 2
"""Blanks between two columns."""

DURATION: Final = 7
"""Letters of the longest duration of less than a day, ``59m 59s``."""

HEADLINES: Final = 5
"""Lines that are no rows: title, two heads, and the blank lines above them."""

GAP_LONG_S: Final = 2.0
GAP_NOTABLE_S: Final = 1.0
BEAT_LATE_MS: Final = 2500
"""Heartbeats come each second: by then two are missing."""

_GOOD, _BAD, _WARN, _DIM = "green", "bold red", "yellow", "dim"
_STATES: Final = {
    "up": _GOOD, "ok": _GOOD, "draining": _WARN, "degraded": _WARN, "none": _WARN,
    "left": _DIM,
    "vanished": _BAD, "gone": _BAD, "stale": _BAD, "unreadable": _BAD, "stalled": _BAD,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """What is to be shown.

    Attributes:
        survey: The newest; None before the first.
        error: Why there is no newer one; '' where there is.
        watched_s: How long announcements have been listened to.
        gaps_s: Longest time without an accepted write that advanced, by symbol, while watching.
        writes: Accepted writes heard while watching, by symbol.
    """

    survey: Survey | None
    error: str = ""
    watched_s: float = 0.0
    gaps_s: Mapping[str, float] | None = None
    writes: Mapping[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``.

        Returns:
            ``at_ms``, ``error`` (null where Redis answered), ``watched_s``, ``nodes`` (attributes
            of `NodeSight`) and ``symbols`` (those of `SymbolSight`, ``gap_s`` and ``writes``, both
            null where the symbol was not watched).
        """
        survey = self.survey or Survey(at_ms=0)
        gaps, writes = self.gaps_s or {}, self.writes or {}
        return {
            "at_ms": survey.at_ms or None,
            "error": self.error or None,
            "watched_s": round(self.watched_s, 3),
            "nodes": [_fields(node) for node in survey.nodes],
            "symbols": [
                {
                    **_fields(one),
                    "gap_s": round(gaps[one.symbol], 3) if one.symbol in gaps else None,
                    "writes": writes.get(one.symbol),
                }
                for one in survey.symbols
            ],
        }


def gaps_of(writes: Writes, survey: Survey, now_s: float) -> dict[str, float]:
    """`View.gaps_s` out of what was heard."""
    found = {one.symbol: writes.gap_s(one.symbol, now_s) for one in survey.symbols}
    return {symbol: gap for symbol, gap in found.items() if gap is not None}


def _fields(sight: NodeSight | SymbolSight) -> dict[str, Any]:
    return {name: getattr(sight, name) for name in sight.__slots__}


# --- figures in words ------------------------------------------------------------------------------


def duration(seconds: float | None) -> str:
    """Short: ``340 ms``, ``4.2 s``, ``3m 20s``, ``5h 02m``, ``12d 4h``."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def _age(ms: int | None) -> str:
    return duration(None if ms is None else ms / 1000)


def _count(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def _cell(text: str, style: str = "") -> Text:
    # Names come out of Redis: what is not to be printed could move the cursor.
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return Text(clean or NOTHING, style=style or ("" if clean else _DIM))


def _state(state: str) -> Text:
    return _cell(state, _STATES.get(state, ""))


def _gap(seconds: float | None) -> Text:
    style = ""
    if seconds is not None and seconds >= GAP_NOTABLE_S:
        style = _BAD if seconds >= GAP_LONG_S else _WARN
    return _cell(duration(seconds), style)


# --- tables ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        head: Its title.
        cells: One a row.
        need: Where the terminal is narrow, columns of the highest figure are left out first.
        right: Whether figures are flush right.
        least: Never narrower, so that columns stay where they are while figures change.
    """

    head: str
    cells: Sequence[Text]
    need: int
    right: bool = True
    least: int = 0

    @property
    def width(self) -> int:
        """Of the widest cell, the title's included."""
        return max(len(self.head), self.least, *(cell.cell_len for cell in self.cells))


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width + BETWEEN for column in columns) - BETWEEN


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Those that a terminal of ``width`` has room for; of need 0 all, whether or not it has."""
    shown = list(columns)
    while _total(shown) > width:
        last = max(shown, key=lambda column: column.need)
        if last.need == 0:
            break
        shown.remove(last)
    return shown


def _table(columns: Sequence[Column], rows: int, width: int) -> Table:
    """So much of it as there is room for."""
    table = Table(box=None, padding=(0, BETWEEN, 0, 0), pad_edge=False, header_style="bold")
    shown = fitting(columns, width)
    for column in shown:
        table.add_column(
            column.head,
            min_width=column.least or None,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in range(rows):
        table.add_row(*(column.cells[row] for column in shown))
    return table


def node_columns(nodes: Sequence[NodeSight]) -> list[Column]:
    """Columns of the nodes' table."""
    return [
        Column("node", [_cell(n.node_id) for n in nodes], 0, right=False),
        Column("state", [_state(n.state) for n in nodes], 0, right=False),
        Column("owned", [_cell(_count(n.owned)) for n in nodes], 0),
        Column("assigned", [_cell(_count(n.assigned)) for n in nodes], 2),
        Column("warm", [_cell(_count(n.warm)) for n in nodes], 1),
        Column(
            "beat",
            [
                _cell(_age(n.heartbeat_age_ms), _BAD if n.heartbeat_age_ms > BEAT_LATE_MS else "")
                for n in nodes
            ],
            1,
            least=DURATION,
        ),
        Column("up", [_cell(duration(n.up_s)) for n in nodes], 3, least=DURATION),
        Column("health", [_state(n.health or "") for n in nodes], 2, right=False),
        Column("pid", [_cell(_count(n.pid)) for n in nodes], 4),
        Column("host", [_cell(n.hostname) for n in nodes], 5, right=False),
    ]


def symbol_columns(symbols: Sequence[SymbolSight], gaps_s: Mapping[str, float]) -> list[Column]:
    """Columns of the symbols' table."""
    return [
        Column("symbol", [_cell(s.symbol) for s in symbols], 0, right=False),
        Column("owner", [_cell(s.owner) for s in symbols], 0, right=False),
        Column("state", [_state(s.state) for s in symbols], 2, right=False),
        Column("age", [_cell(_age(s.report_age_ms)) for s in symbols], 0, least=DURATION),
        Column("data", [_cell(_age(s.data_age_ms)) for s in symbols], 2, least=DURATION),
        Column("gap", [_gap(gaps_s.get(s.symbol)) for s in symbols], 0, least=DURATION),
        Column(
            "feed gaps",
            [_cell(_count(s.feed_gaps), _WARN if s.feed_gaps else "") for s in symbols],
            3,
        ),
        Column("seq", [_cell(_count(s.seq)) for s in symbols], 4),
        Column("offset", [_cell(_count(s.offset)) for s in symbols], 3),
        Column("watermark", [_cell(_count(s.watermark)) for s in symbols], 6),
        Column("token", [_cell(_count(s.token)) for s in symbols], 5),
    ]


def render(view: View, width: int, height: int | None = None) -> RenderableType:
    """The whole picture.

    Args:
        view: What to show.
        width: Columns of the terminal.
        height: Its lines; None shows every row.
    """
    parts: list[RenderableType] = [_title(view)]
    if view.error:
        parts.append(_cell(f"{view.error}; trying again", _BAD))
    survey = view.survey
    if survey is None:
        return Group(*parts)
    nodes, symbols = survey.nodes, survey.symbols
    room = None
    if height is not None:
        room = max(1, height - HEADLINES - len(nodes) - bool(view.error) - 1)
    shown = symbols if room is None or len(symbols) <= room + 1 else symbols[:room]
    if nodes:
        parts += [Text(""), _table(node_columns(nodes), len(nodes), width)]
    if shown:
        columns = symbol_columns(shown, view.gaps_s or {})
        parts += [Text(""), _table(columns, len(shown), width)]
    if len(shown) < len(symbols):
        parts.append(Text(f"{len(symbols) - len(shown)} more: --symbols picks some", style=_DIM))
    return Group(*parts)


def _title(view: View) -> Text:
    survey = view.survey
    if survey is None:
        return Text("tapeline top")
    owned = sum(1 for one in survey.symbols if one.owner)
    words = [
        "tapeline top",
        f"{len(survey.nodes)} nodes" if survey.nodes else "no node beats",
        f"{owned} of {len(survey.symbols)} symbols written" if survey.symbols else "no symbols",
        f"watched {duration(view.watched_s)}" if view.watched_s else "",
    ]
    return Text("  ".join(word for word in words if word), no_wrap=True, overflow="ellipsis")
