"""Puts the pages of the project into one folder, as the site's generator wants them.

The README is the first page of the site. What a page links to outside of ``docs/``, such as an example,
becomes a page of its own that shows the file, so that no link of the site leads nowhere. Links are the
only thing that is changed.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from docs.site.pages import ROOT, Link, links, pages

HOME: Final = {"README.md": "index.md"}
"""Pages that are another one on the site."""

LEFT_OUT: Final = "docs/site/"
"""What builds the site is no part of it."""

SHOWN: Final = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/", "deploy/", "examples/")
"""What begins so is a page of the site."""

CARRIED: Final = (".json", ".png", ".svg")
"""Files beside the pages that are taken along as they are."""

SOURCES: Final = "source"
"""Folder of the site for files that are shown."""

STYLES: Final = Path(__file__).with_name("extra.css")

_LANGUAGES: Final = {
    ".c": "c",
    ".html": "html",
    ".js": "javascript",
    ".lua": "lua",
    ".py": "python",
    ".sh": "sh",
    ".toml": "toml",
    ".yml": "yaml",
    ".yaml": "yaml",
    ".xml": "xml",
}


class Staging:
    """One folder of pages.

    Args:
        folder: Emptied and filled.
        root: The project.

    Attributes:
        places: Where each file of the project is on the site, by its path from there.
    """

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.folder, self.root = folder, root
        self.places = {page: place_of(page) for page in pages(root) if _on_site(page)}
        self._waiting: list[str] = []

    def fill(self) -> None:
        """Write all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._write("stylesheets/extra.css", STYLES.read_bytes())
        for path in (self.root / "docs").rglob("*"):
            name = path.relative_to(self.root).as_posix()
            if path.suffix in CARRIED and _on_site(name):
                self.places[name] = name.removeprefix("docs/")
                self._write(self.places[name], path.read_bytes())
        for page in sorted(self.places):
            if page.endswith(".md"):
                text = (self.root / page).read_text(encoding="utf-8")
                self._write(self.places[page], self.translated(page, text).encode())
        while self._waiting:
            name = self._waiting.pop()
            self._write(self.places[name], self._shown(name).encode())

    def translated(self, page: str, text: str) -> str:
        """The text with links that lead to where things are on the site."""
        lines = text.splitlines(keepends=True)
        for link in sorted(links(text), key=lambda one: (one.line, one.start), reverse=True):
            line = lines[link.line - 1]
            target = self._target(page, link)
            lines[link.line - 1] = f"{line[: link.start]}{target}{line[link.end :]}"
        return "".join(lines)

    def _target(self, page: str, link: Link) -> str:
        parts = urlsplit(link.target)
        if parts.scheme or parts.netloc or not parts.path:
            return link.target
        there = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path)))
        if not (self.root / there).exists():
            return link.target  # dead: to be found by whoever looks at the links
        if there not in self.places:
            # A file that is shown, or a folder of such.
            self.places[there] = f"{SOURCES}/{there}.md"
            self._waiting.append(there)
        place = posixpath.relpath(self.places[there], posixpath.dirname(self.places[page]) or ".")
        source = there.endswith(".md") or not parts.fragment
        return quote(place) + (f"#{parts.fragment}" if parts.fragment and source else "")

    def _shown(self, name: str) -> str:
        """A page for a file, or for a folder with its files."""
        path = self.root / name
        if path.is_dir():
            files = sorted(p.name for p in path.iterdir() if p.suffix in _LANGUAGES)
            listed = "".join(f"- [`{file}`]({file})\n" for file in files)
            # Its links are those of a page in that folder.
            self.places[f"{name}/."] = self.places[name]
            return self.translated(f"{name}/.", f"# `{name}`\n\n{listed}")
        text = path.read_text(encoding="utf-8")
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
        language = _LANGUAGES.get(path.suffix, "text")
        return f"# `{name}`\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"

    def _write(self, place: str, content: bytes) -> None:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _on_site(name: str) -> bool:
    return name.startswith(SHOWN) and not name.startswith(LEFT_OUT)


def place_of(page: str) -> str:
    """Where a page is on the site."""
    if page in HOME:
        return HOME[page]
    if "/" not in page:
        return page.lower()
    return page.removeprefix("docs/")
