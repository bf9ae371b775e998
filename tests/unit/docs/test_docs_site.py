"""What the site is made of: pages in one folder, each with its place, and no link that leads nowhere."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from docs.site.__main__ import CONFIG, unplaced
from docs.site.built import problems, read
from docs.site.pages import anchors, links
from docs.site.staging import SOURCES, Staging


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Staging:
    filled = Staging(tmp_path_factory.mktemp("site") / "pages")
    filled.fill()
    return filled


def test_every_link_of_the_site_leads_to_a_file_and_a_heading(staging: Staging) -> None:
    dead = []
    for page in staging.folder.rglob("*.md"):
        for link in links(page.read_text()):
            path, _, fragment = link.target.partition("#")
            if "://" in link.target or link.target.startswith("mailto:"):
                continue
            there = (page.parent / path).resolve() if path else page
            if not there.is_file():
                dead.append(f"{page}: {link.target}: no such file")
            elif fragment and fragment not in anchors(there.read_text()):
                dead.append(f"{page}: {link.target}: no such heading")
    assert dead == []


def test_every_page_has_a_place_in_the_navigation(staging: Staging) -> None:
    placed = {place for place in staging.places.values() if place.endswith(".md")}
    assert unplaced(tomllib.loads(CONFIG.read_text()), placed) == []


def test_a_page_without_a_place_would_be_found() -> None:
    config = {"project": {"nav": [{"A": [{"B": "b.md"}, "c.md"]}, {"D": "b.md"}]}}
    assert unplaced(config, {"b.md", "new.md", "source/x.py.md"}) == [
        "zensical.toml: there is no page c.md",
        "zensical.toml: b.md is there twice",
        "zensical.toml: new.md is nowhere in the navigation",
    ]


def test_the_readme_is_the_first_page_and_examples_are_shown(staging: Staging) -> None:
    assert (staging.folder / "index.md").read_text().startswith("# Tapeline")
    shown = (staging.folder / SOURCES / "examples/readers/http_sync.py.md").read_text()
    assert shown.startswith("# `examples/readers/http_sync.py`\n\n```python\n")
    folder = (staging.folder / SOURCES / "examples/readers.md").read_text()
    assert "- [`http_sync.py`](readers/http_sync.py.md)" in folder
    assert (staging.folder / "images/symbol-dark.png").is_file()
    assert not (staging.folder / "site").exists()


def test_only_links_are_changed(tmp_path: Path) -> None:
    """Code keeps its brackets; anchors and addresses stay."""
    for name, text in {
        "README.md": "[a](docs/x.md#b) `[a](docs/x.md)` [c](https://example.com) [d](#e)\n",
        "docs/x.md": "[r](../README.md) [p](../p.py#L3) [s](s.svg)\n```\n[a](../README.md)\n```\n",
        "docs/s.svg": "<svg/>",
        "p.py": "print('```')\n",
    }.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    Staging(tmp_path / "pages", tmp_path / "root").fill()
    assert (tmp_path / "pages/index.md").read_text() == (
        "[a](x.md#b) `[a](docs/x.md)` [c](https://example.com) [d](#e)\n"
    )
    assert (tmp_path / "pages/x.md").read_text() == (
        "[r](index.md) [p](source/p.py.md) [s](s.svg)\n```\n[a](../README.md)\n```\n"
    )
    assert (tmp_path / "pages/source/p.py.md").read_text() == (
        "# `p.py`\n\n````python\nprint('```')\n````\n"
    )


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="nowhere.html">', "nowhere.html: no such file"),
        ('<a href="b.html#nothing">', "b.html#nothing: no such anchor"),
        ('<a href="../../up.html">', "outside of the site"),
        ('<img src="nowhere.png">', "nowhere.png: no such file"),
        ('<script src="https://example.com/x.js">', "loaded from elsewhere"),
        ('<link rel="stylesheet" href="//example.com/x.css">', "loaded from elsewhere"),
        ('<link rel="preconnect" href="https://example.com">', "loaded from elsewhere"),
        ("<style></style>", "x.css: https://example.com/f.woff2: loaded from elsewhere"),
    ],
)
def test_what_is_wrong_with_a_built_page_would_be_found(
    tmp_path: Path, html: str, said: str
) -> None:
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "a.html").write_text(html)
    if html == "<style></style>":
        (tmp_path / "x.css").write_text("@font-face{src:url(https://example.com/f.woff2)}")
    (found,) = problems(tmp_path)
    assert found.endswith(said)


def test_a_built_page_that_is_well_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/index.html").write_text('<a name="there"></a><a href="../a.html#top">')
    (tmp_path / "a.html").write_text(
        '<p id="top"><a href="sub/#there"><a href="https://example.com"><a href="#top">'
        '<img src="data:image/png;base64,"><link rel="canonical" href="https://example.com">'
    )
    assert problems(tmp_path) == []
    assert read('<p id="x">').ids == {"x"}
