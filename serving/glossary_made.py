"""Puts the readers' texts together: ``python -m serving.glossary_made serving/texts``.

Fields, types and what may be null come from the types in ``tables/report.py``, meanings from the
tables of ``docs/reports.md``. A field that one of the two does not know is an error, so the
glossary can't fall behind either.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from serving.glossary import ANY, GLOSSARY, RUNBOOKS, Term
from tables.report import report_schema

DOCS: Final = Path(__file__).parents[1] / "docs"

_CODE: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_COMMENT: Final = re.compile(r"^<!-- .* -->\n", re.M)

UNDER: Final = {"field of a venue": f"venues.by_venue.{ANY}."}
"""Tables whose rows leave out where the field is, by their first cell."""

SKIPPED: Final = {"part", "type"}
"""Tables that are not of fields, or not in the columns of the others, by their first cell."""

BESIDE_THE_TABLES: Final = {
    "health.score": "0 to 100: 40 % freshness, 20 % spread, 20 % depth, 20 % anomalies",
    "health.freshness": "1 for data_age_ms up to 1000, 0 from 2000 or without data",
    "health.spread": "1 up to 2 bps, 0 from 50 bps or without a book",
    "health.depth": "1 at imbalance 0, 0 with one side only or without a book",
    "health.anomalies": "1 where none is found, less 0.2, 0.5, 1 for each low, medium, high one",
    "anomalies": "findings inferred from what price levels do: type (spoofing, iceberg, "
    "flash_crash_risk), severity (low, medium, high), note with the figures",
}
"""What the page says in prose, or over several columns."""


def terms() -> list[Term]:
    """The glossary, in the page's order.

    Raises:
        ValueError: A field without words, or words for no field.
    """
    types = dict(_types(report_schema()))
    told: dict[str, tuple[str, str, str]] = {
        field: (heading, meaning, null_when)
        for heading, field, meaning, null_when in _rows((DOCS / "reports.md").read_text())
    }
    for field, meaning in BESIDE_THE_TABLES.items():
        cycle = "Anomalies (slow)" if field == "anomalies" else "Health (fast)"
        nulls = "before the first slow cycle, or `heavy`" if field == "anomalies" else ""
        told[field] = (cycle, meaning, nulls)
    if unknown := told.keys() - types.keys():
        raise ValueError(f"docs/reports.md tells of what is no field: {sorted(unknown)}")
    mute = [
        field
        for field in types
        if not any(_within(field, known) or _within(known, field) for known in told)
    ]
    if mute:
        raise ValueError(f"docs/reports.md does not tell of {mute}")
    return [
        Term(
            field=field,
            type=types[field],
            cycle=next((cycle for cycle in ("fast", "slow") if f"({cycle})" in heading), ""),
            meaning=_plain(meaning),
            null_when="" if (plain := _plain(null_when)) == "never" else plain,
        )
        for field, (heading, meaning, null_when) in told.items()
    ]


def runbooks() -> dict[str, str]:
    """Sections of the runbooks by their anchor."""
    sections: dict[str, str] = {}
    for path in sorted((DOCS / "runbooks").glob("*.md")):
        for section in re.split(r"^## ", path.read_text(), flags=re.M)[1:]:
            title, _, body = section.partition("\n")
            anchor = title.strip().lower().replace(" ", "-")
            words = _LINK.sub(r"\1", _COMMENT.sub("", body)).rstrip()
            sections[anchor] = f"## {title.strip()}\n{words}\n"
    return sections


def texts() -> dict[str, str]:
    """Every file by name."""
    return {
        GLOSSARY: _render(terms()),
        RUNBOOKS: _render(runbooks()),
    }


def write(folder: Path) -> None:
    """Write all of them."""
    for name, text in texts().items():
        (folder / name).write_text(text)


def _render(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n"


def _within(field: str, known: str) -> bool:
    return field == known or field.startswith(f"{known}.")


def _plain(text: str) -> str:
    return _LINK.sub(r"\1", text.replace("`", "").replace("*", "")).strip()


def _rows(page: str) -> Iterator[tuple[str, str, str, str]]:
    """(heading, field, meaning, null when) of every row of the page's tables of fields."""
    heading, table, before = "", "", ""
    for line in page.splitlines():
        if line.startswith("## "):
            heading, table = line[3:], ""
        if not line.startswith("|"):
            table = ""
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not table:
            table = cells[0]
            continue
        if set(cells[0]) <= {"-"} or table in SKIPPED:
            continue
        prefix = UNDER.get(table, "")
        nulls = cells[2] if len(cells) > 2 else ""
        nulls = before = before if nulls == "likewise" else nulls
        for field in _CODE.findall(cells[0]):
            yield heading, f"{prefix}{field}", cells[1], nulls


def _types(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    definitions = schema["$defs"]

    def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
        node, word = _resolved(node, definitions)
        if path:
            yield path, word
        for name, inner in node.get("properties", {}).items():
            yield from walk(inner, f"{path}.{name}" if path else name)
        extra = node.get("additionalProperties")
        if isinstance(extra, dict) and "$ref" in extra:
            yield from walk(extra, f"{path}.{ANY}")

    return walk(schema, "")


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The schema behind references and alternatives, and its type in JSON's words."""
    choices = node.get("anyOf", [node])
    words, found = [], node
    for choice in choices:
        inner = choice
        while "$ref" in inner:
            inner = definitions[inner["$ref"].rpartition("/")[2]]
        word = inner.get("type", "string" if "enum" in inner else "any")
        words.append(word)
        if word != "null":
            found = inner
    return found, "|".join(words)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
