"""Looks at a built site: each link leads somewhere, and nothing is loaded from elsewhere. Pure."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

LOADS: Final = {
    ("audio", "src"),
    ("iframe", "src"),
    ("img", "src"),
    ("script", "src"),
    ("source", "src"),
}
LOADING_RELATIONS: Final = {
    "dns-prefetch",
    "icon",
    "manifest",
    "preconnect",
    "preload",
    "stylesheet",
}

_IMPORTED: Final = re.compile(r"(?:@import\s+|url\()[\"']?((?:https?:)?//[^\"')]+)")

EMPTY: Final = {"404.html"}
"""Pages whose links are for any depth."""


@dataclass(slots=True)
class Found:
    """What a page of HTML holds.

    Attributes:
        ids: Anchors.
        links: Where its links lead.
        loads: What a browser fetches to show it.
    """

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found = Found()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.found.ids.add(given["id"])
        if tag == "a" and given.get("name"):
            self.found.ids.add(given["name"])
        if tag == "a" and "href" in given:
            self.found.links.append(given["href"])
        if tag == "link" and set(given.get("rel", "").split()) & LOADING_RELATIONS:
            self.found.loads.append(given.get("href", ""))
        self.found.loads += [given[name] for of, name in LOADS if of == tag and given.get(name)]


def read(html: str) -> Found:
    """One page."""
    reader = _Reader()
    reader.feed(html)
    return reader.found


def problems(folder: Path) -> list[str]:
    """What is wrong with a built site, page by page."""
    pages = {
        path.relative_to(folder).as_posix(): read(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.html"))
    }
    wrong: dict[str, list[str]] = defaultdict(list)
    for name, found in pages.items():
        if name in EMPTY:
            continue
        for target in found.links:
            reason = _dead(folder, pages, name, target)
            if reason:
                wrong[f"{name}: {target}: {reason}"].append(name)
        for target in found.loads:
            reason = "loaded from elsewhere" if _foreign(target) else ""
            reason = reason or _dead(folder, pages, name, target)
            if reason:
                wrong[f"{name}: {target}: {reason}"].append(name)
    for path in sorted(folder.rglob("*.css")):
        for target in _IMPORTED.findall(path.read_text(encoding="utf-8")):
            wrong[f"{path.name}: {target}: loaded from elsewhere"].append(path.name)
    return list(wrong)


def _foreign(target: str) -> bool:
    parts = urlsplit(target)
    return bool(parts.netloc) or parts.scheme in {"http", "https"}


def _dead(folder: Path, pages: dict[str, Found], page: str, target: str) -> str:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return "" if parts.scheme in {"data", "http", "https", "mailto"} else "no address"
    there = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path)))
    if not parts.path:
        there = page
    if there.startswith(".."):
        return "outside of the site"
    if (folder / there).is_dir():
        there = posixpath.normpath(posixpath.join(there, "index.html"))
    if not (folder / there).is_file():
        return "no such file"
    if parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].ids:
        return "no such anchor"
    return ""
