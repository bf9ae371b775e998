"""``python -m docs.site``: the documentation as a site in ``.cache/site/html``.

Exit status 1 for a warning of the generator, a dead link, a page without a place in the navigation, or
anything that a browser would load from elsewhere.
"""

from __future__ import annotations

import gzip
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
MERMAID: Final = Path(__file__).with_name("vendor") / "mermaid.min.js.gz"

_ELSEWHERE: Final = re.compile(r'"https://unpkg\.com/mermaid@[^"]+"')
_BESIDE: Final = (
    'new URL("mermaid.min.js",'
    "document.querySelector(\"script[src*='javascripts/bundle.']\").src).href"
)


def own_diagrams(html: Path) -> list[str]:
    """Let the built site draw diagrams by the Mermaid that is carried here, not by one from elsewhere.

    Returns:
        What is wrong: the theme asks for it in another way than it used to.
    """
    scripts = html / "assets" / "javascripts"
    bundles = list(scripts.glob("bundle.*.js"))
    changed = 0
    for bundle in bundles:
        text, count = _ELSEWHERE.subn(_BESIDE, bundle.read_text(encoding="utf-8"))
        bundle.write_text(text, encoding="utf-8")
        changed += count
    (scripts / "mermaid.min.js").write_bytes(gzip.decompress(MERMAID.read_bytes()))
    return (
        [] if changed == 1 else [f"{changed} places of {len(bundles)} bundles load Mermaid, not 1"]
    )


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
        wrong += own_diagrams(folder / "html")
        wrong += problems(folder / "html")
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    count = len(list((folder / "html").rglob("*.html")))
    sys.stdout.write(f"{folder / 'html'}: {count} pages, {len(wrong)} problems\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
