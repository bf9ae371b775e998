"""Every link of every page leads somewhere, as far as that can be known without a network."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.site.pages import ROOT, Link, anchors, links, pages, slug

LINE_OF_A_SOURCE = re.compile(r"L\d+(-L\d+)?")


def dead(page: str, text: str, root: Path = ROOT) -> list[str]:
    """Links of a page that lead nowhere, each with the reason."""
    found = []
    for link in links(text):
        reason = _reason(root / page, text, link, root)
        if reason:
            found.append(f"{page}:{link.line}: {link.target}: {reason}")
    return found


def _reason(page: Path, text: str, link: Link, root: Path) -> str:
    parts = urlsplit(link.target)
    if parts.scheme or parts.netloc:
        return "" if parts.scheme in {"http", "https", "mailto"} else "no address"
    if parts.path.startswith("/"):
        return "not relative"
    there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not there.is_relative_to(root.resolve()):
        return "outside of the project"
    if parts.path and not there.exists():
        return "no such file"
    if not parts.fragment or LINE_OF_A_SOURCE.fullmatch(parts.fragment):
        return ""
    if there.suffix != ".md":
        return "an anchor of what is no page"
    found = anchors(text if there == page else there.read_text(encoding="utf-8"))
    return "" if parts.fragment in found else "no such heading"


@pytest.mark.parametrize("page", pages())
def test_links_and_anchors_of_a_page_are_there(page: str) -> None:
    assert dead(page, (ROOT / page).read_text(encoding="utf-8")) == []


def test_pages_and_links_are_found() -> None:
    """Or the test above would pass over nothing."""
    assert {"README.md", "docs/coordination.md", "deploy/kafka-local/README.md"} <= set(pages())
    assert len(links((ROOT / "README.md").read_text())) > 30


def test_a_heading_that_is_linked_to_is_there_once() -> None:
    """The second of one name has another anchor in each renderer."""
    for page in pages():
        for link in links((ROOT / page).read_text(encoding="utf-8")):
            path, _, fragment = link.target.partition("#")
            there = (ROOT / page).parent / path if path else ROOT / page
            if fragment and "://" not in link.target and there.suffix == ".md":
                assert anchors(there.read_text(encoding="utf-8")).count(fragment) == 1, link


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[a](nowhere.md)", "no such file"),
        ("![a](nowhere.png)", "no such file"),
        ("[a](README.md#no-such-heading)", "no such heading"),
        ("[a](#no-such-heading)", "no such heading"),
        ("[a](pyproject.toml#project)", "an anchor of what is no page"),
        ("[a](/docs/architecture.md)", "not relative"),
        ("[a](../elsewhere.md)", "outside of the project"),
        ("[a](ftp://example.com)", "no address"),
        ("[a]\n\n[a]: nowhere.md", "no such file"),
        ("[![a](nowhere.png)](README.md)", "no such file"),
        ("| a | [`b`](nowhere.md) |", "no such file"),
    ],
)
def test_a_dead_link_would_be_found(text: str, reason: str) -> None:
    (found,) = dead("NEW.md", text)
    assert found.endswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        "[a](README.md#how-it-works) [b](https://example.com/x_(y)) [c](#d)\n\n## `d`\n",
        "`[a](nowhere.md)` and ``[a](`nowhere.md)``",
        "```\n[a](nowhere.md)\n```\n~~~~ text\n```\n[a](nowhere.md)\n~~~~\n",
        "<!-- [a](nowhere.md) -->\n<!--\n[a](nowhere.md)\n-->\n",
        "[a](pyproject.toml) [b](docs/images) [c](docs/site/pages.py#L1)",
        '<a id="here"></a>\n\n[a](#here)',
    ],
)
def test_what_is_no_dead_link_is_left_alone(text: str) -> None:
    assert dead("NEW.md", text) == []


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("What stands still, and what only waits", "what-stands-still-and-what-only-waits"),
        ("kill -9", "kill--9"),
        ("Feeds: `/api/v1/streams`", "feeds-apiv1streams"),
        ("`NT_NODE_ID` and **others**", "nt_node_id-and-others"),
        ("A [link](x.md) in it", "a-link-in-it"),
    ],
)
def test_anchors_are_what_renderers_make_of_headings(heading: str, anchor: str) -> None:
    """GitHub's rule; the built site is held against it by `python -m docs.site`."""
    assert slug(heading) == anchor
