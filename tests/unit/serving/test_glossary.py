"""What readers say about a report's fields."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from serving import glossary, glossary_made
from tests.support.reports import WHOLE


def test_the_committed_texts_are_what_types_and_documentation_give() -> None:
    """`python -m serving.glossary_made serving/texts` makes them anew."""
    committed = {path.name: path.read_text() for path in glossary.TEXTS.iterdir()}
    assert committed == glossary_made.texts()


def test_run_as_a_module_it_writes_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["glossary_made", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "serving.glossary_made")
    runpy.run_module("serving.glossary_made", run_name="__main__")
    assert {path.name for path in tmp_path.iterdir()} == set(glossary_made.texts())


def test_every_field_of_a_whole_report_is_explained() -> None:
    """By its own term or that of what it is part of."""
    paths = list(_paths(json.loads(WHOLE), ""))
    assert len(paths) > 80
    assert [path for path in paths if glossary.explain(path) is None] == []


def test_a_field_is_explained_by_the_nearest_term() -> None:
    term = glossary.explain("depth.imbalance")
    assert term is not None
    assert (term.type, term.cycle, term.field) == ("number", "fast", "depth.imbalance")
    assert "-1 all asks, 1 all bids" in term.meaning
    assert term.null_when == "book muted or none"
    assert "likewise" not in {term.null_when for term in glossary.glossary().values()}
    price = glossary.explain("best_bid.price")
    assert price is not None
    assert price.field == "best_bid"
    venue = glossary.explain("venues.by_venue.kraken.state")
    assert venue is not None
    assert venue.field == "venues.by_venue.*.state"


@pytest.mark.parametrize("path", ["", "nope", "by_venue", "*"])
def test_what_is_no_field_has_no_term(path: str) -> None:
    assert glossary.explain(path) is None


def test_words_for_no_field_and_a_field_without_words_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (glossary_made.DOCS / "reports.md").read_text()
    monkeypatch.setattr(glossary_made, "DOCS", tmp_path)
    (tmp_path / "reports.md").write_text(page.replace("`micro_price`", "`macro_price`"))
    with pytest.raises(ValueError, match=r"no field.*macro_price"):
        glossary_made.terms()
    (tmp_path / "reports.md").write_text(page.replace("| `micro_price` |", "| micro price |"))
    with pytest.raises(ValueError, match=r"does not tell of .'micro_price'"):
        glossary_made.terms()


def test_runbooks_are_found_by_the_anchor_that_alerts_link_to() -> None:
    books = glossary.runbooks()
    assert "symbol-without-a-writer" in books
    assert all(text.startswith("## ") and len(text) > 100 for text in books.values())


def test_no_worker_code_comes_with_the_glossary() -> None:
    """It is read at the start of every reader."""
    source = Path(glossary.__file__).read_text()
    assert "tables" not in source.split('"""', 2)[2]


def _paths(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, f"{path}.{key}" if path else key)
    else:
        yield path
