"""What each field of a report means, for readers that explain themselves.

The texts are those of ``docs/reports.md`` and ``docs/runbooks``, the types those of
``tables/report.py``; `serving.glossary_made` puts them together into ``serving/texts``, so that a
reader carries them without the worker's code and without the documentation.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import msgspec

TEXTS: Final = Path(__file__).parent / "texts"
"""Where the generated texts are."""

GLOSSARY: Final = "glossary.json"
RUNBOOKS: Final = "runbooks.json"

ANY: Final = "*"
"""A step of a path that stands for every key: ``venues.by_venue.*.state``."""


class Term(msgspec.Struct, frozen=True):
    """One field of a report, or several under one name.

    Attributes:
        field: Its path, steps joined by dots; ``*`` for any key of a mapping.
        type: As JSON has it, such as ``number|null``.
        cycle: ``fast``, ``slow``, or '' for what is written once.
        meaning: Formula, unit and window, in one sentence or two.
        null_when: When it is null or empty; '' for never.
    """

    field: str
    type: str
    cycle: str
    meaning: str
    null_when: str


@cache
def glossary() -> dict[str, Term]:
    """Every term by its field, in the order of the documentation."""
    payload = (TEXTS / GLOSSARY).read_bytes()
    return {term.field: term for term in msgspec.json.decode(payload, type=list[Term])}


def explain(path: str) -> Term | None:
    """The term for a field, or for the nearest one around it; None for what is no field.

    Args:
        path: Steps joined by dots, as in a report: ``depth.imbalance``, ``venues.by_venue.kraken``.
    """
    terms, steps = glossary(), path.split(".")
    while steps:
        found = terms.get(".".join(steps)) or terms.get(_with_any(steps))
        if found is not None:
            return found
        steps.pop()
    return None


def _with_any(steps: list[str]) -> str:
    """The path with the key of a mapping replaced; only venues are in one that has terms."""
    if steps[:2] == ["venues", "by_venue"] and len(steps) > 2:
        return ".".join([*steps[:2], ANY, *steps[3:]])
    return ""


@cache
def runbooks() -> dict[str, str]:
    """Every runbook as Markdown, by the anchor that alerts link to."""
    return msgspec.json.decode((TEXTS / RUNBOOKS).read_bytes(), type=dict[str, str])
