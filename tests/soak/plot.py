"""A run as a picture: lines over time, restarts as upright lines, silences of the feed hatched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from math import ceil, floor, log10
from textwrap import wrap
from typing import Final, NamedTuple

from benchmarks.plot import FAINT, FONT, TEXT

WIDTH: Final = 1000
LEFT, RIGHT, TOP, BOTTOM = 76, 150, 20, 26
PANEL_HEIGHT, PANEL_GAP = 130, 46
NOTE_CHARACTERS: Final = 150
COLOURS: Final = (
    *("#0b6e4f", "#c1440e", "#2f5d9b", "#8a5a00", "#7b3f8c"),
    *("#3b7d8c", "#a01a4d", "#5b6b1f"),
)

Points = Sequence[tuple[float, float]]
"""(seconds, value), in the order of time."""


@dataclass(frozen=True, slots=True)
class Line:
    """One quantity.

    Attributes:
        pause_s: Points further apart than this are not joined: nobody knows what was between.
    """

    label: str
    points: Points
    pause_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Panel:
    """Quantities on one scale, from 0 or from ``least``.

    Attributes:
        log: Decades upwards from ``least``, which must be above 0.
    """

    title: str
    lines: Sequence[Line]
    least: float = 0.0
    log: bool = False


class Mark(NamedTuple):
    """A moment.

    Attributes:
        kind: What its colour is by.
        hard: Drawn through, else dashed.
    """

    at_s: float
    kind: str
    hard: bool = True


@dataclass(frozen=True, slots=True)
class Picture:
    """The whole.

    Attributes:
        seconds: How long the run was.
        marks: In every panel.
        spans: (from, to) seconds that are hatched in every panel.
        shade_s: Until then it is the warm-up, drawn on grey.
    """

    title: str
    note: str
    seconds: float
    panels: Sequence[Panel]
    marks: Sequence[Mark] = ()
    spans: Sequence[tuple[float, float]] = ()
    spans_are: str = ""
    shade_s: float = 0.0
    kinds: Sequence[str] = field(default_factory=tuple)


def svg(picture: Picture) -> str:
    """Its text."""
    parts: list[str] = []
    y: float = TOP + 16
    parts.append(_text(LEFT, y, picture.title, size=17, weight=600))
    for line in wrap(picture.note, NOTE_CHARACTERS):
        y += 16
        parts.append(_text(LEFT, y, line, size=11.5, colour=FAINT))
    y += 10
    y = _legend(parts, picture, y)
    for panel in picture.panels:
        y += 34
        parts.append(_text(LEFT, y - 8, panel.title, size=13, weight=600))
        _panel(parts, picture, panel, y)
        y += PANEL_HEIGHT
    y = _minutes(parts, picture, y)
    height = y + BOTTOM
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:g}' "
        f"width='{WIDTH}' height='{height:g}' role='img' aria-label='{escape(picture.title)}'>\n"
        "<defs><pattern id='hatch' width='6' height='6' patternUnits='userSpaceOnUse' "
        "patternTransform='rotate(45)'><rect width='2' height='6' fill='#c1440e' "
        "fill-opacity='0.45'/></pattern></defs>\n"
        "<rect width='100%' height='100%' fill='#ffffff'/>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _x(picture: Picture, at_s: float) -> float:
    share = min(1.0, max(0.0, at_s / (picture.seconds or 1.0)))
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _legend(parts: list[str], picture: Picture, y: float) -> float:
    """What the upright lines and the hatching are."""
    if not picture.kinds and not picture.spans_are:
        return y
    x: float = LEFT
    y += 16
    for n, kind in enumerate(picture.kinds):
        parts.append(_upright(x + 3, y - 10, y + 2, _kind_colour(picture, kind)))
        label = f"restart of {kind}" if not n else kind
        parts.append(_text(x + 9, y, label, size=11))
        x += 24 + 6.2 * len(label)
    if any(not mark.hard for mark in picture.marks) and any(m.hard for m in picture.marks):
        label = "(dashed: SIGTERM, drawn through: SIGKILL)"
        parts.append(_text(x, y, label, size=11, colour=FAINT))
        x += 14 + 6.0 * len(label)
    if picture.spans_are:
        parts.append(
            f"<rect x='{x:.1f}' y='{y - 10:g}' width='14' height='12' fill='url(#hatch)'/>"
        )
        parts.append(_text(x + 19, y, picture.spans_are, size=11))
    return y


def _kind_colour(picture: Picture, kind: str) -> str:
    kinds = list(picture.kinds)
    return COLOURS[kinds.index(kind) % len(COLOURS)] if kind in kinds else FAINT


def _panel(parts: list[str], picture: Picture, panel: Panel, top: float) -> None:
    right, bottom = WIDTH - RIGHT, top + PANEL_HEIGHT
    parts.append(
        f"<rect x='{LEFT}' y='{top:g}' width='{right - LEFT}' height='{PANEL_HEIGHT}' "
        "fill='none' stroke='#d5dadd'/>"
    )
    if picture.shade_s:
        width = _x(picture, picture.shade_s) - LEFT
        parts.append(
            f"<rect x='{LEFT}' y='{top:g}' width='{width:.1f}' height='{PANEL_HEIGHT}' "
            "fill='#f0f2f3'/>"
        )
    for begin_s, end_s in picture.spans:
        x = _x(picture, begin_s)
        width = max(1.0, _x(picture, end_s) - x)
        parts.append(
            f"<rect x='{x:.1f}' y='{top:g}' width='{width:.1f}' height='{PANEL_HEIGHT}' "
            "fill='url(#hatch)'/>"
        )
    for mark in picture.marks:
        colour = _kind_colour(picture, mark.kind)
        dash = "" if mark.hard else " stroke-dasharray='3 3'"
        parts.append(_upright(_x(picture, mark.at_s), top, bottom, colour, dash))
    values = [
        value for line in panel.lines for at_s, value in line.points if at_s <= picture.seconds
    ]
    most = max([*values, panel.least + 1e-9])
    ticks = decades(panel.least, most) if panel.log else steps(panel.least, most)
    low, high = ticks[0], max(ticks[-1], most)

    def height(value: float) -> float:
        if panel.log:
            share = log10(max(value, low) / low) / (log10(high / low) or 1.0)
        else:
            share = (value - low) / ((high - low) or 1.0)
        return bottom - min(1.0, max(0.0, share)) * (PANEL_HEIGHT - 6)

    for tick in ticks:
        y = height(tick)
        parts.append(f"<line x1='{LEFT}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='#e6eaec'/>")
        parts.append(_text(LEFT - 6, y + 4, f"{tick:,.10g}", size=10.5, anchor="end"))
    label_y = top + 12
    for n, line in enumerate(panel.lines):
        colour = COLOURS[n % len(COLOURS)]
        parts += _path(picture, line, height, colour)
        if line.label:
            parts.append(_text(right + 8, label_y, line.label, size=11, colour=colour, weight=600))
            label_y += 15


def _path(picture: Picture, line: Line, height: object, colour: str) -> list[str]:
    assert callable(height)
    runs: list[list[str]] = []
    before: float | None = None
    for at_s, value in line.points:
        if at_s > picture.seconds:
            break
        if before is None or at_s - before > line.pause_s:
            runs.append([])
        runs[-1].append(f"{_x(picture, at_s):.1f},{height(value):.1f}")
        before = at_s
    return [
        f"<polyline points='{' '.join(run)}' fill='none' stroke='{colour}' stroke-width='1.2'/>"
        for run in runs
        if len(run) > 1
    ]


def _minutes(parts: list[str], picture: Picture, y: float) -> float:
    minutes = picture.seconds / 60
    every = next((n for n in (0.25, 0.5, 1, 2, 5, 10, 15, 30) if minutes / n <= 16), 60)
    n = 0
    while n * every <= minutes:
        x = _x(picture, n * every * 60)
        parts.append(_text(x, y + 15, f"{n * every:g}", size=10.5, anchor="middle"))
        n += 1
    parts.append(_text(WIDTH - RIGHT + 8, y + 15, "minutes", size=10.5, colour=FAINT))
    return y + 15


def steps(least: float, most: float) -> list[float]:
    """Round values from at most ``least`` to at least ``most``, some four of them."""
    span = max(most - least, 1e-9)
    rough = span / 4
    unit = 10.0 ** floor(log10(rough))
    step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= rough)
    first, last = floor(least / step), ceil(most / step)
    return [round(n * step, 10) for n in range(first, last + 1)]


def decades(least: float, most: float) -> list[float]:
    """Powers of ten around both."""
    first, last = floor(log10(least)), ceil(log10(max(most, least * 10)))
    return [10.0**n for n in range(first, last + 1)]


def means(points: Points, width_s: float) -> list[tuple[float, float]]:
    """The mean of each so many seconds, in their middle."""
    found: dict[int, list[float]] = {}
    for at_s, value in points:
        found.setdefault(int(at_s // width_s), []).append(value)
    return [((n + 0.5) * width_s, sum(v) / len(v)) for n, v in sorted(found.items())]


def peaks(points: Points, width_s: float) -> list[tuple[float, float]]:
    """The greatest of each so many seconds, where it was."""
    found: dict[int, tuple[float, float]] = {}
    for at_s, value in points:
        n = int(at_s // width_s)
        if n not in found or value > found[n][1]:
            found[n] = (at_s, value)
    return [found[n] for n in sorted(found)]


def breaks(points: Points, longest_s: float) -> list[tuple[float, float]]:
    """Spans in which there is no point for longer than that."""
    return [(a, b) for (a, _), (b, _) in pairwise(points) if b - a > longest_s]


def _upright(x: float, top: float, bottom: float, colour: str, dash: str = "") -> str:
    return (
        f"<line x1='{x:.1f}' y1='{top:g}' x2='{x:.1f}' y2='{bottom:g}' stroke='{colour}' "
        f"stroke-opacity='0.55'{dash}/>"
    )


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
        f"<text x='{x:.1f}' y='{y:.1f}' {FONT} font-size='{size:g}' font-weight='{weight}' "
        f"fill='{colour}' text-anchor='{anchor}'>{escape(text)}</text>"
    )
