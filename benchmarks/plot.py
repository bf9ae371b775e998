"""Bars side by side as a small SVG: no plotting library for one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

WIDTH = 860
LABEL_WIDTH = 290
VALUE_WIDTH = 120
BAR_HEIGHT = 20
BAR_GAP = 8
PANEL_GAP = 44
MARGIN = 20
NOTE_LINE, NOTE_CHARACTERS = 15, 130
"""Of the note: a line's height, and what fits the width in a font as wide as these are."""

OURS, THEIRS, GOAL, TEXT, FAINT = "#0b6e4f", "#a9b4bd", "#c1440e", "#1c2428", "#67737c"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Roboto, sans-serif'"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ours stands out."""

    label: str
    value: float
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one scale.

    Attributes:
        goal: Marked by a line; 0 for none.
    """

    title: str
    bars: Sequence[Bar]
    goal: float = 0.0


def svg(title: str, note: str, panels: Sequence[Panel]) -> str:
    """The picture."""
    parts: list[str] = []
    y: float = MARGIN + 18
    parts.append(_text(MARGIN, y, title, size=17, weight=600))
    y += 20 - NOTE_LINE
    for line in wrap(note, NOTE_CHARACTERS):
        y += NOTE_LINE
        parts.append(_text(MARGIN, y, line, size=11.5, colour=FAINT))
    for panel in panels:
        y += PANEL_GAP
        parts.append(_text(MARGIN, y, panel.title, size=13.5, weight=600))
        y += 12
        y = _bars(parts, panel, y)
    height = y + MARGIN
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:g}' "
        f"width='{WIDTH}' height='{height:g}' role='img' aria-label='{escape(title)}'>\n"
        f"<rect width='100%' height='100%' fill='#ffffff'/>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _bars(parts: list[str], panel: Panel, y: float) -> float:
    left = MARGIN + LABEL_WIDTH
    room = WIDTH - left - VALUE_WIDTH - MARGIN
    most = max([panel.goal, *(bar.value for bar in panel.bars)]) or 1.0
    top = y
    for bar in panel.bars:
        width = max(1.0, bar.value / most * room)
        middle = y + BAR_HEIGHT / 2 + 4
        weight = 600 if bar.ours else 400
        parts.append(_text(left - 10, middle, bar.label, size=12.5, weight=weight, anchor="end"))
        parts.append(
            f"<rect x='{left}' y='{y:g}' width='{width:.1f}' height='{BAR_HEIGHT}' rx='2' "
            f"fill='{OURS if bar.ours else THEIRS}'/>"
        )
        parts.append(_text(left + width + 8, middle, f"{bar.value:,.0f}", size=12.5, weight=weight))
        y += BAR_HEIGHT + BAR_GAP
    if panel.goal:
        x = left + panel.goal / most * room
        parts.append(
            f"<line x1='{x:.1f}' y1='{top - 4:g}' x2='{x:.1f}' y2='{y - BAR_GAP + 4:g}' "
            f"stroke='{GOAL}' stroke-dasharray='4 3'/>"
        )
        parts.append(
            _text(x, y + 8, f"goal {panel.goal:,.0f}", size=11, colour=GOAL, anchor="middle")
        )
        y += 8
    return y


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    weight: int = 400,
    colour: str = TEXT,
    anchor: str = "start",
) -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' {FONT} font-size='{size:g}' font-weight='{weight}' "
        f"fill='{colour}' text-anchor='{anchor}'>{escape(text)}</text>"
    )
