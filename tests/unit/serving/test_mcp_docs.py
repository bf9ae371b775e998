"""The page on MCP names what there is, and its snippets are right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.mcp import prompts
from serving.mcp.http import PATH
from serving.mcp.refusals import CODES
from serving.mcp.resources import FIXED, TEMPLATES
from serving.mcp.service import WAITS_MAX
from serving.mcp.tools import OFFERS
from tapeline.cli import app

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "mcp.md").read_text()


def test_every_tool_stands_in_the_table_with_its_arguments_and_scope() -> None:
    rows = {row.split("`")[1]: row for row in PAGE.splitlines() if row.startswith("| `get_")}
    rows |= {row.split("`")[1]: row for row in PAGE.splitlines() if re.match(r"\| `[a-z]+_", row)}
    for name, offer in OFFERS.items():
        assert f"`{offer.scope}`" in rows[name]
        for argument in offer.arguments().get("properties", {}):
            assert f"`{argument}`" in rows[name] or f"`{argument}?`" in rows[name]


def test_every_code_resource_and_prompt_is_told_of() -> None:
    for code in CODES:
        assert f"| `{code}` |" in PAGE
    uris = [str(one.uri) for one in FIXED] + [one.uri_template for one in TEMPLATES]
    for uri in uris:
        assert f"| `{uri}` |" in PAGE
    for prompt in prompts.listed():
        taken = ", ".join(one.name for one in prompt.arguments or ())
        assert f"`{prompt.name}({taken})`" in PAGE
    assert f"{WAITS_MAX} waits" in PAGE


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", PAGE)
    assert len(links) > 4
    assert [link for link in links if not (DOCS / link).exists()] == []


def test_snippets_are_json_and_name_what_runs() -> None:
    blocks = [json.loads(text) for text in re.findall(r"```json\n(\{\n.*?)```", PAGE, re.S)]
    stdio, http = (block["mcpServers"]["tapeline"] for block in blocks)
    assert http["url"].endswith(PATH)
    assert http["headers"]["Authorization"].startswith("Bearer tl_")
    assert "key" not in http["url"]
    assert stdio["command"] == "tapeline"
    shown = CliRunner().invoke(app, [*stdio["args"], "--help"])
    assert shown.exit_code == 0
    assert "MCP" in shown.output


@pytest.mark.parametrize("name", ["claude mcp add --transport http", "-- tapeline mcp"])
def test_hosts_are_told_how_to_connect(name: str) -> None:
    assert name in PAGE
