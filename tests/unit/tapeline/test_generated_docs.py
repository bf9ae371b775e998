"""What is generated from the code is committed as it is generated."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import jsonschema
import pytest

from tapeline import config_docs, schemas
from tapeline.config import Settings, variable_name

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_of_settings_is_the_one_that_the_settings_give() -> None:
    """`python -m tapeline.config_docs docs/configuration.md` makes it anew."""
    assert (DOCS / "configuration.md").read_text() == config_docs.render()


def test_the_page_has_one_row_a_setting_and_each_row_four_cells() -> None:
    """Whatever bars the texts hold."""
    rows = [line for line in config_docs.render().splitlines() if line.startswith("| `")]
    names = [variable_name(field) for field in Settings.model_fields]
    assert sorted(row.split("`")[1] for row in rows) == sorted(names)
    assert {row.replace("\\|", "").count("|") for row in rows} == {5}


@pytest.mark.parametrize("module", ["tapeline.config_docs", "tapeline.schemas"])
def test_a_generator_run_as_a_module_writes_where_it_is_told(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files as are committed."""
    target = tmp_path / "configuration.md" if module.endswith("docs") else tmp_path
    monkeypatch.setattr(sys, "argv", [module, str(target)])
    monkeypatch.delitem(sys.modules, module)
    runpy.run_module(module, run_name="__main__")
    folder = DOCS if module.endswith("docs") else DOCS / "schemas"
    for written in tmp_path.iterdir():
        assert written.read_text() == (folder / written.name).read_text()
    assert list(tmp_path.iterdir())


def test_schemas_are_written_whole_and_are_schemas(tmp_path: Path) -> None:
    """One file a contract, each a valid JSON Schema of its own dialect."""
    schemas.write(tmp_path)
    written = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert set(written) == set(schemas.schemas()) == {"md.events.v1.json", "report-1.1.json"}
    for schema in written.values():
        jsonschema.validators.validator_for(schema).check_schema(schema)
