"""Tables and sections of a page of figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

HEADING = "### "


def rows_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, figures to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sections_of(text: str) -> dict[str, str]:
    """Sections by their heading, in order; what stands before the first is left out."""
    found: dict[str, str] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith(HEADING):
            heading = line
            found[heading] = line
        elif heading:
            found[heading] += f"\n{line}"
    return {heading: body.strip() for heading, body in found.items()}


def renewed(old: str, new: str) -> str:
    """The sections of ``old``, each replaced by that of ``new`` with the same heading; others of
    ``new`` stand behind them."""
    return "\n\n".join((sections_of(old) | sections_of(new)).values())
