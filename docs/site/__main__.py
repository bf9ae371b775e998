"""``python -m docs.site``: the documentation as a site in ``.cache/site/html``.

Exit status 1 for a warning of the generator, a dead link, a page without a place in the navigation, or
anything that a browser would load from elsewhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from docs.site.built import problems
from docs.site.pages import ROOT
from docs.site.staging import SOURCES, Staging

SITE: Final = ROOT / ".cache" / "site"
GENERATOR: Final = ROOT / ".cache" / "venv-docs" / "bin" / "zensical"
CONFIG: Final = ROOT / "zensical.toml"


def unplaced(config: dict[str, Any], placed: set[str]) -> list[str]:
    """Pages that the navigation names and the site does not have, and the other way round.

    Args:
        config: What ``zensical.toml`` holds.
        placed: Pages of the site. Those that show a file are reached by links alone.
    """
    named = list(_pages_of(config["project"]["nav"]))
    wrong = [f"zensical.toml: there is no page {page}" for page in named if page not in placed]
    wrong += [
        f"zensical.toml: {page} is there twice" for page in set(named) if named.count(page) > 1
    ]
    lost = {page for page in placed if not page.startswith(f"{SOURCES}/")} - set(named)
    return wrong + [f"zensical.toml: {page} is nowhere in the navigation" for page in sorted(lost)]


def _pages_of(nav: Any) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case list():
            for entry in nav:
                yield from _pages_of(entry)
        case dict():
            for entry in nav.values():
                yield from _pages_of(entry)


def main(folder: Path = SITE) -> int:
    """Stage, build, look."""
    staging = Staging(folder / "pages")
    staging.fill()
    placed = {place for place in staging.places.values() if place.endswith(".md")}
    text = CONFIG.read_text(encoding="utf-8")
    wrong = unplaced(tomllib.loads(text), placed)
    (folder / CONFIG.name).write_text(text, encoding="utf-8")
    shutil.rmtree(folder / "html", ignore_errors=True)
    built = subprocess.run(
        [GENERATOR, "build", "--clean", "--strict", "--config-file", folder / CONFIG.name],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    said = built.stdout + built.stderr
    if built.returncode or re.search(r"\b(?:warning|error)\b", said, re.I):
        wrong.append(f"zensical ended with {built.returncode}:\n{said}")
    else:
        wrong += problems(folder / "html")
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    count = len(list((folder / "html").rglob("*.html")))
    sys.stdout.write(f"{folder / 'html'}: {count} pages, {len(wrong)} problems\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
