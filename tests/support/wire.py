"""What wire texts are made of: keys in their order, types, and how numbers are printed."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Number(str):
    """A JSON number with a point, as it was printed."""

    __slots__ = ()


def read(text: str) -> Any:
    """JSON with the digits of its numbers kept."""
    return json.loads(text, parse_float=Number)


def traits(value: object, path: str = "") -> set[tuple[str, object]]:
    """(path, what stands there) for every part of a value; the parts of a list share a path."""
    if isinstance(value, dict):
        found: set[tuple[str, object]] = {(path, tuple(value))}
        for key, part in value.items():
            found |= traits(part, f"{path}.{key}")
        return found
    if isinstance(value, list):
        found = {(path, "list")}
        for part in value:
            found |= traits(part, f"{path}[]")
        return found
    return {(path, _kind(value))}


def _kind(value: object) -> str:
    if isinstance(value, Number):
        return f"number with {len(value.partition('.')[2])} decimals"
    if isinstance(value, str):
        if PLAIN.fullmatch(value):
            return "text: a number without trailing zeros"
        return "text: a time" if TIME.fullmatch(value) else "text"
    return type(value).__name__


def received(path: Path) -> Iterator[str]:
    """Frames of a recording in the envelope format, in order."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["t"] == "recv":
                yield entry["data"]
